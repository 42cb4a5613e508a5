"""What a line of the ledger tells, as JSON and back."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from models.records import Device, Ending, InstanceRecord, Json
from models.states import DeviceKind, InstanceState, JobClass, JobState


@dataclass(frozen=True)
class Begun:
    """The first line of each file: whose it is, and the last claim before it."""

    host: str
    sequence: int


@dataclass(frozen=True)
class Claimed:
    """A job was claimed."""

    sequence: int  #: the host's, as the claim raised it
    job: str
    run: int
    operation: str
    instance: UUID
    epoch: int


@dataclass(frozen=True)
class Told:
    """A run ended, or left for another host."""

    ending: Ending


@dataclass(frozen=True)
class Recovered:
    """The journal was told again all that stands before this line; the host sequence is this since."""

    sequence: int


Entry = Begun | Claimed | Told | Recovered


def line_of(entry: Entry) -> bytes:
    """The line, with its end."""
    return json.dumps(_document(entry), separators=(",", ":")).encode() + b"\n"


def _document(entry: Entry) -> dict[str, Any]:
    match entry:
        case Begun(host, sequence):
            return {"ledger": 1, "host": host, "sequence": sequence}
        case Claimed():
            return {"claimed": vars(entry) | {"instance": str(entry.instance)}}
        case Told(ending):
            return {"told": _ending_document(ending)}
        case Recovered(sequence):
            return {"recovered": sequence}


def entry_of(line: bytes) -> Entry | None:
    """What the line tells; None of one that was torn as it was written, or is no line of a ledger."""
    try:
        document = json.loads(line)
        if "told" in document:
            return Told(_ending(document["told"]))
        if "claimed" in document:
            said = document["claimed"]
            return Claimed(**said | {"instance": UUID(said["instance"])})
        if "recovered" in document:
            return Recovered(int(document["recovered"]))
        return Begun(str(document["host"]), int(document["sequence"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _ending_document(ending: Ending) -> dict[str, Any]:
    return vars(ending) | {
        "instance_id": str(ending.instance_id),
        "submitted_at": _moment(ending.submitted_at),
        "started_at": _moment(ending.started_at),
        "ended_at": _moment(ending.ended_at),
        "instance": None if ending.instance is None else _instance_document(ending.instance),
    }


def _ending(said: Json) -> Ending:
    def moment(name: str) -> datetime | None:
        return None if said[name] is None else datetime.fromisoformat(said[name])

    return Ending(
        **{
            **said,
            "state": JobState(said["state"]),
            "job_class": JobClass(said["job_class"]),
            "instance_id": UUID(said["instance_id"]),
            "submitted_at": datetime.fromisoformat(said["submitted_at"]),
            "started_at": moment("started_at"),
            "ended_at": moment("ended_at"),
            "instance": None if said["instance"] is None else _instance(said["instance"]),
        }
    )


def _instance_document(instance: InstanceRecord) -> dict[str, Any]:
    return vars(instance) | {
        "id": str(instance.id),
        "devices": [vars(device) | {"details": dict(device.details)} for device in instance.devices],
    }


def _instance(said: Json) -> InstanceRecord:
    return InstanceRecord(
        **{
            **said,
            "id": UUID(said["id"]),
            "state": InstanceState(said["state"]),
            "wanted": None if said["wanted"] is None else InstanceState(said["wanted"]),
            "devices": tuple(Device(**each | {"kind": DeviceKind(each["kind"])}) for each in said["devices"]),
        }
    )
