"""Domains: defined, running, stopped, gone."""

from dataclasses import asdict

from models.records import NOTHING, Change, Device, InstanceIs, Json
from models.states import DeviceKind, InstanceState
from tasks.host import DirectBoot, DomainState, Guest, GuestDisk, Host, Identity, Platform
from tasks.operation import Absent, InProgress, NotOurs, Sight, There, Work
from tasks.requests.destroy import DestroyRequest
from tasks.requests.spawn import SpawnRequest
from tasks.steps.devices import interfaces_of, volumes_of
from tasks.steps.ending import end, outlast_earlier_work
from tasks.steps.identity import stranger
from tasks.steps.running import have_run, planned, standing_still


class DomainDefined:
    """The domain is defined persistently under the instance's UUID, with this job in its metadata."""

    name = "DomainDefined"

    def plan(self, work: Work[SpawnRequest], host: Host) -> Json:
        """What the guest runs on: another libvirt or QEMU may choose otherwise, and the guest would see it."""
        platform = asdict(host.domains.platform(work.request.hardware.machine_type))
        has_disks = any(device.kind is DeviceKind.DISK for device in work.devices)
        return {"platform": platform} | ({"disk_cachemode": host.disks.cache_mode()} if has_disks else {})

    def look(self, work: Work[SpawnRequest], host: Host) -> Sight:
        """A domain that another job made means that the instance exists already."""
        domain = host.domains.find(work.instance)
        if domain is None:
            return Absent()
        other = stranger(work, domain)
        if other is not None:
            return other
        if domain.identity != Identity(work.instance, work.job):
            made_by = "" if domain.identity is None else f" by job {domain.identity.job}"
            return NotOurs(f"instance {work.instance} exists already, made{made_by}")
        return There() if domain.persistent else Absent()

    def do(self, work: Work[SpawnRequest], host: Host) -> None:
        """Defines the domain from the request and the devices that the inventory has."""
        request = work.request
        disks = tuple(
            GuestDisk(
                path=device.details["path"],
                format=device.details["format"],
                target=device.details["target"],
                alias=device.details["alias"],
                serial=device.details["serial"],
                bus=device.details.get("bus", "virtio"),
                cache=work.intent.get("disk_cachemode"),
            )
            for device in sorted(work.devices, key=_boot_order)
            if device.kind is DeviceKind.DISK
        )
        boot = None
        if request.boot is not None:
            boot = DirectBoot(request.boot.kernel, request.boot.initrd, request.boot.cmdline)
        host.domains.define(
            Guest(
                identity=Identity(work.instance, work.job),
                name=request.name,
                memory_mib=request.memory_mib,
                vcpus=request.vcpus,
                disks=disks,
                volumes=volumes_of(work.devices),
                interfaces=interfaces_of(work.devices),
                boot=boot,
                hardware=request.hardware,
                platform=_platform(work),
            )
        )

    def undo(self, work: Work[SpawnRequest], host: Host) -> None:
        """Kills what runs of it and removes the definition, with the console log that defining it made."""
        host.domains.kill(work.instance)
        host.domains.undefine(work.instance)

    def changes(self, work: Work[SpawnRequest]) -> tuple[Change, ...]:
        """Building until it runs."""
        return ()

    def warnings(self, work: Work[SpawnRequest]) -> tuple[str, ...]:
        """What is not as it should be with what the guest runs on."""
        platform = _platform(work)
        return () if platform is None or platform.warning is None else (platform.warning,)


def _boot_order(device: Device) -> tuple[int, str]:
    """The guest boots from the first disk: ``vda`` comes before ``vdz``, and that before ``vdaa``."""
    target = device.details.get("target", "")
    return len(target), target


def _platform(work: Work[SpawnRequest]) -> Platform | None:
    """What the guest runs on; None in an intent of an earlier revision."""
    planned = work.intent.get("platform")
    return None if planned is None else Platform(**planned)


