"""Whether this host can take a guest in: what is asked of its libvirt before anything is made for it."""

import libvirt

from models.states import ErrorClass
from tasks.host import HostError
from worker.host.domain_document import refuse_anothers
from worker.host.migrations.travelling import Traveller
from worker.host.sightings import sighting_of


def refuse_too_large(connection: libvirt.virConnect, memory_mib: int) -> None:
    """HostError(PERMANENT) for a guest larger than all the host's memory.

    What is free now does not count, as in nova's driver: libvirt's figure leaves the page cache out, QEMU takes memory
    only as the guest uses it, and how far a host is filled is for whoever chose it.
    """
    whole = connection.getInfo()[1]
    if memory_mib > whole:
        message = f"the guest has {memory_mib} MiB of memory, and this host only {whole}"
        raise HostError(ErrorClass.PERMANENT, message)


def refuse_other_cpu(connection: libvirt.virConnect, cpu: str) -> None:
    """HostError(PERMANENT) unless this host's CPU has all that the source's has; libvirt may not know."""
    try:
        result = connection.compareCPU(cpu, 0) if cpu else libvirt.VIR_CPU_COMPARE_ERROR
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return
        raise
    if result <= libvirt.VIR_CPU_COMPARE_INCOMPATIBLE:
        raise HostError(ErrorClass.PERMANENT, "this host's CPU lacks something that the source host's has")


def refuse_namesake(connection: libvirt.virConnect, guest: Traveller) -> None:
    """HostError(CONFLICT) for a domain of the guest's UUID that is not ours, or another one of its name."""
    there = sighting_of(connection, guest.uuid)
    if there is not None:
        refuse_anothers(guest.uuid, there.domain.identity)
    try:
        namesake = connection.lookupByName(guest.name).UUIDString()
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return
        raise
    if namesake != str(guest.uuid):
        raise HostError(ErrorClass.CONFLICT, f"this host has another domain of the name {guest.name}: {namesake}")
