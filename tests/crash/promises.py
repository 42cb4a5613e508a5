"""The ten promises of the journal, checked of one host once all faults are over, without Hostler's code."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any
from uuid import UUID

from tests.crash.picture import Domain, Picture
from tests.crash.verdict import FINAL, Ledger, job_faults

#: What the inventory calls an instance of which the host has nothing.
NOWHERE = frozenset({"absent", "deleted"})
_BEGUN = frozenset({"claimed", "resumed"})


class Kind(StrEnum):
    """What sort of promise was broken."""

    LOST = "lost"  #: an accepted job did not end
    DOUBLED = "doubled"  #: an effect was made twice, or a guest runs twice
    LEFT_OVER = "left_over"  #: something is there that nobody accounts for
    OTHER = "other"


@dataclass(frozen=True)
class Violation:
    """A broken promise, in a sentence."""

    kind: Kind
    what: str


@dataclass(frozen=True)
class Standing:
    """An instance as the inventory has it."""

    state: str
    devices: frozenset[str]  #: their aliases


def standing(ledger: Ledger, instance: UUID) -> Standing:
    """Asked in SQL."""
    _, state = ledger.home_of(instance)
    rows = ledger.rows("SELECT kind, key FROM devices WHERE instance = :of", of=instance.hex)
    names = {"interface": "ua-nic-{}", "volume": "ua-{}", "disk": "ua-{}"}
    return Standing(state, frozenset(names[row["kind"]].format(row["key"]) for row in rows))


def of_job(ledger: Ledger, job_id: str) -> Iterator[Violation]:
    """Promises 2, 3, 4, 5 and 10: how the journal tells of a job that ought to be over."""
    row = ledger.job(job_id)
    if row["state"] not in FINAL:
        yield Violation(Kind.LOST, f"job {job_id} is {row['state']}: {row['error']}")
        return
    for fault in job_faults(ledger, job_id):
        yield Violation(Kind.OTHER, f"job {job_id}: {fault}")
    events = ledger.rows("SELECT type, data, run FROM job_events WHERE job = :job ORDER BY number", job=job_id)
    for name, rebuilt in _rebuilt(events).items():
        if row[name] != rebuilt:
            yield Violation(Kind.OTHER, f"job {job_id}: its events say {name}={rebuilt!r}, its row {row[name]!r}")
    rung = ledger.rows("SELECT kind FROM outbox WHERE job = :job AND published_at IS NULL", job=job_id)
    if rung:
        yield Violation(Kind.OTHER, f"job {job_id}: never told to the broker: {[each['kind'] for each in rung]}")


def _rebuilt(events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The job's row, as far as its events tell it."""
    row: dict[str, Any] = {"state": "queued", "epoch": 0, "past_return": False, "waits": 0, "outcome": None}
    for event in events:
        data = event["data"]
        match event["type"]:
            case "submitted":
                row["host"] = data["host"]
            case "claimed":
                row |= {"state": "running", "epoch": data["epoch"], "host": data["host"]}
            case "waiting":
                row |= {"state": "waiting", "waits": data["waits"]}
            case "hopped":
                row |= {"state": "waiting", "host": data["to"], "waits": 0}
            case "redirected":
                row["host"] = data["to"]
            case "past_return":
                row["past_return"] = True
            case "quarantined":
                row["state"] = "quarantined"
            case "succeeded" | "failed" | "cancelled" as final:
                row |= {"state": final, "outcome": data["outcome"]}
    return row


def of_host(ledger: Ledger, host: str) -> Iterator[Violation]:
    """Promise 3: the host's sequence grew by one with each claim, and the epochs of each instance too."""
    claims = ledger.rows(
        "SELECT job_events.number, job_events.data, jobs.instance FROM job_events JOIN jobs ON jobs.id = job_events.job"
        " WHERE type = 'claimed' ORDER BY job_events.number"
    )
    numbers = [claim["data"]["host_sequence"] for claim in claims if claim["data"]["host"] == host]
    if sorted(numbers) != list(range(1, len(numbers) + 1)):
        gaps = [(a, b) for a, b in pairwise(sorted(numbers)) if b != a + 1]
        yield Violation(Kind.OTHER, f"the sequence of {host} has gaps or doubles: {gaps[:5]}")
    epochs: dict[Any, list[int]] = {}
    for claim in claims:
        epochs.setdefault(claim["instance"], []).append(claim["data"]["epoch"])
    for instance, seen in epochs.items():
        if seen != sorted(set(seen)):
            yield Violation(Kind.OTHER, f"the epochs of {instance} do not grow: {seen}")


