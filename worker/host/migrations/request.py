"""What libvirt is asked for when a guest is to be moved: flags and parameters. Pure: nothing here asks a host."""

import re
from collections.abc import Mapping
from typing import Final

import libvirt

from models.states import ErrorClass
from tasks.host import HostError, MigrationPlan, Peer

Parameters = Mapping[str, str | int | list[str]]

#: The guest moves while it runs, from daemon to daemon, with its definition. Never ``UNSAFE``: libvirt's word is taken.
_ALWAYS: Final[int] = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PEER2PEER
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
)
#: What broke is taken up again: the call is the first one's, with these.
TAKE_UP: Final[int] = libvirt.VIR_MIGRATE_POSTCOPY | libvirt.VIR_MIGRATE_POSTCOPY_RESUME
_ADDRESS: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")


def flags_for(plan: MigrationPlan, *, paused: bool) -> int:
    """The plan in libvirt's flags; ``paused`` is whether the guest stands still already, which rules post-copy out."""
    flags: int = _ALWAYS
    if plan.copied_disks:
        flags |= libvirt.VIR_MIGRATE_NON_SHARED_DISK
    if plan.post_copy and not paused:
        flags |= libvirt.VIR_MIGRATE_POSTCOPY
        return flags
    # Else libvirt would start it there and, if the answer to that is lost, let it run on here as well (measured).
    flags |= libvirt.VIR_MIGRATE_PAUSED
    if plan.auto_converge:
        flags |= libvirt.VIR_MIGRATE_AUTO_CONVERGE
    return flags


def parameters_for(plan: MigrationPlan, running_xml: str, persistent_xml: str) -> Parameters:
    """The plan in libvirt's parameters; the documents are the destination's already."""
    parameters: dict[str, str | int | list[str]] = {
        libvirt.VIR_MIGRATE_PARAM_URI: data_uri(plan.peer),
        libvirt.VIR_MIGRATE_PARAM_DEST_XML: running_xml,
        libvirt.VIR_MIGRATE_PARAM_PERSIST_XML: persistent_xml,
    }
    if plan.copied_disks:
        parameters[libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS] = list(plan.copied_disks)
    if plan.bandwidth_mib_s:
        parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = plan.bandwidth_mib_s
    return parameters


def data_uri(peer: Peer) -> str:
    """Where the guest's memory and disks are sent to. Raises HostError(PERMANENT) for what is no address."""
    if not _ADDRESS.fullmatch(peer.address):
        why = f"is {peer.address!r}, which is no address" if peer.address else "is not known"
        message = f"the migration address of host {peer.name} {why}: set HOSTLER_MIGRATION_ADDRESS there"
        raise HostError(ErrorClass.PERMANENT, message)
    return f"tcp://[{peer.address}]" if ":" in peer.address else f"tcp://{peer.address}"


def libvirt_uri(peer: Peer) -> str:
    """How the peer's libvirtd is reached. Raises HostError(PERMANENT) when its host has not said."""
    if not peer.libvirt_uri:
        message = f"host {peer.name} has not said how its libvirtd is reached: set HOSTLER_PEER_LIBVIRT_URI there"
        raise HostError(ErrorClass.PERMANENT, message)
    return peer.libvirt_uri
