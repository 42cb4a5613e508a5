"""A host in memory that fits `tasks.host.Host` and passes the same contract suite as real ones.

Faults are scripted at the port: an error before a call's effect (the request was lost) or after it (the answer was
lost), half of an effect, or `Killed`, which no ``except Exception`` sees, just as nothing sees a SIGKILL.
"""

from collections import Counter
from uuid import UUID

from models.states import ErrorClass
from tasks.host import HostError
from tests.contract.fake_config_drives import FakeConfigDrives
from tests.contract.fake_devices import FakeDevices, FakeInterfaces
from tests.contract.fake_domains import FakeDomains, mislabelled, stranger
from tests.contract.fake_files import FakeDisks, FakeImage, FakeImages
from tests.contract.fake_migrations import Broken, FakeMigrations, FakeWorld
from tests.contract.fake_power import FakePower
from tests.contract.fake_volumes import FakeVolumes
from tests.contract.faults import Fault, Killed, Room, Script, port

__all__ = ["Broken", "FakeHost", "FakeImage", "FakeWorld", "Killed", "mislabelled", "stranger"]

CONSOLE_LOG = "console.log"
#: Calls whose effect has a half that a crash can leave.
_HALVES = frozenset({"disks.create", "disks.copy", "disks.format", "disks.remove_folder", "migrations.perform"})
_HALVES |= {"config_drives.write"}


class FakeHost:
    """One hypervisor host, of which a test sees and scripts everything; alone, or one of a world of hosts."""

    def __init__(self, name: str = "h1", world: FakeWorld | None = None) -> None:
        self.world = world or FakeWorld()
        self._script = Script()
        self._script.changed = self.world.changed
        self.images = FakeImages(self._script)
        self.disks = FakeDisks(self._script)
        self.config_drives = FakeConfigDrives(self._script, self.disks)
        self.domains = FakeDomains(self._script, self.disks)
        self.volumes = FakeVolumes(self._script, self.domains)
        self.interfaces = FakeInterfaces(self._script, self.domains)
        self.devices = FakeDevices(self._script, self.domains, self.volumes, self.interfaces)
        self.power = FakePower(self._script, self.domains)
        self.migrations = FakeMigrations(self._script, self.world, name, self.domains, self.disks, self.images)
        self.earlier_work = FakeEarlierWork(self._script)

    @property
    def effects(self) -> list[tuple[str, UUID]]:
        """The ledger: (method, instance), in order, only where something really changed."""
        return self._script.effects

    @property
    def calls(self) -> Counter[str]:
        """How often each method was called, with or without effect."""
        return self._script.calls

    def fail(
        self, method: str, error: BaseException, *, times: int = 1, after: bool = False, halfway: bool = False
    ) -> None:
        """Have the next calls of e.g. ``domains.start`` fail: before, half-way through or after the effect."""
        if halfway and method not in _HALVES:
            raise ValueError(f"{method} has no half")
        room, _, call = method.partition(".")
        if not callable(getattr(getattr(self, room), call)):
            raise TypeError(f"{method} is not a method of the port")
        self._script.fail(method, Fault(error, times, after, halfway))

    def unspent(self) -> tuple[str, ...]:
        """The methods whose scripted faults have not all happened."""
        return self._script.unspent()

    def leftovers(self, instance: UUID) -> tuple[str, ...]:
        """All that the host has of the instance: its domain, and each of its files by name."""
        with self._script.changed:
            domain = ("domain",) if instance in self.domains.there else ()
            aside = ("removing",) if instance in self.disks.aside else ()
            files = self.disks.folders.get(instance)
            if files is None:
                return domain + aside
            console = (CONSOLE_LOG,) if files.console_log else ()
            names = (path.rpartition("/")[2] for path in (*files.disks, *files.halves))
            return domain + aside + ("folder",) + console + tuple(sorted(names))


class FakeEarlierWork(Room):
    """The port's `EarlierWork`; a test begins and ends the calls."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self._calls: Counter[tuple[UUID, str]] = Counter()

    @port("earlier_work.going_on")
    def going_on(self, instance: UUID, job: str) -> tuple[str, ...]:
        """The other jobs with calls begun and not ended."""
        with self.script.changed:
            return self._others(instance, job)

    @port("earlier_work.wait_ended")
    def wait_ended(self, instance: UUID, job: str, deadline_s: float) -> None:
        """Wait until a test ended them."""
        with self.script.changed:
            if not self.script.changed.wait_for(lambda: not self._others(instance, job), deadline_s):
                raise HostError(ErrorClass.TRANSIENT, f"calls for {instance} have not returned in {deadline_s:g} s")

    def begin(self, instance: UUID, job: str) -> None:
        """A job has a call under way."""
        with self.script.changed:
            self._calls[instance, job] += 1

    def end(self, instance: UUID, job: str) -> None:
        """One such call returned."""
        with self.script.changed:
            self._calls[instance, job] -= 1
            self.script.changed.notify_all()

    def _others(self, instance: UUID, job: str) -> tuple[str, ...]:
        others = {who for (what, who), count in self._calls.items() if count and what == instance and who != job}
        return tuple(sorted(others))
