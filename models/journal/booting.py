"""Booting: a host has booted, and with that has lost its guests' processes; once per boot, that is answered."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, select, update

from models.engine import Database
from models.journal.accepting import accept_within
from models.states import UNSETTLED, InstanceState, JobState
from models.submission import Submission
from models.tables import hosts, instances, jobs

_OPEN = UNSETTLED | {JobState.QUEUED}
_GONE = (InstanceState.ABSENT, InstanceState.DELETED)


@dataclass(frozen=True)
class Boot:
    """What a boot that the journal did not know was answered with."""

    started: tuple[str, ...]  #: the jobs that were accepted
    left: tuple[tuple[UUID, str], ...]  #: the instances that were left alone, each with the job that decides instead


def answer_boot(
    database: Database,
    host: str,
    boot_id: str,
    start: Callable[[UUID], Submission] | None,
    *,
    ending: Collection[str],
) -> Boot | None:
    """Accept what ``start`` gives for each instance of the host that is to run, and remember the boot, in one commit.

    None when the boot is known, or is the first that is known of this host: then nothing tells that it booted.
    An instance with an open job of one of the operations ``ending``, which end its guest, is left to that job.
    Without ``start`` the boot is remembered and nothing is started, now or later.
    """
    with database.write() as connection:
        known = connection.execute(select(hosts.c.boot_id).where(hosts.c.name == host)).scalar_one()
        if known == boot_id:
            return None
        boot = None if known is None else _start_wanted(connection, host, start, ending)
        # Last, as everywhere: instances, their jobs, hosts.
        connection.execute(update(hosts).where(hosts.c.name == host).values(boot_id=boot_id))
        return boot


def _start_wanted(
    connection: Connection, host: str, start: Callable[[UUID], Submission] | None, ending: Collection[str]
) -> Boot:
    if start is None:
        return Boot((), ())
    started: list[str] = []
    left: list[tuple[UUID, str]] = []
    wanted = (
        select(instances.c.id)
        .where(
            instances.c.host == host,
            instances.c.wanted == InstanceState.RUNNING,
            instances.c.state.not_in(_GONE),
        )
        .order_by(instances.c.id)
        .with_for_update()
    )
    for instance in connection.execute(wanted).scalars().all():
        decides = connection.execute(
            select(jobs.c.id)
            .where(jobs.c.instance == instance, jobs.c.state.in_(_OPEN), jobs.c.operation.in_(ending))
            .order_by(jobs.c.number)
            .limit(1)
        ).scalar_one_or_none()
        if decides is None:
            started.append(accept_within(connection, start(instance), outbox=False).job.id)
        else:
            left.append((instance, decides))
    return Boot(tuple(started), tuple(left))
