"""A definition that libvirt would refuse to remove, on a real libvirtd."""

from contextlib import closing
from uuid import UUID

import libvirt
import pytest

from tasks.host import Guest, Identity
from tests.contract.real_bench import RealBench
from tests.lab.hosts import LibvirtHost

pytestmark = pytest.mark.real

#: A guest without disks has nothing to take a snapshot of; what libvirt remembers of one can be given to it.
_REDEFINE = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
_SNAPSHOT = (
    "<domainsnapshot><name>kept</name><state>shutoff</state><creationTime>1</creationTime><memory snapshot='no'/>"
)


def test_undefine_with_a_managed_save_image_and_with_snapshot_metadata(
    libvirtd_bench: RealBench, libvirt_host: LibvirtHost, instance: UUID
) -> None:
    """Libvirt refuses both without a flag for each; the domain goes with them, and none of them stays."""
    domains = libvirtd_bench.host.domains
    domains.define(Guest(Identity(instance, "job-1"), "kept", memory_mib=32, vcpus=1))
    with closing(libvirt.open(libvirt_host.uri)) as connection:
        domain = connection.lookupByUUID(instance.bytes)
        domain.snapshotCreateXML(_SNAPSHOT + domain.XMLDesc() + "</domainsnapshot>", _REDEFINE)
        domains.start(instance)
        domain.managedSave()
        assert (domain.hasManagedSaveImage(), domain.snapshotNum()) == (1, 1)
        with pytest.raises(libvirt.libvirtError, match="1 snapshots"):
            domain.undefine()
        with pytest.raises(libvirt.libvirtError, match="managed save"):
            domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA)
        domains.undefine(instance)
        assert domains.find(instance) is None
        domains.define(Guest(Identity(instance, "job-2"), "kept", memory_mib=32, vcpus=1))
        again = connection.lookupByUUID(instance.bytes)
        assert (again.hasManagedSaveImage(), again.snapshotNum()) == (0, 0)
    domains.undefine(instance)
