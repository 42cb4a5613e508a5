"""Stillness: a guest that stands still, or is kept on disk, and goes on."""

from collections.abc import Callable
from typing import Any

from models.records import NOTHING, Change, InstanceIs, Json
from models.states import InstanceState
from tasks.host import Domain, DomainState, Host, HostError
from tasks.operation import Absent, InProgress, NotOurs, Sight, There, Work
from tasks.requests.power import PauseRequest, ResumeRequest, SuspendRequest, UnpauseRequest
from tasks.steps.identity import stranger
from tasks.steps.living import present, reach, refused, seen_running

#: libvirt's word for a guest that stands still because its memory is being written.
_BEING_SAVED = "save"


class DomainPaused:
    """The guest's processors stand still; its memory is kept."""

    name = "DomainPaused"

    def plan(self, work: Work[PauseRequest], host: Host) -> Json:
        """Nothing is made."""
        return NOTHING

    def look(self, work: Work[PauseRequest], host: Host) -> Sight:
        """Whoever paused it."""
        domain = present(work, host)
        if isinstance(domain, NotOurs):
            return domain
        if not domain.active:
            raise refused(work, "does not run")
        if domain.state is DomainState.PAUSED:
            return There()
        return (
            Absent()
            if domain.state is DomainState.RUNNING
            else InProgress(f"instance {work.instance} is {domain.state}")
        )

    def do(self, work: Work[PauseRequest], host: Host) -> None:
        """Pauses it."""
        host.power.pause(work.instance)

    def undo(self, work: Work[PauseRequest], host: Host) -> None:
        """Lets it run on, unless it has gone meanwhile."""
        _undo(lambda: self.undone(work, host), lambda: host.power.unpause(work.instance))

    def undone(self, work: Work[Any], host: Host) -> bool:
        """A guest whose process has ended does not stand still."""
        domain = _running_domain(work, host)
        return domain is None or domain.state is not DomainState.PAUSED

    def changes(self, work: Work[PauseRequest]) -> tuple[Change, ...]:
        """The instance is paused."""
        return (InstanceIs(InstanceState.PAUSED),)


class DomainUnpaused:
    """The guest's processors run."""

    name = "DomainUnpaused"

    def plan(self, work: Work[UnpauseRequest], host: Host) -> Json:
        """Nothing is made."""
        return NOTHING

    def look(self, work: Work[UnpauseRequest], host: Host) -> Sight:
        """One that stands still while its memory is saved or sent runs on by itself."""
        domain = present(work, host)
        if isinstance(domain, NotOurs):
            return domain
        if not domain.active:
            raise refused(work, "does not run: start it")
        if domain.state is DomainState.RUNNING:
            return There()
        return (
            Absent()
            if domain.state is DomainState.PAUSED
            else InProgress(f"instance {work.instance} is {domain.state}")
        )

    def do(self, work: Work[UnpauseRequest], host: Host) -> None:
        """Lets it run on."""
        host.power.unpause(work.instance)

    def undo(self, work: Work[UnpauseRequest], host: Host) -> None:
        """Pauses it, unless it has gone meanwhile."""
        _undo(lambda: self.undone(work, host), lambda: host.power.pause(work.instance))

    def undone(self, work: Work[Any], host: Host) -> bool:
        """A guest whose process has ended does not run on."""
        domain = _running_domain(work, host)
        return domain is None or domain.state is not DomainState.RUNNING

    def changes(self, work: Work[UnpauseRequest]) -> tuple[Change, ...]:
        """The instance runs."""
        return (InstanceIs(InstanceState.RUNNING),)


class DomainSaved:
    """The guest's memory is on disk, and no process runs for it."""

    name = "DomainSaved"

    def plan(self, work: Work[SuspendRequest], host: Host) -> Json:
        """Libvirt names the file by the domain."""
        return NOTHING

    def look(self, work: Work[SuspendRequest], host: Host) -> Sight:
        """A paused guest is not suspended behind the back of whoever paused it."""
        domain = present(work, host)
        if isinstance(domain, NotOurs):
            return domain
        if not domain.active:
            if host.power.is_saved(work.instance):
                return There()
            raise refused(work, "does not run, so there is nothing to keep")
        if domain.state is DomainState.PAUSED and domain.reason == _BEING_SAVED:
            return InProgress(f"the memory of instance {work.instance} is being saved")
        if domain.state is DomainState.PAUSED and not work.intended:
            raise refused(work, "is paused: unpause it, then suspend it")
        return Absent()

    def do(self, work: Work[SuspendRequest], host: Host) -> None:
        """Saves it, and ends it with that."""
        host.power.save(work.instance, deadline_s=work.request.timeout_s)

    def undo(self, work: Work[SuspendRequest], host: Host) -> None:
        """Has it go on from what was saved."""
        _undo(lambda: self.undone(work, host), lambda: host.domains.start(work.instance))

    def undone(self, work: Work[Any], host: Host) -> bool:
        """A guest that ended before it was saved has nothing to go on from."""
        domain = _domain_of_ours(work, host)
        return domain is None or not host.power.is_saved(work.instance)

    def changes(self, work: Work[SuspendRequest]) -> tuple[Change, ...]:
        """The instance is suspended."""
        return (InstanceIs(InstanceState.SUSPENDED),)


class DomainResumed:
    """The guest runs on from where it was suspended."""

    name = "DomainResumed"

    def plan(self, work: Work[ResumeRequest], host: Host) -> Json:
        """Libvirt names the file by the domain."""
        return NOTHING

    def look(self, work: Work[ResumeRequest], host: Host) -> Sight:
        """A guest that is off and has nothing saved would boot, which nobody asked for."""
        domain = present(work, host)
        sight = seen_running(work, domain)
        if isinstance(sight, Absent) and not host.power.is_saved(work.instance):
            raise refused(work, "has no saved memory to go on from: start it")
        return sight

    def do(self, work: Work[ResumeRequest], host: Host) -> None:
        """Starts it, from the file, which libvirt removes when that has worked."""
        reach(work, host)
        host.domains.start(work.instance)
        host.domains.wait_running(work.instance, work.request.timeout_s)

    def undo(self, work: Work[ResumeRequest], host: Host) -> None:
        """A guest that runs is left running; a file that could not be loaded is still there."""

    def undone(self, work: Work[Any], host: Host) -> bool:
        """A guest that ended right after it went on has nothing to go back to."""
        return True

    def changes(self, work: Work[ResumeRequest]) -> tuple[Change, ...]:
        """The instance runs."""
        return (InstanceIs(InstanceState.RUNNING),)


def _domain_of_ours(work: Work[Any], host: Host) -> Domain | None:
    """The instance's domain, for an undo: where there is none, or another's, nothing is left to undo."""
    domain = host.domains.find(work.instance)
    return None if domain is None or stranger(work, domain) is not None else domain


def _undo(undone: Callable[[], bool], act: Callable[[], None]) -> None:
    """Act, unless there is nothing to undo, or no longer, whatever the call came to."""
    if undone():
        return
    try:
        act()
    except HostError:
        if not undone():
            raise


def _running_domain(work: Work[Any], host: Host) -> Domain | None:
    domain = _domain_of_ours(work, host)
    return domain if domain is not None and domain.active else None
