"""What libvirt says of a guest's migration, and what it may be asked while it is under way."""

from collections.abc import Callable, Mapping
from operator import methodcaller
from typing import Any, Final
from uuid import UUID

import libvirt

from models.states import ErrorClass
from tasks.host import Half, HostError
from worker.host.connections import ConnectionClass, Connections
from worker.host.errors import Call
from worker.host.migrations.calls import Questions
from worker.host.migrations.pace import NO_JOB, JobFigures
from worker.host.sightings import sighting_of

#: A guest that starts, stops or moves between two questions is looked at again; after so many looks the job waits.
LOOKS: Final = 5

#: QEMU's monitor answers at once, or hangs.
ANSWER_WITHIN_S: Final = 5.0

_OUT: Final = libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT
_MIGRATIONS: Final = frozenset({_OUT, libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN})
#: No such domain, or none that runs: so there is no job either.
_NO_JOB: Final = frozenset({libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID})
#: Measured: so, and only so, a host answers for a guest that is on its way to it.
_INCOMING: Final = frozenset({libvirt.VIR_ERR_OPERATION_UNSUPPORTED})
_POST_COPY: Final = frozenset({libvirt.VIR_DOMAIN_PAUSED_POSTCOPY, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED})


class MigrationJob:
    """The migration of one instance out of this host. What hangs, as everything does with QEMU, is HostError."""

    def __init__(self, connections: Connections, questions: Questions, instance: UUID) -> None:
        self._connections = connections
        self._questions = questions
        self._instance = instance

    def figures(self) -> JobFigures:
        """How far it is; NO_JOB when none is under way."""
        return self._questions.ask(("figures", self._instance), self._figures, ANSWER_WITHIN_S)

    def permit_downtime(self, downtime_ms: int) -> None:
        """For so long the guest may stand still at the end."""
        self._ask(Call.STEER, methodcaller("migrateSetMaxDowntime", downtime_ms))

    def start_post_copy(self) -> None:
        """Let the guest run over there now; its memory follows."""
        self._ask(Call.STEER, methodcaller("migrateStartPostCopy"))

    def suspend(self) -> None:
        """Let the guest stand still, so that nothing more becomes dirty. Libvirt lets it run on where it ends up."""
        self._ask(Call.STEER, methodcaller("suspend"))

    def abort(self) -> None:
        """End it; libvirt lets the guest run on here."""
        self._ask(Call.ABORT, methodcaller("abortJob"))

    def _figures(self) -> JobFigures:
        with self._connections.calling(ConnectionClass.MIGRATE, Call.LOOK) as connection:
            try:
                domain = connection.lookupByUUID(self._instance.bytes)
                state, reason = domain.state()
                stats = domain.jobStats()
            except libvirt.libvirtError as error:
                if error.get_error_code() in _NO_JOB | _INCOMING:
                    return NO_JOB
                raise
        return figures_in(stats, reason if state == libvirt.VIR_DOMAIN_PAUSED else None)

    def _ask(self, call: Call, effect: Callable[[libvirt.virDomain], object]) -> None:
        def asking() -> None:
            with self._connections.calling(ConnectionClass.MIGRATE, call) as connection:
                effect(connection.lookupByUUID(self._instance.bytes))

        self._questions.ask((call, self._instance), asking, ANSWER_WITHIN_S)


def figures_in(stats: Mapping[str, Any], paused_for: int | None) -> JobFigures:
    """The figures of libvirt's statistics, which leave out what they do not know; and why the guest is paused."""
    if stats.get("type", libvirt.VIR_DOMAIN_JOB_NONE) == libvirt.VIR_DOMAIN_JOB_NONE or stats.get("operation") != _OUT:
        return NO_JOB
    return JobFigures(
        under_way=True,
        done_bytes=stats.get(libvirt.VIR_DOMAIN_JOB_DATA_PROCESSED, 0),
        remaining_bytes=stats.get(libvirt.VIR_DOMAIN_JOB_DATA_REMAINING, 0),
        total_bytes=stats.get(libvirt.VIR_DOMAIN_JOB_DATA_TOTAL, 0),
        elapsed_s=stats.get(libvirt.VIR_DOMAIN_JOB_TIME_ELAPSED, 0) / 1000,
        iteration=stats.get(libvirt.VIR_DOMAIN_JOB_MEMORY_ITERATION, 0),
        post_copy=paused_for in _POST_COPY,
        broken=paused_for == libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED,
    )


def half_of(connection: libvirt.virConnect, instance: UUID) -> Half:
    """A host's half, as one moment shows it: the domain was the same before and after it was asked for its job."""
    before = sighting_of(connection, instance)
    for _ in range(LOOKS):
        under_way = before is not None and before.domain.active and _migrates(connection, instance)
        after = sighting_of(connection, instance)
        if after == before:
            return Half(None if before is None else before.domain, under_way)
        before = after
    raise HostError(ErrorClass.TRANSIENT, f"the domain {instance} changes faster than it can be looked at")


def _migrates(connection: libvirt.virConnect, instance: UUID) -> bool:
    try:
        stats = connection.lookupByUUID(instance.bytes).jobStats()
    except libvirt.libvirtError as error:
        if error.get_error_code() in _INCOMING:
            return True
        if error.get_error_code() in _NO_JOB:
            return False
        raise
    return stats.get("type", libvirt.VIR_DOMAIN_JOB_NONE) != libvirt.VIR_DOMAIN_JOB_NONE and (
        stats.get("operation") in _MIGRATIONS
    )
