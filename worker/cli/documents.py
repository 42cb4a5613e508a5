"""What ``--json`` prints: the shapes that programs build on."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from models.observing import DriftRecord, InstanceEvent
from models.reading import HostRecord, JobDetails
from models.records import InstanceRecord, JobRecord, StepRecord
from models.states import DeviceKind

if TYPE_CHECKING:
    from worker.host.images.cache import Entry


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def job_document(job: JobRecord) -> dict[str, Any]:
    """A job, without its steps and events."""
    return {
        "id": job.id,
        "operation": job.operation,
        "instance": str(job.instance),
        "host": job.host,
        "state": job.state.value,
        "run": job.run,
        "epoch": job.epoch,
        "request": dict(job.request) if job.pruned_at is None else None,
        "error": None if job.error is None else job.error.as_json(),
        "outcome": job.outcome,
        "sent_to": job.sent_to,
        "home": job.home,
        "peer": job.peer,
        "on_its_way": job.hopping,
        "progress": job.progress,
        "past_return": job.past_return,
        "undoing_as": None if job.verdict is None else job.verdict.value,
        "cancel_requested": job.cancel_requested,
        "not_before": _moment(job.not_before),
        "submitted_at": _moment(job.submitted_at),
        "started_at": _moment(job.started_at),
        "ended_at": _moment(job.ended_at),
        "pruned_at": _moment(job.pruned_at),
    }


def _step_document(step: StepRecord) -> dict[str, Any]:
    return {
        "name": step.name,
        "direction": step.direction.value,
        "host": step.host,
        "state": step.state.value,
        "attempts": step.attempts,
        "intent": step.intent,
        "started_at": _moment(step.started_at),
        "ended_at": _moment(step.ended_at),
        "error": None if step.error is None else step.error.as_json(),
    }


def job_details_document(details: JobDetails) -> dict[str, Any]:
    """A job with its steps and events."""
    return {
        **job_document(details.job),
        "steps": [_step_document(step) for step in details.steps],
        "events": [
            {"at": _moment(event.at), "type": event.type, "actor": event.actor, "run": event.run, "data": event.data}
            for event in details.events
        ],
    }


def instance_document(instance: InstanceRecord) -> dict[str, Any]:
    """An instance with its devices."""

    def devices(kind: DeviceKind) -> list[dict[str, Any]]:
        return [{"id": device.key, **device.details} for device in instance.devices if device.kind is kind]

    return {
        "id": str(instance.id),
        "name": instance.name,
        "host": instance.host,
        "state": instance.state.value,
        "wanted": None if instance.wanted is None else instance.wanted.value,
        "epoch": instance.epoch,
        "spec": instance.spec,
        "disks": devices(DeviceKind.DISK),
        "interfaces": devices(DeviceKind.INTERFACE),
        "volumes": devices(DeviceKind.VOLUME),
    }


def event_of_instance_document(event: InstanceEvent) -> dict[str, Any]:
    """Something that happened to an instance by itself."""
    return {"at": _moment(event.at), "host": event.host, "type": event.type.value, "data": dict(event.data)}


def drift_document(drift: DriftRecord) -> dict[str, Any]:
    """Something that a host and the journal tell differently."""
    return {
        "host": drift.host,
        "kind": drift.kind.value,
        "subject": drift.subject,
        "found_at": _moment(drift.found_at),
        "data": dict(drift.data),
    }


def host_details_document(host: HostRecord) -> dict[str, Any]:
    """A host with all that it registered."""
    return host_document(host) | {
        "machine_id": host.machine_id,
        "libvirt_host_uuid": str(host.libvirt_host_uuid),
        "registered_at": _moment(host.registered_at),
        "rebind": None if host.rebind_by is None else {"by": host.rebind_by, "because": host.rebind_because},
        "capabilities": host.capabilities,
        "inventory": host.inventory,
    }


def image_document(entry: "Entry") -> dict[str, Any]:
    """An image in a host's cache."""
    return {
        "key": entry.key,
        "path": entry.path,
        "size_bytes": entry.size_bytes,
        "fetched_at": _moment(datetime.fromtimestamp(entry.fetched_at, UTC)),
        "held_by": list(entry.held_by),
    }


def host_document(host: HostRecord) -> dict[str, Any]:
    """A host with its worker."""
    return {
        "name": host.name,
        "state": host.state.value,
        "disabled": None
        if host.disabled_at is None
        else {"by": host.disabled_by, "because": host.disabled_because, "at": _moment(host.disabled_at)},
        "down": None if host.down_since is None else {"because": host.down_because, "since": _moment(host.down_since)},
        "recovering": None
        if host.recovering_because is None
        else {"because": host.recovering_because, "since": _moment(host.recovering_since)},
        "libvirt_uri": host.libvirt_uri,
        "peer_libvirt_uri": host.peer_libvirt_uri,
        "migration_address": host.migration_address,
        "sequence": host.sequence,
        "worker": None if host.worker is None else str(host.worker),
        "worker_pid": host.worker_pid,
        "worker_version": host.worker_version,
        "heartbeat_at": _moment(host.heartbeat_at),
        "heartbeat_age_s": host.heartbeat_age_s,
        "stopped_at": _moment(host.stopped_at),
    }
