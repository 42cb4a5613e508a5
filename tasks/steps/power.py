"""Power: a guest off, on, begun anew, standing still, or kept on disk."""

from collections.abc import Callable
from typing import Any

from models.records import NOTHING, Change, InstanceIs, Json
from models.states import ErrorClass, InstanceState
from tasks.host import Domain, DomainState, Host, HostError
from tasks.operation import Absent, InProgress, NotOurs, Partial, Sight, There, Work
from tasks.requests.power import (
    PauseRequest,
    RebootRequest,
    ResumeRequest,
    StartRequest,
    StopRequest,
    SuspendRequest,
    UnpauseRequest,
)
from tasks.steps.devices import interfaces_of, volumes_of
from tasks.steps.ending import end
from tasks.steps.identity import stranger
from tasks.steps.running import have_run, planned, standing_still

#: How long a guest that is rebooted may take until it runs, in seconds.
START_DEADLINE_S = 60.0
#: libvirt's word for a guest that stands still because its memory is being written.
_BEING_SAVED = "save"


class DomainStarted:
    """The guest runs; one that was suspended goes on from there."""

    name = "DomainStarted"

    def plan(self, work: Work[StartRequest], host: Host) -> Json:
        """Whether it is to stand still at first."""
        return planned(work)

    def look(self, work: Work[StartRequest], host: Host) -> Sight:
        """Paused counts as started: somebody paused it, unless it is this job's start that has it stand still."""
        domain = _domain(work, host)
        still = None if isinstance(domain, NotOurs) else standing_still(work, domain)
        return still or _seen_running(work, domain)

    def do(self, work: Work[StartRequest], host: Host) -> None:
        """Starts the domain once all that it needs is within reach, and waits, by event, until it runs."""
        _reach(work, host)
        have_run(work, host, work.request.timeout_s)

    def undo(self, work: Work[StartRequest], host: Host) -> None:
        """Kills what was started and never came to run."""
        host.domains.kill(work.instance)

    def changes(self, work: Work[StartRequest]) -> tuple[Change, ...]:
        """The instance runs."""
        return (InstanceIs(InstanceState.RUNNING),)


class DomainShutOff:
    """The guest is off; its definition and disks stay."""

    name = "DomainShutOff"

    def plan(self, work: Work[StopRequest], host: Host) -> Json:
        """What is ended is named by the instance."""
        return NOTHING

    def look(self, work: Work[StopRequest], host: Host) -> Sight:
        """A suspended guest is not off: what it has in memory would be lost with the next start."""
        domain = _domain(work, host)
        if isinstance(domain, NotOurs):
            return domain
        if domain.active:
            return Absent()
        if not work.intended and host.power.is_saved(work.instance):
            raise _refused(work, "is suspended: resume it, then stop it")
        return There()

    def do(self, work: Work[StopRequest], host: Host) -> None:
        """Asks the guest, if it can hear, and ends it when its time is over."""
        end(work, host, work.request.timeout_s)

    def undo(self, work: Work[StopRequest], host: Host) -> None:
        """Never asked for: what a guest was doing when it was asked to shut down does not come back."""

    def changes(self, work: Work[StopRequest]) -> tuple[Change, ...]:
        """The instance is stopped."""
        return (InstanceIs(InstanceState.STOPPED),)


class DomainRebooted:
    """The guest runs in another process than when the job first looked."""

    name = "DomainRebooted"

    def plan(self, work: Work[RebootRequest], host: Host) -> Json:
        """Which process it is that must end: libvirt's number of it."""
        domain = _domain(work, host)
        return {"run": None if isinstance(domain, NotOurs) else domain.run}

    def look(self, work: Work[RebootRequest], host: Host) -> Sight:
        """The process that the intent names, another one, or none."""
        domain = _domain(work, host)
        if isinstance(domain, NotOurs):
            return domain
        if not work.intended:
            if not domain.active:
                raise _refused(work, "does not run: start it")
            return Absent()
        if not domain.active:
            return Partial(f"instance {work.instance} is off, and not started again yet")
        return Absent() if domain.run == work.intent["run"] else _seen_running(work, domain)

    def do(self, work: Work[RebootRequest], host: Host) -> None:
        """Ends the process that the intent names, and no other, then starts the guest."""
        domain = _domain(work, host)
        if isinstance(domain, Domain) and domain.active and domain.run == work.intent["run"]:
            end(work, host, work.request.timeout_s if work.request.type == "soft" else 0.0)
        host.domains.start(work.instance)
        host.domains.wait_running(work.instance, START_DEADLINE_S)

    def undo(self, work: Work[RebootRequest], host: Host) -> None:
        """Never asked for: there is no way back to a process that has ended."""

    def changes(self, work: Work[RebootRequest]) -> tuple[Change, ...]:
        """The instance runs."""
        return (InstanceIs(InstanceState.RUNNING),)


class DomainPaused:
    """The guest's processors stand still; its memory is kept."""

    name = "DomainPaused"

    def plan(self, work: Work[PauseRequest], host: Host) -> Json:
        """Nothing is made."""
        return NOTHING

    def look(self, work: Work[PauseRequest], host: Host) -> Sight:
        """Whoever paused it."""
        domain = _domain(work, host)
        if isinstance(domain, NotOurs):
            return domain
        if not domain.active:
            raise _refused(work, "does not run")
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
        domain = _domain(work, host)
        if isinstance(domain, NotOurs):
            return domain
        if not domain.active:
            raise _refused(work, "does not run: start it")
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
        domain = _domain(work, host)
        if isinstance(domain, NotOurs):
            return domain
        if not domain.active:
            if host.power.is_saved(work.instance):
                return There()
            raise _refused(work, "does not run, so there is nothing to keep")
        if domain.state is DomainState.PAUSED and domain.reason == _BEING_SAVED:
            return InProgress(f"the memory of instance {work.instance} is being saved")
        if domain.state is DomainState.PAUSED and not work.intended:
            raise _refused(work, "is paused: unpause it, then suspend it")
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
        domain = _domain(work, host)
        sight = _seen_running(work, domain)
        if isinstance(sight, Absent) and not host.power.is_saved(work.instance):
            raise _refused(work, "has no saved memory to go on from: start it")
        return sight

    def do(self, work: Work[ResumeRequest], host: Host) -> None:
        """Starts it, from the file, which libvirt removes when that has worked."""
        _reach(work, host)
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


def _domain(work: Work[Any], host: Host) -> Domain | NotOurs:
    """The instance's domain; an instance without one is refused for good."""
    domain = host.domains.find(work.instance)
    if domain is None:
        raise _refused(work, "has no domain there")
    return stranger(work, domain) or domain


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


def _refused(work: Work[Any], why: str) -> HostError:
    return HostError(ErrorClass.PERMANENT, f"instance {work.instance} on host {work.host} {why}")


def _seen_running(work: Work[Any], domain: Domain | NotOurs) -> Sight:
    if isinstance(domain, NotOurs):
        return domain
    if domain.state in {DomainState.STARTING, DomainState.SHUTTING_DOWN}:
        return InProgress(f"domain {work.instance} is {domain.state}")
    return There() if domain.active else Absent()


def _reach(work: Work[Any], host: Host) -> None:
    """Bring the instance's volumes and networks within reach: a host that has booted may be ahead of its servers."""
    for device in volumes_of(work.devices):
        host.volumes.connect(device.volume)
    for interface in interfaces_of(work.devices):
        host.interfaces.plug(interface)
