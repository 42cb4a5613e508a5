"""The XML of devices: what is refused, and what is read back from what libvirt shows."""

from dataclasses import replace
from uuid import UUID

import pytest
from lxml import etree

from models.states import ErrorClass
from tasks.host import GuestInterface, GuestVolume, HostError, Identity, NetworkKind, ShownDevice, Volume
from worker.host.device_xml import DiskSource, interface_element, volume_element
from worker.host.domain_document import DomainDocument, refuse_anothers

INSTANCE = UUID("0b6dd4a2-5d2c-4a3e-9a53-1d4f4f0d7a11")
NIC = GuestInterface("nic-1", "52:54:00:00:00:01", NetworkKind.BRIDGE, "br0", "ua-nic-1", "tap1")
VOLUME = GuestVolume(Volume("vol-1", "any", {}), "vdb", "ua-vol-1", "vol-1")
SHOWN = """
<domain type='qemu' id='7'>
  <metadata><hostler:domain xmlns:hostler='urn:hostler:domain:1' instance='{instance}' job='job-1'/></metadata>
  <devices>
    <disk type='file'><source file='/a b'/><target dev='vda'/><serial>root</serial><alias name='ua-root'/></disk>
    <disk type='block'><source dev='/dev/sda'/><target dev='vdb'/><alias name='virtio-disk1'/></disk>
    <disk><source protocol='nbd' name='e/x'><host name='h' port='10809'/></source><target dev='vdc'/></disk>
    <disk type='network'><source protocol='nbd'><host name='fd00::1' port='1'/></source><target dev='vdd'/></disk>
    <disk type='network'>
      <source protocol='nbd' name='e'><host transport='unix' socket='/s'/></source><target dev='vde'/>
    </disk>
    <disk type='network'><source protocol='rbd' name='pool/image'/><target dev='vdf'/></disk>
    <disk device='cdrom'><target dev='sda'/></disk>
    <interface type='bridge'>
      <mac address='52:54:00:00:00:0A'/><source bridge='br0'/><target dev='tap1'/><alias name='ua-nic-1'/>
    </interface>
    <interface type='network'>
      <mac address='52:54:00:00:00:02'/><source network='default' bridge='virbr0'/><alias name='net1'/>
    </interface>
  </devices>
</domain>
"""


@pytest.mark.parametrize(
    "nic",
    [
        replace(NIC, mac="52:54:00:00:00"),
        replace(NIC, mac="52:54:00:00:00:0A"),
        replace(NIC, mac="53:54:00:00:00:01"),  # a group's address
        replace(NIC, tap=""),
        replace(NIC, tap="sixteen-or-more-"),
        replace(NIC, tap="a/b"),
        replace(NIC, tap="vnet0"),
        replace(NIC, tap="tap%d"),
        replace(NIC, alias="nic-1"),
        replace(NIC, model="virtio'"),
        replace(NIC, network=""),
        replace(NIC, network="two\nlines"),
        replace(NIC, mtu=67),
        replace(NIC, mtu=65536),
    ],
)
def test_an_interface_that_libvirt_cannot_carry_is_refused(nic: GuestInterface) -> None:
    """For good, in one sentence."""
    with pytest.raises(HostError) as caught:
        interface_element(nic)
    assert caught.value.error_class is ErrorClass.PERMANENT
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "volume",
    [
        replace(VOLUME, target="sdb"),
        replace(VOLUME, alias="vol-1"),
        replace(VOLUME, serial=""),
        replace(VOLUME, serial="x" * 65),
        replace(VOLUME, serial='a"b'),
    ],
)
def test_a_volume_that_libvirt_cannot_carry_is_refused(volume: GuestVolume) -> None:
    """For good, in one sentence."""
    with pytest.raises(HostError) as caught:
        volume_element(volume, DiskSource("file", "raw", {"file": "/a"}))
    assert caught.value.error_class is ErrorClass.PERMANENT


def test_devices_are_read_back_as_they_are_recognised() -> None:
    """Disks and interfaces, with an empty text for what they do not have."""
    document = DomainDocument(SHOWN.format(instance=INSTANCE))
    assert document.devices == (
        ShownDevice("ua-root", "vda", serial="root", source="/a b"),
        ShownDevice("virtio-disk1", "vdb", source="/dev/sda"),
        ShownDevice("", "vdc", source="nbd://h:10809/e/x"),
        ShownDevice("", "vdd", source="nbd://[fd00::1]:1/"),
        ShownDevice("", "vde", source="nbd+unix:///e?socket=/s"),
        ShownDevice("", "vdf", source="rbd:///pool/image"),
        ShownDevice("", "sda"),
        ShownDevice("ua-nic-1", "tap1", mac="52:54:00:00:00:0a", source="br0"),
        ShownDevice("net1", mac="52:54:00:00:00:02", source="default"),
    )
    assert (document.active, document.identity) == (True, Identity(INSTANCE, "job-1"))


def test_a_devices_element_is_the_whole_of_it() -> None:
    """As libvirt must be told of it."""
    document = DomainDocument(SHOWN.format(instance=INSTANCE))
    element = etree.fromstring(document.element(document.devices[7]))
    assert (element.tag, [each.tag for each in element]) == ("interface", ["mac", "source", "target", "alias"])


@pytest.mark.parametrize("instance", ["", "nobody", str(UUID(int=1))])
def test_a_document_of_another_is_refused(instance: str) -> None:
    """Whatever somebody wrote there."""
    document = DomainDocument(SHOWN.format(instance=instance))
    with pytest.raises(HostError) as caught:
        refuse_anothers(INSTANCE, document.identity)
    assert caught.value.error_class is ErrorClass.CONFLICT


def test_a_document_without_devices_shows_none() -> None:
    """And is nobody's."""
    document = DomainDocument("<domain/>")
    assert (document.devices, document.active, document.identity) == ((), False, None)
