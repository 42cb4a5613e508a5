"""Power: a guest off, on, or begun anew."""

from models.records import NOTHING, Change, InstanceIs, Json
from models.states import InstanceState
from tasks.host import Domain, Host
from tasks.operation import Absent, NotOurs, Partial, Sight, There, Work
from tasks.requests.power import RebootRequest, StartRequest, StopRequest
from tasks.steps.ending import end
from tasks.steps.living import present, reach, refused, seen_running
from tasks.steps.running import have_run, planned, standing_still

#: How long a guest that is rebooted may take until it runs, in seconds.
START_DEADLINE_S = 60.0


class DomainStarted:
    """The guest runs; one that was suspended goes on from there."""

    name = "DomainStarted"

    def plan(self, work: Work[StartRequest], host: Host) -> Json:
        """Whether it is to stand still at first."""
        return planned(work)

    def look(self, work: Work[StartRequest], host: Host) -> Sight:
        """Paused counts as started: somebody paused it, unless it is this job's start that has it stand still."""
        domain = present(work, host)
        still = None if isinstance(domain, NotOurs) else standing_still(work, domain)
        return still or seen_running(work, domain)

    def do(self, work: Work[StartRequest], host: Host) -> None:
        """Starts the domain once all that it needs is within reach, and waits, by event, until it runs."""
        reach(work, host)
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
        domain = present(work, host)
        if isinstance(domain, NotOurs):
            return domain
        if domain.active:
            return Absent()
        if not work.intended and host.power.is_saved(work.instance):
            raise refused(work, "is suspended: resume it, then stop it")
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
        domain = present(work, host)
        return {"run": None if isinstance(domain, NotOurs) else domain.run}

    def look(self, work: Work[RebootRequest], host: Host) -> Sight:
        """The process that the intent names, another one, or none."""
        domain = present(work, host)
        if isinstance(domain, NotOurs):
            return domain
        if not work.intended:
            if not domain.active:
                raise refused(work, "does not run: start it")
            return Absent()
        if not domain.active:
            return Partial(f"instance {work.instance} is off, and not started again yet")
        return Absent() if domain.run == work.intent["run"] else seen_running(work, domain)

    def do(self, work: Work[RebootRequest], host: Host) -> None:
        """Ends the process that the intent names, and no other, then starts the guest."""
        domain = present(work, host)
        if isinstance(domain, Domain) and domain.active and domain.run == work.intent["run"]:
            end(work, host, work.request.timeout_s if work.request.type == "soft" else 0.0)
        host.domains.start(work.instance)
        host.domains.wait_running(work.instance, START_DEADLINE_S)

    def undo(self, work: Work[RebootRequest], host: Host) -> None:
        """Never asked for: there is no way back to a process that has ended."""

    def changes(self, work: Work[RebootRequest]) -> tuple[Change, ...]:
        """The instance runs."""
        return (InstanceIs(InstanceState.RUNNING),)
