"""Volumes: connected, attached, let go."""

from collections.abc import Mapping
from typing import Protocol

from typing_extensions import override

from models.records import NOTHING, Change, Device, DeviceAdded, DeviceRemoved, Json
from models.states import DeviceKind
from tasks.host import GuestVolume, Host, Volume
from tasks.operation import Absent, NotNeeded, NotOurs, Sight, There, Work
from tasks.requests import Request
from tasks.requests.destroy import DestroyRequest
from tasks.requests.devices import AttachVolumeRequest, DetachRequest, DetachVolumeRequest
from tasks.requests.devices import Volume as WantedVolume
from tasks.steps.devices import (
    DeviceAttached,
    DeviceLeftDefinition,
    DeviceReleased,
    disk_targets,
    let_go_of_each,
    volume_details,
    volume_from,
    volumes_of,
)
from tasks.steps.fields import asked_by

#: What a volume's request says of every kind; the rest is how its kind is reached.
_OF_EVERY_KIND = frozenset({"id", "kind", "read_only"})


class WantsVolumes(Protocol):
    """A request that gives an instance volumes."""

    @property
    def wanted_volumes(self) -> Mapping[str, WantedVolume]:
        """The volumes that the instance is to have, each by the field that asks for it."""
        ...


def _volume(wanted: WantedVolume) -> Volume:
    where = wanted.model_dump(mode="json", exclude=set(_OF_EVERY_KIND), exclude_none=True)
    return Volume(wanted.id, wanted.kind, where, wanted.read_only)


def _place(volume: Volume, host: str) -> str:
    """Where its bytes are: on a server, or on this host; the same for every name that the volume may be given."""
    where = volume.where
    if where.get("host") is not None:
        return f"{volume.kind}://{where['host']}:{where['port']}/{where.get('export', '')}"
    return f"{volume.kind}:{host}:{where.get('socket') or where.get('path')}:{where.get('export', '')}"


def _row(work: Work[Request], volume_id: str) -> GuestVolume | None:
    return next((each for each in volumes_of(work.devices) if each.volume.id == volume_id), None)


class VolumesConnected:
    """Each volume that is asked for is the instance's, and no other's, and within this host's reach."""

    name = "VolumesConnected"

    def plan(self, work: Work[Request], host: Host) -> Json:
        """Where the guest will see each volume that the instance does not have yet."""
        shown = host.devices.shown(work.instance)
        sides = () if shown is None else (shown.live, shown.persistent)
        taken = {device.details.get("target") for device in work.devices}
        taken |= {device.target for side in sides for device in side or ()}
        free = (target for target in disk_targets() if target not in taken)
        new = [volume for volume in _wanted(work).values() if _row(work, volume.id) is None]
        volumes = [GuestVolume(volume, next(free), f"ua-{volume.id}", volume.id) for volume in new]
        return {"volumes": [volume_details(volume) for volume in volumes]}

    def undone(self, work: Work[Request], host: Host) -> bool:
        """What the host keeps of them is gone; whether they are within reach is another question."""
        return not any(host.volumes.held(volume_from(each).volume) for each in work.intent.get("volumes", ()))

    def reserves(self, work: Work[Request]) -> tuple[Change, ...]:
        """No two instances write to one volume: the instance has it from here on."""
        return tuple(
            DeviceAdded(
                Device(
                    DeviceKind.VOLUME,
                    details["id"],
                    details,
                    exclusive=f"volume:{details['id']}",
                    place=_place(volume_from(details).volume, work.host),
                )
            )
            for details in work.intent.get("volumes", ())
        )

    def look(self, work: Work[Request], host: Host) -> Sight:
        """The inventory says whose it is, and the host whether it is within reach."""
        wanted = _wanted(work)
        if not wanted:
            return NotNeeded()
        for field, volume in wanted.items():
            row = _row(work, volume.id)
            if row is None:
                with asked_by(field):
                    host.volumes.connected(volume)  # refuses what can never be, before anything is reserved
                return Absent()
            if row.volume != volume:
                return NotOurs(f"the instance has a volume {volume.id} already, and it is not the same one")
        return There() if all(_connected(field, volume, host) for field, volume in wanted.items()) else Absent()

    def do(self, work: Work[Request], host: Host) -> None:
        """Brings each within reach."""
        for field, volume in _wanted(work).items():
            with asked_by(field):
                host.volumes.connect(volume)

    def undo(self, work: Work[Request], host: Host) -> None:
        """Lets go of those that this job gave the instance."""
        for details in work.intent.get("volumes", ()):
            host.volumes.disconnect(volume_from(details).volume)

    def changes(self, work: Work[Request]) -> tuple[Change, ...]:
        """The inventory has them since they were reserved."""
        return ()