def of_line(ledger: Ledger, instance: UUID) -> Iterator[Violation]:
    """Promise 6: one job at a time, in order of submission."""
    events = ledger.rows(
        "SELECT job_events.job, job_events.type, job_events.data FROM job_events JOIN jobs ON jobs.id = job_events.job"
        " WHERE jobs.instance = :of ORDER BY job_events.number",
        of=instance.hex,
    )
    holder: str | None = None
    for event in events:
        if event["type"] in _BEGUN:
            passed_over = event["data"].get("superseded", ())
            if holder not in {None, event["job"], *passed_over}:
                yield Violation(Kind.DOUBLED, f"job {event['job']} was begun while {holder} held {instance}")
            holder = event["job"]
        elif event["type"] in FINAL and holder == event["job"]:
            holder = None


def of_instance(ledger: Ledger, seen: Picture, instance: UUID, *, released: bool = False) -> Iterator[Violation]:
    """Promises 1, 7 and 9: the instance is where and what the inventory says; with ``released`` it is nobody's."""
    has = standing(ledger, instance)
    domain = seen.domains.get(instance)
    qemus = seen.qemus.get(instance, [])
    files = seen.files.get(str(instance), [])
    if len(qemus) > 1:
        yield Violation(Kind.DOUBLED, f"{len(qemus)} QEMUs run for {instance}")
    if halves := [name for name in files if name.endswith(".part")]:
        yield Violation(Kind.LEFT_OVER, f"{instance} has unpublished files: {halves}")
    if (domain is not None and domain.active) != bool(qemus):
        shown = None if domain is None else domain.state
        yield Violation(Kind.OTHER, f"libvirt shows {instance} {shown}, and its QEMUs are {qemus}")
    if has.state in NOWHERE:
        yield from _nowhere(has, instance, domain, files, released=released)
        return
    if domain is None or domain.state != has.state or not domain.persistent or domain.owner != str(instance):
        yield Violation(Kind.OTHER, f"the inventory has {instance} {has.state}, and libvirt {domain}")
    else:
        for side in (domain.aliases, domain.live_aliases):
            if side is not None and side != has.devices:
                yield Violation(Kind.OTHER, f"{instance} has {sorted(side)}, the inventory {sorted(has.devices)}")
    for drift in ledger.rows(
        "SELECT kind, subject FROM drift WHERE gone_at IS NULL AND subject LIKE :of", of=f"{instance}%"
    ):
        yield Violation(Kind.OTHER, f"drift is told of {instance}: {drift['kind']} {drift['subject']}")


def _nowhere(
    has: Standing, instance: UUID, domain: Domain | None, files: Sequence[str], *, released: bool
) -> Iterator[Violation]:
    if has.devices:
        yield Violation(Kind.LEFT_OVER, f"the inventory has devices of {instance}: {sorted(has.devices)}")
    if released:
        if domain is None or domain.owner is not None:
            yield Violation(Kind.OTHER, f"{instance} was released, and libvirt shows {domain}")
        return
    if domain is not None:
        yield Violation(Kind.LEFT_OVER, f"{instance} is {has.state}, and libvirt shows {domain}")
    if files:
        yield Violation(Kind.LEFT_OVER, f"{instance} is {has.state}, and has files: {files}")


def of_network(seen: Picture) -> Iterator[Violation]:
    """Promise 7: every tap is that of a running guest."""
    wanted = {tap for domain in seen.domains.values() for tap in domain.taps}
    if seen.taps != wanted:
        yield Violation(Kind.LEFT_OVER, f"taps that no guest has, or lacks: {sorted(seen.taps ^ wanted)}")
