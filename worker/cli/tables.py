"""What people see: tables by rich."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from models.observing import DriftRecord, InstanceEvent
from models.reading import HostRecord, JobDetails
from models.records import InstanceRecord, JobRecord
from models.states import Direction, DriftKind, JobState
from worker.cli.sentences import disabled_sentence, job_sentence, silence_sentence

if TYPE_CHECKING:
    from worker.host.images.cache import Entry

_STATE_STYLES = {
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.QUARANTINED: "bold red",
    JobState.RUNNING: "yellow",
    JobState.WAITING: "magenta",
}


#: What is shown of a pruned job in place of its steps and history.
TOMBSTONE = "its request, steps and history are gone; what it came to stays, and its id never runs again"
#: Columns that are copied from a terminal: never folded.
_WHOLE = frozenset({"JOB", "INSTANCE", "HOST", "STATE", "STARTED", "TOOK", "AT"})


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in _WHOLE)
    return table


def _moment(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}Z"


def _clock(at: datetime | None) -> str:
    return "" if at is None else f"{at:%H:%M:%S.%f}"[:-3]


def took(start: datetime | None, end: datetime | None) -> str:
    """How long it took, for people."""
    return "" if start is None or end is None else f"{(end - start).total_seconds():.2f} s"


def _worth_showing(key: str, value: object) -> bool:
    """What the lines above the history do not say already."""
    return value not in (None, [], "", False) and key not in {"request", "outcome", "operation", "instance"}


def _state(state: JobState) -> Text:
    return Text(state.value, style=_STATE_STYLES.get(state, ""))


def jobs(found: Iterable[JobRecord]) -> RenderableType:
    """Jobs, a line each."""
    table = _table("JOB", "OPERATION", "INSTANCE", "HOST", "STATE", "SUBMITTED", "ERROR")
    for job in found:
        error = "" if job.error is None else job.error.message
        table.add_row(
            job.id, job.operation, str(job.instance), job.host, _state(job.state), _moment(job.submitted_at), error
        )
    return table


def job(
    details: JobDetails,
    host: HostRecord | None = None,
    in_the_way: JobRecord | None = None,
    not_yet: str | None = None,
) -> RenderableType:
    """A job with its steps and its history; of an open one also whether its worker answers, and what it waits for."""
    head = Table.grid(padding=(0, 2))
    for name, value in _facts(details.job, host, in_the_way, not_yet):
        head.add_row(Text(name, style="bold"), value)
    if details.job.pruned_at is not None:
        return head
    steps = _table("STEP", "STATE", "HOST", "ATTEMPTS", "STARTED", "TOOK", "ERROR")
    for step in details.steps:
        undo = "undo " if step.direction is Direction.UNDO else ""
        error = "" if step.error is None else f"{step.error.error_class}: {step.error.message}"
        steps.add_row(
            f"{undo}{step.name}",
            step.state.value,
            step.host or "",
            str(step.attempts),
            _clock(step.started_at),
            took(step.started_at, step.ended_at),
            error,
        )
    events = _table("AT", "EVENT", "BY", "WHAT")
    for event in details.events:
        what = ", ".join(f"{key} {value}" for key, value in event.data.items() if _worth_showing(key, value))
        events.add_row(_clock(event.at), event.type, event.actor, Text(what))
    return Group(head, "", steps, "", events)


def _facts(
    record: JobRecord, host: HostRecord | None, in_the_way: JobRecord | None, not_yet: str | None
) -> Iterator[tuple[str, str | Text]]:
    yield "job", record.id
    yield "operation", record.operation
    yield "instance", str(record.instance)
    yield "host", record.host
    yield "state", _state(record.state)
    yield "run, epoch", f"{record.run}, {record.epoch}"
    yield "submitted", _moment(record.submitted_at)
    yield "started", _moment(record.started_at)
    yield "ended", _moment(record.ended_at)
    if record.peer is not None:
        yield "with host", record.peer if record.host == record.home else record.home or ""
    doing = job_sentence(record)
    if doing:
        yield "now", doing
    if in_the_way is not None:
        only_forward = ", past its point of no return" if in_the_way.past_return else ""
        state = f"{in_the_way.operation}, {in_the_way.state} on {in_the_way.host}{only_forward}"
        yield "waits for", f"job {in_the_way.id} of the same instance ({state})"
    silence = "" if host is None else silence_sentence(host)
    yield from (("but", Text(why, style="red")) for why in (not_yet, silence) if why)
    if record.cancel_requested:
        yield "cancel", "asked for"
    if record.error is not None:
        libvirt = f" ({record.error.domain} {record.error.code})" if record.error.code else ""
        yield "error", Text(f"{record.error.error_class}: {record.error.told}{libvirt}", style="red")
    if record.pruned_at is not None:
        yield "pruned", f"{_moment(record.pruned_at)}: {TOMBSTONE}"


def instances(found: Iterable[InstanceRecord]) -> RenderableType:
    """Instances, a line each."""
    table = _table("INSTANCE", "NAME", "HOST", "STATE", "DEVICES")
    for record in found:
        devices = ", ".join(f"{device.kind} {device.key}" for device in record.devices)
        table.add_row(str(record.id), Text(record.name or ""), record.host or "", record.state.value, devices)
    return table


#: What an operator may do about each kind of drift.
_REMEDIES = {
    DriftKind.MISSING: "its domain is gone: destroy the instance, or spawn it anew",
    DriftKind.UNKNOWN: "no instance of this host: remove the domain, if it is nobody's",
    DriftKind.DEVICE_MISSING: "detach the device, then attach it again",
    DriftKind.DEVICE_UNKNOWN: "attach it by a job, or take it out of the domain",
}


def drift(found: Iterable[DriftRecord]) -> RenderableType:
    """What hosts and journal tell differently, a line each, with what may be done about it."""
    table = _table("HOST", "FOUND", "KIND", "SUBJECT", "WHAT", "TO DO")
    for record in found:
        what = ", ".join(f"{key} {value}" for key, value in record.data.items() if value is not None)
        table.add_row(
            record.host,
            _moment(record.found_at),
            record.kind.value,
            record.subject,
            Text(what),
            _REMEDIES[record.kind],
        )
    return table


def instance(record: InstanceRecord, happened: Iterable[InstanceEvent] = ()) -> RenderableType:
    """An instance with its devices, and what happened to it by itself."""
    head = Table.grid(padding=(0, 2))
    for name, value in (
        ("instance", str(record.id)),
        ("name", record.name or ""),
        ("host", record.host or ""),
        ("state", record.state.value),
        ("wanted", "" if record.wanted is None else record.wanted.value),
        ("epoch", str(record.epoch)),
    ):
        head.add_row(Text(name, style="bold"), Text(value))
    devices = _table("KIND", "DEVICE", "DETAILS")
    for device in record.devices:
        details = ", ".join(f"{key} {value}" for key, value in device.details.items())
        devices.add_row(device.kind.value, device.key, Text(details))
    events = _table("AT", "BY ITSELF", "WHAT")
    for event in happened:
        what = ", ".join(f"{key} {value}" for key, value in event.data.items() if value)
        events.add_row(_moment(event.at), event.type.value, Text(what))
    return Group(head, "", devices, *(("", events) if events.row_count else ()))


def images(found: "Iterable[Entry]") -> RenderableType:
    """Images in a host's cache, a line each."""
    table = _table("IMAGE", "MIB", "FETCHED", "NEEDED BY")
    for entry in found:
        fetched = _moment(datetime.fromtimestamp(entry.fetched_at, UTC))
        table.add_row(entry.key, f"{entry.size_bytes / 1024**2:.0f}", fetched, ", ".join(entry.held_by) or "nobody")
    return table