class DomainRunning:
    """The domain runs.

    One that has interfaces stands still until what it sends is passed on: what it asks for as it boots would be lost.
    """

    name = "DomainRunning"

    def plan(self, work: Work[SpawnRequest], host: Host) -> Json:
        """Whether it is to stand still at first."""
        return planned(work)

    def look(self, work: Work[SpawnRequest], host: Host) -> Sight:
        """Paused counts as started: somebody paused it, unless it is this job's start that has it stand still."""
        domain = host.domains.find(work.instance)
        if domain is None:
            return Absent()
        other = stranger(work, domain)
        if other is not None:
            return other
        if domain.state is DomainState.SHUTTING_DOWN:
            return InProgress(f"domain {work.instance} is shutting down")
        if domain.state is DomainState.STARTING:
            return InProgress(f"domain {work.instance} is still being started")
        return standing_still(work, domain) or (There() if domain.active else Absent())

    def do(self, work: Work[SpawnRequest], host: Host) -> None:
        """Starts the domain and waits, by event, until it runs."""
        have_run(work, host, work.request.timeout_s)

    def undo(self, work: Work[SpawnRequest], host: Host) -> None:
        """Kills it."""
        host.domains.kill(work.instance)

    def changes(self, work: Work[SpawnRequest]) -> tuple[Change, ...]:
        """The instance runs."""
        return (InstanceIs(InstanceState.RUNNING),)


class DomainStopped:
    """No process runs for the domain."""

    name = "DomainStopped"

    def plan(self, work: Work[DestroyRequest], host: Host) -> Json:
        """What is killed is named by the instance."""
        return NOTHING

    def look(self, work: Work[DestroyRequest], host: Host) -> Sight:
        """Absent is stopped; a domain that is not ours is never touched."""
        domain = host.domains.find(work.instance)
        if domain is None:
            return There()
        return stranger(work, domain) or (Absent() if domain.active else There())

    def do(self, work: Work[DestroyRequest], host: Host) -> None:
        """Asks the guest, where the request gives it time for that, and ends the process."""
        end(work, host, work.request.timeout_s)

    def undo(self, work: Work[DestroyRequest], host: Host) -> None:
        """Never asked for: a destroy only goes forward."""

    def changes(self, work: Work[DestroyRequest]) -> tuple[Change, ...]:
        """Stopped, until it is gone."""
        return (InstanceIs(InstanceState.STOPPED),)


class EarlierWorkEnded:
    """No call or child process of another job of the instance is at work on this host any more."""

    name = "EarlierWorkEnded"

    def plan(self, work: Work[DestroyRequest], host: Host) -> Json:
        """Nothing is made."""
        return NOTHING

    def look(self, work: Work[DestroyRequest], host: Host) -> Sight:
        """Asks the worker, which knows what it has in hand."""
        return Absent() if host.earlier_work.going_on(work.instance, work.job) else There()

    def do(self, work: Work[DestroyRequest], host: Host) -> None:
        """Waits: the domain is dead, so the calls on it return; what they start meanwhile is ended, too."""
        outlast_earlier_work(work, host)

    def undo(self, work: Work[DestroyRequest], host: Host) -> None:
        """Never asked for: a destroy only goes forward."""

    def changes(self, work: Work[DestroyRequest]) -> tuple[Change, ...]:
        """The inventory does not know of calls."""
        return ()


class DomainUndefined:
    """There is no domain under the instance's UUID, running or defined."""

    name = "DomainUndefined"

    def plan(self, work: Work[DestroyRequest], host: Host) -> Json:
        """What is removed is named by the instance."""
        return NOTHING

    def look(self, work: Work[DestroyRequest], host: Host) -> Sight:
        """A domain that is not ours is never touched."""
        domain = host.domains.find(work.instance)
        return There() if domain is None else stranger(work, domain) or Absent()

    def do(self, work: Work[DestroyRequest], host: Host) -> None:
        """Kills it once more if it was started again meanwhile, then removes the definition."""
        host.domains.kill(work.instance)
        host.domains.undefine(work.instance)

    def undo(self, work: Work[DestroyRequest], host: Host) -> None:
        """Never asked for: a destroy only goes forward."""

    def changes(self, work: Work[DestroyRequest]) -> tuple[Change, ...]:
        """The inventory forgets the instance once its files are gone too."""
        return ()