def _wanted(work: Work[Request]) -> Mapping[str, Volume]:
    request: WantsVolumes = work.request  # type: ignore[assignment]  # every operation with this step has such a one
    return {field: _volume(each) for field, each in request.wanted_volumes.items()}


def _connected(field: str, volume: Volume, host: Host) -> bool:
    with asked_by(field):
        return host.volumes.connected(volume)


class VolumeAttached(DeviceAttached):
    """The guest, if it runs or is paused, and its definition have the volume."""

    name = "VolumeAttached"

    @override
    def device(self, work: Work[Request]) -> GuestVolume:
        """As it was reserved."""
        request: AttachVolumeRequest = work.request  # type: ignore[assignment]  # the operation's own
        return next(each for each in volumes_of(work.devices) if each.volume.id == request.volume.id)


def _of_request(work: Work[DetachRequest]) -> GuestVolume:
    """The volume as the inventory has it; else what a domain would know it by, if one has it all the same."""
    request: DetachVolumeRequest = work.request  # type: ignore[assignment]  # the operation's own
    known_by_name = GuestVolume(Volume(request.volume_id, "", {}), "", f"ua-{request.volume_id}", request.volume_id)
    return _row(work, request.volume_id) or known_by_name


class VolumeLeftDefinition(DeviceLeftDefinition):
    """The definition of the domain does not have the volume."""

    name = "VolumeLeftDefinition"

    @override
    def device(self, work: Work[DetachRequest]) -> GuestVolume:
        """The volume that the request names."""
        return _of_request(work)


class VolumeReleased(DeviceReleased):
    """No running guest of the instance has the volume."""

    name = "VolumeReleased"

    @override
    def device(self, work: Work[DetachRequest]) -> GuestVolume:
        """The volume that the request names."""
        return _of_request(work)


class VolumeDisconnected:
    """The host has let the volume go, and the instance has it no longer."""

    name = "VolumeDisconnected"

    def plan(self, work: Work[DetachVolumeRequest], host: Host) -> Json:
        """It is named by the request."""
        return NOTHING

    def look(self, work: Work[DetachVolumeRequest], host: Host) -> Sight:
        """Of most kinds the host keeps nothing."""
        volume = _row(work, work.request.volume_id)
        return There() if volume is None or not host.volumes.held(volume.volume) else Absent()

    def do(self, work: Work[DetachVolumeRequest], host: Host) -> None:
        """Lets go, which the host refuses while a domain shows the volume."""
        volume = _row(work, work.request.volume_id)
        if volume is not None:
            host.volumes.disconnect(volume.volume)

    def undo(self, work: Work[DetachVolumeRequest], host: Host) -> None:
        """Never asked for: once the guest has let go, there is only forward."""

    def changes(self, work: Work[DetachVolumeRequest]) -> tuple[Change, ...]:
        """Another instance may have it now."""
        return (DeviceRemoved(DeviceKind.VOLUME, work.request.volume_id),)


class VolumesDisconnected:
    """This host holds none of the instance's volumes."""

    name = "VolumesDisconnected"

    def plan(self, work: Work[DestroyRequest], host: Host) -> Json:
        """The inventory names them."""
        return NOTHING

    def look(self, work: Work[DestroyRequest], host: Host) -> Sight:
        """Of most kinds the host keeps nothing."""
        volumes = volumes_of(work.devices)
        if not volumes:
            return NotNeeded()
        return Absent() if any(host.volumes.held(each.volume) for each in volumes) else There()

    def do(self, work: Work[DestroyRequest], host: Host) -> None:
        """Lets go of each; one that cannot be let go keeps no other."""
        let_go_of_each(volumes_of(work.devices), lambda each: host.volumes.disconnect(each.volume))

    def undo(self, work: Work[DestroyRequest], host: Host) -> None:
        """Never asked for: a destroy only goes forward."""

    def changes(self, work: Work[DestroyRequest]) -> tuple[Change, ...]:
        """The inventory forgets them with the instance."""
        return ()