def hosts(found: Iterable[HostRecord]) -> RenderableType:
    """Hosts, a line each."""
    table = _table("HOST", "STATE", "WORKER", "LAST HEARD", "LIBVIRT", "WHY DISABLED")
    for record in found:
        if record.worker is None:
            worker, heard = "none", ""
        else:
            stopped = record.stopped_at is not None
            worker = "stopped" if stopped else f"pid {record.worker_pid}, {record.worker_version}"
            heard = "" if record.heartbeat_age_s is None else f"{record.heartbeat_age_s:.0f} s ago"
        table.add_row(
            record.name, record.state.value, worker, heard, record.libvirt_uri, Text(disabled_sentence(record))
        )
    return table


def host(record: HostRecord) -> RenderableType:
    """A host with all that it registered."""
    has, can = record.inventory or {}, record.capabilities or {}
    pages = ", ".join(f"{count} of {size} KiB" for size, count in has.get("huge_pages", {}).items() if count)
    grid = Table.grid(padding=(0, 2))
    for name, value in (
        ("host", record.name),
        ("state", record.state.value),
        ("disabled", disabled_sentence(record)),
        ("rebind", f"by {record.rebind_by}: {record.rebind_because}" if record.rebind_by else ""),
        ("machine", f"{record.machine_id}, libvirt host {record.libvirt_host_uuid}"),
        ("libvirt", record.libvirt_uri),
        ("for other hosts", record.peer_libvirt_uri or ""),
        ("migrations to", record.migration_address or ""),
        ("worker", silence_sentence(record) or f"pid {record.worker_pid}, {record.worker_version}"),
        ("capabilities", ", ".join(f"{key} {_plain(value)}" for key, value in can.items() if key not in _TOO_LONG)),
        ("vCPUs", str(has.get("vcpus", ""))),
        ("memory", f"{has['memory_mib']} MiB" if "memory_mib" in has else ""),
        ("disk", f"{has['disk_gib']} GiB, {has['disk_free_gib']} free at the start" if "disk_gib" in has else ""),
        ("NUMA cells", str(len(has.get("numa_cells", ()))) if has else ""),
        ("huge pages", pages),
        ("PCI devices", str(len(has.get("pci_devices", ()))) if has else ""),
    ):
        if value:
            grid.add_row(Text(name, style="bold"), Text(value))
    return grid


_TOO_LONG = frozenset({"machines", "qemu_user"})


def _plain(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)
