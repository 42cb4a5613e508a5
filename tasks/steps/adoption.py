"""Adoption: domains that others made come to be Hostler's, and are given back; their guests notice nothing."""

from models.records import NOTHING, Change, DeviceRemoved, InstanceIs, Json
from models.states import ErrorClass, InstanceState
from tasks.host import DomainState, Host, HostError, Identity
from tasks.operation import Absent, NotOurs, Partial, Sight, There, Work
from tasks.requests.adopt import AdoptRequest, ReleaseRequest

_IS = {DomainState.PAUSED: InstanceState.PAUSED, DomainState.SHUT_OFF: InstanceState.STOPPED}
_IS |= {DomainState.CRASHED: InstanceState.STOPPED}


class DomainAdopted:
    """The domain that is there under the instance's UUID, running and defined, says that it is the instance's."""

    name = "DomainAdopted"

    def plan(self, work: Work[AdoptRequest], host: Host) -> Json:
        """What it was before: whether it ran, and by which job it is marked; an earlier mark stays."""
        domain = host.domains.find(work.instance)
        if domain is None:
            raise _no_domain(work)
        marked_by = next((owner.job for owner in host.domains.owners(work.instance) if owner is not None), None)
        state = _IS.get(domain.state, InstanceState.RUNNING)
        return {"state": state.value, "job": marked_by or work.job, "found_marked": marked_by is not None}

    def look(self, work: Work[AdoptRequest], host: Host) -> Sight:
        """A domain that has no definition is gone when it stops; one with another instance's mark is a copy."""
        domain = host.domains.find(work.instance)
        if domain is None:
            raise _no_domain(work)
        if not domain.persistent:
            message = f"the domain {work.instance} on host {work.host} has no definition: define it, then adopt it"
            raise HostError(ErrorClass.PERMANENT, message)
        owners = host.domains.owners(work.instance)
        other = next((owner for owner in owners if owner is not None and owner.instance != work.instance), None)
        if other is not None:
            return NotOurs(f"domain {work.instance} says that it is instance {other.instance}")
        marked = [owner is not None for owner in owners]
        if any(marked) and not all(marked):
            return Partial(f"the running guest and the definition of {work.instance} say different things")
        return There() if all(marked) and work.intended else Absent()  # the intent says what it was before

    def do(self, work: Work[AdoptRequest], host: Host) -> None:
        """Writes the mark, and nothing else."""
        host.domains.mark(Identity(work.instance, work.intent["job"]))

    def undo(self, work: Work[AdoptRequest], host: Host) -> None:
        """Takes the mark out again, if it was this job that put it in."""
        if not work.intent.get("found_marked"):
            host.domains.unmark(work.instance)

    def changes(self, work: Work[AdoptRequest]) -> tuple[Change, ...]:
        """The instance is what its domain was, and is to stay so."""
        state = InstanceState(work.intent["state"])
        return (InstanceIs(state, wanted=state),)


class DomainReleased:
    """Nothing in a domain under the instance's UUID says that it is the instance's, and the inventory has let it go."""

    name = "DomainReleased"

    def plan(self, work: Work[ReleaseRequest], host: Host) -> Json:
        """What is let go is named by the instance."""
        return NOTHING

    def look(self, work: Work[ReleaseRequest], host: Host) -> Sight:
        """What is gone, or another's, needs no letting go."""
        owners = host.domains.owners(work.instance)
        ours = any(owner is not None and owner.instance == work.instance for owner in owners)
        return Absent() if ours else There()

    def do(self, work: Work[ReleaseRequest], host: Host) -> None:
        """Takes the mark out, and nothing else."""
        host.domains.unmark(work.instance)

    def undo(self, work: Work[ReleaseRequest], host: Host) -> None:
        """Never asked for: a release only goes forward."""

    def changes(self, work: Work[ReleaseRequest]) -> tuple[Change, ...]:
        """The inventory forgets the instance's devices: they are others' to give away again."""
        removed = tuple(DeviceRemoved(device.kind, device.key) for device in work.devices)
        return (*removed, InstanceIs(InstanceState.DELETED))


def _no_domain(work: Work[AdoptRequest]) -> HostError:
    return HostError(ErrorClass.PERMANENT, f"host {work.host} has no domain {work.instance} to adopt")
