"""Migration, on the host that the instance goes to: made ready, and taken over."""

from models.records import NOTHING, Change, Json
from models.states import ErrorClass
from tasks.host import DomainState, Host, HostError
from tasks.operation import Absent, NotNeeded, NotOurs, Partial, Sight, There, Work
from tasks.requests.destroy import DestroyRequest
from tasks.requests.migrate import MigrateRequest
from tasks.steps.devices import interfaces_of, volumes_of
from tasks.steps.ending import outlast_earlier_work
from tasks.steps.identity import stranger
from tasks.steps.migration import departure_of, let_go, nothing_is_held, other_host


def _refuse_if_it_lives_here(work: Work[MigrateRequest], host: Host) -> None:
    """An undo removes what is on its way here, never an instance that has arrived: that alone has a definition.

    One that waits here while its guest runs on the source is a copy that never ran: that it had come was never heard.
    """
    domain = host.domains.find(work.instance)
    if domain is not None and domain.persistent:
        if domain.state is DomainState.PAUSED and not departure_of(work).paused:
            source = host.migrations.there(work.instance, other_host(work)).domain
            if source is not None and source.state is DomainState.RUNNING:
                return
        raise HostError(ErrorClass.PERMANENT, f"instance {work.instance} has arrived here: nothing of it is removed")


class DestinationFits:
    """The destination can run the guest: its CPU, its type, its memory and its files are there."""

    name = "DestinationFits"

    def plan(self, work: Work[MigrateRequest], host: Host) -> Json:
        """Nothing is made."""
        return NOTHING

    def look(self, work: Work[MigrateRequest], host: Host) -> Sight:
        """A host that cannot is an error for good."""
        host.migrations.check_arrival(departure_of(work))
        return There()

    def do(self, work: Work[MigrateRequest], host: Host) -> None:
        """Never asked for: the destination can, or its look raises."""

    def undo(self, work: Work[MigrateRequest], host: Host) -> None:
        """Nothing was made."""

    def changes(self, work: Work[MigrateRequest]) -> tuple[Change, ...]:
        """Nothing is learnt."""
        return ()


class DestinationFilesMade:
    """The destination has a folder for the instance, with room for its console log and for each disk to copy into."""

    name = "DestinationFilesMade"

    def plan(self, work: Work[MigrateRequest], host: Host) -> Json:
        """Where each file is, and where it will be, and how disks are opened over here."""
        departure = departure_of(work)
        allocated = {device.details.get("path") for device in work.devices if device.details.get("preallocate")}
        disks = [
            {
                "path": host.disks.path_for(work.instance, disk.path.rpartition("/")[2].partition(".")[0], disk.format),
                "from": disk.path,
                "size_bytes": disk.virtual_size_bytes,
                "preallocate": disk.path in allocated,
            }
            for disk in departure.disks
        ]
        paths = {disk["from"]: disk["path"] for disk in disks}
        paths |= {departure.console_log: host.migrations.console_log(work.instance)}
        return {"disks": disks, "paths": paths} | ({"disk_cachemode": host.disks.cache_mode()} if disks else {})

    def look(self, work: Work[MigrateRequest], host: Host) -> Sight:
        """Files that stand there without an intent of this job are somebody else's data."""
        if not work.intended:
            there = host.disks.folder_exists(work.instance)
            return (
                NotOurs("the destination has files of the instance that this job did not make") if there else Absent()
            )
        found = [host.disks.find(work.instance, disk["path"]) is not None for disk in work.intent["disks"]]
        return There() if all(found) and host.disks.folder_exists(work.instance) else Absent()

    def do(self, work: Work[MigrateRequest], host: Host) -> None:
        """Makes empty disks of the same size: all that is written in them comes with the guest."""
        host.migrations.receive(work.instance)
        for disk in work.intent["disks"]:
            if host.disks.find(work.instance, disk["path"]) is None:
                host.disks.create(
                    work.instance,
                    disk["path"],
                    size_bytes=disk["size_bytes"],
                    backing=None,
                    epoch=work.epoch,
                    preallocate=disk.get("preallocate", False),
                )

    def undo(self, work: Work[MigrateRequest], host: Host) -> None:
        """Removes the folder."""
        _refuse_if_it_lives_here(work, host)
        host.disks.remove_folder(work.instance)

    def changes(self, work: Work[MigrateRequest]) -> tuple[Change, ...]:
        """The instance has its disks where they were until it has moved."""
        return ()


class DestinationVolumesConnected:
    """Each of the instance's volumes is within the destination's reach."""

    name = "DestinationVolumesConnected"

    def plan(self, work: Work[MigrateRequest], host: Host) -> Json:
        """The inventory names them."""
        return {"volumes": [each.volume.id for each in volumes_of(work.devices)]}

    def look(self, work: Work[MigrateRequest], host: Host) -> Sight:
        """Each is asked for."""
        volumes = volumes_of(work.devices)
        if not volumes:
            return NotNeeded()
        reached = all(host.volumes.connected(each.volume) for each in volumes)
        return There() if reached and work.intended else Absent()

    def do(self, work: Work[MigrateRequest], host: Host) -> None:
        """Connects each."""
        for each in volumes_of(work.devices):
            host.volumes.connect(each.volume)

    def undone(self, work: Work[MigrateRequest], host: Host) -> bool:
        """What the host keeps of them is gone; whether they are within reach is another question."""
        return not any(host.volumes.held(each.volume) for each in volumes_of(work.devices))

    def undo(self, work: Work[MigrateRequest], host: Host) -> None:
        """Lets go of each."""
        for each in volumes_of(work.devices):
            host.volumes.disconnect(each.volume)

    def changes(self, work: Work[MigrateRequest]) -> tuple[Change, ...]:
        """The instance had them before."""
        return ()


