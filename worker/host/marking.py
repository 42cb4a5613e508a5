"""Marks: whose a domain is, written into one that is there already; nothing else of it is changed."""

from uuid import UUID

import libvirt
from lxml import etree

from models.states import ErrorClass
from tasks.host import HostError, Identity
from worker.host.guest_xml import METADATA_NAMESPACE, METADATA_PREFIX, identity_in


def owners_of(connection: libvirt.virConnect, instance: UUID) -> tuple[Identity | None, ...]:
    """Whose the running guest, if it runs, and the definition, if there is one, say that it is; empty: no domain."""
    try:
        domain = connection.lookupByUUID(instance.bytes)
        return tuple(identity_in(_element(domain, side)) for side in _sides(domain))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return ()
        raise


def write_mark(connection: libvirt.virConnect, instance: UUID, identity: Identity | None) -> None:
    """Have both say that; None takes the mark out."""
    domain = connection.lookupByUUID(instance.bytes)
    flags = 0
    for side in _sides(domain):
        flags |= side
    element = None if identity is None else _mark(identity)
    prefix = None if identity is None else METADATA_PREFIX
    try:
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, element, prefix, METADATA_NAMESPACE, flags)
    except libvirt.libvirtError as error:
        if identity is not None or error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            raise


def refuse_other(instance: UUID, owners: tuple[Identity | None, ...]) -> None:
    """Raise HostError(CONFLICT) when one of them is another instance's."""
    other = next((owner for owner in owners if owner is not None and owner.instance != instance), None)
    if other is not None:
        message = f"the domain {instance} says that it is instance {other.instance}; nothing was done"
        raise HostError(ErrorClass.CONFLICT, message)


def _sides(domain: libvirt.virDomain) -> tuple[int, ...]:
    live = (libvirt.VIR_DOMAIN_AFFECT_LIVE,) if domain.isActive() else ()
    config = (libvirt.VIR_DOMAIN_AFFECT_CONFIG,) if domain.isPersistent() else ()
    return (*live, *config)


def _element(domain: libvirt.virDomain, side: int) -> str:
    try:
        element: str = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, METADATA_NAMESPACE, side)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            return ""
        raise
    return element


def _mark(identity: Identity) -> str:
    element = etree.Element("domain", instance=str(identity.instance), job=identity.job)
    return etree.tostring(element, encoding="unicode")
