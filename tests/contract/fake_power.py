"""The power of the fake host's domains. Its guests shut down at once when they are asked, unless told to be deaf."""

from uuid import UUID

from models.states import ErrorClass
from tasks.host import Domain, DomainState, HostError
from tests.contract.fake_domains import FakeDomains
from tests.contract.faults import Room, Script, port


class FakePower(Room):
    """The port's `Power`."""

    def __init__(self, script: Script, domains: FakeDomains) -> None:
        super().__init__(script)
        self._domains = domains
        self.deaf: set[UUID] = set()
        self.asked: list[UUID] = []

    @port("power.shut_down")
    def shut_down(self, instance: UUID, *, deadline_s: float, again_every_s: float) -> None:
        """A guest that hears is off at once; who is deaf is waited for no longer than the test has patience."""
        with self.script.changed:
            domain = self._domains.ours(instance)
            if domain is None or not domain.active or deadline_s <= 0 or again_every_s <= 0:
                return
            self.asked.append(instance)
            if domain.state is DomainState.RUNNING and instance not in self.deaf:
                self._domains.is_now(instance, DomainState.SHUT_OFF, "shutdown")
                self.script.did("power.shut_down", instance)

    @port("power.pause")
    def pause(self, instance: UUID) -> None:
        """Pause it."""
        self._becomes(instance, DomainState.PAUSED, "power.pause")

    @port("power.unpause")
    def unpause(self, instance: UUID) -> None:
        """Let it run on."""
        self._becomes(instance, DomainState.RUNNING, "power.unpause")

    @port("power.save")
    def save(self, instance: UUID, *, deadline_s: float) -> None:
        """Keep it, and end it."""
        with self.script.changed:
            self._active(instance)
            if deadline_s <= 0:
                raise HostError(ErrorClass.TRANSIENT, "called off")
            self._domains.saved.add(instance)
            self._domains.is_now(instance, DomainState.SHUT_OFF, "saved")
            self.script.did("power.save", instance)

    @port("power.is_saved")
    def is_saved(self, instance: UUID) -> bool:
        """Whether it is kept."""
        with self.script.changed:
            return self._domains.ours(instance) is not None and instance in self._domains.saved

    def _becomes(self, instance: UUID, state: DomainState, method: str) -> None:
        with self.script.changed:
            if self._active(instance).state is not state:
                self._domains.is_now(instance, state, "user")
                self.script.did(method, instance)

    def _active(self, instance: UUID) -> Domain:
        domain = self._domains.ours(instance)
        if domain is None or not domain.active:
            raise HostError(ErrorClass.PERMANENT, f"the domain {instance} does not run")
        return domain
