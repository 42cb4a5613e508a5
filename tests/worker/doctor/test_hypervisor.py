"""What is told of a hypervisor by its facts."""

import json
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from worker.doctor.findings import Level
from worker.doctor.hypervisor import versions, virt_type
from worker.doctor.qemu_user import apparmor
from worker.host.facts import HostFacts, facts_from
from worker.settings import Settings, VirtType

CAPABILITIES = """
<capabilities>
  <host>
    <uuid>6f1d1f0e-6d3c-4d3c-9d6e-0d6f6a1c2b3d</uuid><cpu><arch>x86_64</arch></cpu>
    <secmodel><model>apparmor</model><doi>0</doi></secmodel>
    <secmodel>
      <model>dac</model><doi>0</doi>
      <baselabel type='kvm'>+64055:+109</baselabel><baselabel type='qemu'>+64055:+109</baselabel>
    </secmodel>
  </host>
  <guest><os_type>hvm</os_type><arch name='x86_64'><domain type='qemu'/></arch></guest>
</capabilities>"""


def facts(libvirt: int = 9_000_000, qemu: int = 7_002_000) -> HostFacts:
    """A host without KVM, at these versions as libvirt counts them."""
    return facts_from(CAPABILITIES, libvirt, qemu)


def test_the_user_and_the_security_models_are_read() -> None:
    """As libvirt tells them."""
    assert facts().qemu_user == (64055, 109)
    assert facts().security_models == {"apparmor", "dac"}
    assert facts().host_uuid == UUID("6f1d1f0e-6d3c-4d3c-9d6e-0d6f6a1c2b3d")


def test_what_is_registered_can_be_read_again() -> None:
    """The doctor judges a worker's word as its own."""
    registered = json.loads(json.dumps(facts().document))

    assert HostFacts.of_document(facts().host_uuid, registered) == facts()


@pytest.mark.parametrize(
    ("libvirt", "qemu", "line"),
    [
        (9_000_000, 7_002_000, "versions: libvirt 9.0.0, QEMU 7.2.0"),
        (8_010_000, 7_002_000, "versions: libvirt 8.10.0 is older than 9.0.0; update libvirt"),
        (9_000_000, 6_002_001, "versions: QEMU 6.2.1 is older than 7.2.0; update QEMU"),
    ],
)
def test_old_versions(libvirt: int, qemu: int, line: str) -> None:
    """The oldest that will do, and the ones before."""
    assert versions(facts(libvirt, qemu)).line == line


@pytest.mark.parametrize(
    ("wanted", "uri", "level"),
    [
        (VirtType.KVM, None, Level.PROBLEM),
        (VirtType.AUTO, "qemu:///system", Level.PROBLEM),
        (VirtType.AUTO, None, Level.WARNING),
        (VirtType.QEMU, "qemu:///system", Level.OK),
    ],
)
def test_a_host_without_kvm(wanted: VirtType, uri: str | None, level: Level, tmp_path: Path) -> None:
    """It is told unless emulation is what the settings say; only the embedded driver emulates unasked."""
    settings = Settings(virt_type=wanted, libvirt_uri=uri)
    (tmp_path / "kvm").touch()
    assert virt_type(settings, facts(), tmp_path / "kvm").level is level  # libvirt offers none
    with_kvm = replace(facts(), domain_types=frozenset({"kvm", "qemu"}))
    assert virt_type(settings, with_kvm, tmp_path / "none").level is level  # the device is not there
    assert virt_type(settings, with_kvm, tmp_path / "kvm").level is Level.OK


def test_apparmor_is_asked_for_by_its_profile(tmp_path: Path) -> None:
    """The helper that writes guests' profiles must be let into the state folder."""
    folder = Path("/srv/guests")
    (tmp_path / "local").mkdir()
    profile, local = (tmp_path / each / "usr.lib.libvirt.virt-aa-helper" for each in (".", "local"))
    profile.write_text("/var/lib/libvirt/** r,\n")
    models = facts().security_models

    found = apparmor(models, [folder], tmp_path)
    assert (found.level, f"add the line '{folder}/** r,'" in found.do) == (Level.WARNING, True)
    assert apparmor(models - {"apparmor"}, [folder], tmp_path).level is Level.OK
    local.write_text(f"  {folder}/** r,\n")
    assert apparmor(models, [folder], tmp_path).level is Level.OK
    assert apparmor(models, [Path("/var/lib/libvirt/hostler")], tmp_path).level is Level.OK
