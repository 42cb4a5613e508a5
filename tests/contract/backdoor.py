"""Other people's deeds on a real host: what somebody with virsh might do."""

from uuid import UUID

import libvirt

_DOMAIN = """
<domain type='qemu'>
  <name>somebody-{instance}</name>
  <uuid>{instance}</uuid>
  {metadata}
  <memory unit='MiB'>32</memory>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices><controller type='usb' model='none'/><memballoon model='none'/></devices>
</domain>
"""
_METADATA = """
<metadata><hostler:domain xmlns:hostler='urn:hostler:domain:1' instance='{instance}' job='job-of-another'/></metadata>
"""


class Backdoor:
    """A connection beside Hostler's; what it made or met is gone after `clear`."""

    def __init__(self, connection: libvirt.virConnect) -> None:
        self._connection = connection

    def stranger(self, instance: UUID) -> None:
        """A running domain without our metadata."""
        self._connection.defineXML(_DOMAIN.format(instance=instance, metadata="")).create()

    def mislabelled(self, instance: UUID, other: UUID) -> None:
        """A stopped domain with the metadata of another instance."""
        metadata = _METADATA.format(instance=other)
        self._connection.defineXML(_DOMAIN.format(instance=instance, metadata=metadata))

    def pause(self, instance: UUID) -> None:
        """Pause it."""
        self._connection.lookupByUUID(instance.bytes).suspend()

    def resume(self, instance: UUID) -> None:
        """Resume it."""
        self._connection.lookupByUUID(instance.bytes).resume()

    def stop(self, instance: UUID) -> None:
        """End it."""
        self._connection.lookupByUUID(instance.bytes).destroy()

    def reset(self, instance: UUID) -> None:
        """Press its reset button: what the guest was asked to let go, it lets go then."""
        self._connection.lookupByUUID(instance.bytes).reset()

    def undefine(self, instance: UUID) -> None:
        """Undefine it, running or not."""
        self._connection.lookupByUUID(instance.bytes).undefine()

    def document(self, instance: UUID) -> str:
        """Its XML."""
        return str(self._connection.lookupByUUID(instance.bytes).XMLDesc())

    def define(self, document: str) -> None:
        """Define a domain, refusing what libvirt's schema refuses."""
        self._connection.defineXMLFlags(document, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)

    def clear(self) -> None:
        """Remove every domain of the host."""
        for domain in self._connection.listAllDomains():
            if domain.isActive():
                domain.destroy()
        for domain in self._connection.listAllDomains():
            domain.undefine()