class DestinationInterfacesPlugged:
    """Each of the instance's interfaces has where to be plugged on the destination."""

    name = "DestinationInterfacesPlugged"

    def plan(self, work: Work[MigrateRequest], host: Host) -> Json:
        """The inventory names them."""
        return {"interfaces": [each.id for each in interfaces_of(work.devices)]}

    def look(self, work: Work[MigrateRequest], host: Host) -> Sight:
        """Each is asked for."""
        interfaces = interfaces_of(work.devices)
        if not interfaces:
            return NotNeeded()
        plugged = all(host.interfaces.plugged(each) for each in interfaces)
        return There() if plugged and work.intended else Absent()

    def do(self, work: Work[MigrateRequest], host: Host) -> None:
        """Plugs each."""
        for each in interfaces_of(work.devices):
            host.interfaces.plug(each)

    def undone(self, work: Work[MigrateRequest], host: Host) -> bool:
        """What the host keeps of them is gone; whether they are within reach is another question."""
        return not any(host.interfaces.left(each) for each in interfaces_of(work.devices))

    def undo(self, work: Work[MigrateRequest], host: Host) -> None:
        """Unplugs each."""
        for each in interfaces_of(work.devices):
            host.interfaces.unplug(each)

    def changes(self, work: Work[MigrateRequest]) -> tuple[Change, ...]:
        """The instance had them before."""
        return ()


class DestinationOpen:
    """The destination has no domain of the instance, and from here on one may come."""

    name = "DestinationOpen"

    def plan(self, work: Work[MigrateRequest], host: Host) -> Json:
        """The domain's identity comes with it."""
        return NOTHING

    def look(self, work: Work[MigrateRequest], host: Host) -> Sight:
        """Once it is open, the domain that is here is the one that came."""
        domain = host.domains.find(work.instance)
        if domain is None:
            return There() if work.intended else Absent()
        other = stranger(work, domain)
        if other is not None or work.intended:
            return other or There()
        return NotOurs(f"the destination has a domain {work.instance} already")

    def do(self, work: Work[MigrateRequest], host: Host) -> None:
        """The intent says it all."""

    def undo(self, work: Work[MigrateRequest], host: Host) -> None:
        """Removes what came of it: the source has the guest, which was seen before this is asked for."""
        _refuse_if_it_lives_here(work, host)
        host.domains.kill(work.instance)
        host.domains.undefine(work.instance)

    def changes(self, work: Work[MigrateRequest]) -> tuple[Change, ...]:
        """The instance is where it was."""
        return ()


class DomainPersistent:
    """The guest that came runs on, and is defined on the destination."""

    name = "DomainPersistent"

    def plan(self, work: Work[MigrateRequest], host: Host) -> Json:
        """The domain's identity came with it."""
        return NOTHING

    def look(self, work: Work[MigrateRequest], host: Host) -> Sight:
        """A guest that ended since is defined all the same."""
        domain = host.domains.find(work.instance)
        if domain is None:
            raise HostError(ErrorClass.PERMANENT, f"instance {work.instance} came here, and there is no domain of it")
        other = stranger(work, domain)
        if other is not None:
            return other
        if domain.state is DomainState.PAUSED and not departure_of(work).paused:
            return Partial("the guest came here paused")
        return There() if domain.persistent else Absent()

    def do(self, work: Work[MigrateRequest], host: Host) -> None:
        """Defines it as it runs, and lets it run."""
        host.migrations.persist(work.instance)
        if not departure_of(work).paused:
            host.migrations.resume(work.instance)

    def undo(self, work: Work[MigrateRequest], host: Host) -> None:
        """Never asked for: past the switch there is only forward."""

    def changes(self, work: Work[MigrateRequest]) -> tuple[Change, ...]:
        """The inventory knows where the instance is."""
        return ()


class OtherHalfRemoved:
    """Nothing is left on the other host of a migration that this destroy ended."""

    name = "OtherHalfRemoved"

    def plan(self, work: Work[DestroyRequest], host: Host) -> Json:
        """What is removed is named by the instance."""
        return NOTHING

    def look(self, work: Work[DestroyRequest], host: Host) -> Sight:
        """A domain that is not ours is never touched."""
        domain = host.domains.find(work.instance)
        if domain is not None:
            return stranger(work, domain) or Absent()
        going_on = host.earlier_work.going_on(work.instance, work.job)
        gone = not going_on and nothing_is_held(work, host) and not host.disks.folder_exists(work.instance)
        return There() if gone else Absent()

    def do(self, work: Work[DestroyRequest], host: Host) -> None:
        """Kills what came, waits for what was under way, and removes the rest."""
        host.domains.kill(work.instance)
        outlast_earlier_work(work, host)
        host.domains.kill(work.instance)
        host.domains.undefine(work.instance)
        let_go(work, host)
        host.disks.remove_folder(work.instance)

    def undo(self, work: Work[DestroyRequest], host: Host) -> None:
        """Never asked for: a destroy only goes forward."""

    def changes(self, work: Work[DestroyRequest]) -> tuple[Change, ...]:
        """The instance was on the host that the journal names."""
        return ()
