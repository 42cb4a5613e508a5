"""What guests are made to run on: KVM where it opens; what becomes of a host without it."""

from pathlib import Path
from uuid import uuid4

import pytest

from models.states import ErrorClass
from tasks.host import HostError, Platform
from worker.host.facts import HostFacts
from worker.host.platforms import Platforms

MACHINES = {"q35": "pc-q35-7.2", "pc-q35-7.2": "pc-q35-7.2", "pc-q35-6.0": "pc-q35-6.0"}


def platforms(device: Path, *types: str, virt_type: str | None = None, may_emulate: bool = False) -> Platforms:
    """Of a host that offers these domain types."""
    facts = HostFacts(uuid4(), (9, 0, 0), (7, 2, 0), "x86_64", frozenset(types), MACHINES)
    return Platforms(lambda: facts, virt_type, may_emulate=may_emulate, kvm_device=device)


@pytest.fixture
def kvm(tmp_path: Path) -> Path:
    """A device that opens."""
    device = tmp_path / "kvm"
    device.touch()
    return device


def test_kvm_is_taken_where_it_opens(kvm: Path) -> None:
    """And nothing is to be said of it."""
    host = platforms(kvm, "kvm", "qemu")
    assert host.choose("q35") == Platform("kvm", "pc-q35-7.2")


def test_a_machine_is_fixed_with_its_version(kvm: Path) -> None:
    """One that has a version keeps it; one that the host lacks is refused, with what there is."""
    host = platforms(kvm, "kvm")
    assert host.choose("pc-q35-6.0").machine_type == "pc-q35-6.0"
    with pytest.raises(
        HostError, match=r"machine_type: this host has no pc-q35-9\.9; its q35 is pc-q35-7\.2"
    ) as refusal:
        host.choose("pc-q35-9.9")
    assert refusal.value.error_class is ErrorClass.PERMANENT


def test_a_daemons_host_without_kvm_refuses_spawns_and_says_what_to_do(tmp_path: Path) -> None:
    """Emulation is many times slower: nobody gets it unasked."""
    host = platforms(tmp_path / "none", "qemu")
    with pytest.raises(HostError, match=r"No such file.*: repair KVM, or set HOSTLER_VIRT_TYPE=qemu") as refusal:
        host.choose("q35")
    assert refusal.value.error_class is ErrorClass.PERMANENT


def test_kvm_that_libvirt_does_not_offer_is_none(kvm: Path) -> None:
    """Its QEMU may lack it."""
    with pytest.raises(HostError, match="libvirt offers no domains of the type kvm"):
        platforms(kvm, "qemu").choose("q35")


def test_the_embedded_driver_falls_back_with_a_warning(tmp_path: Path) -> None:
    """Said at the start, and with every guest."""
    host = platforms(tmp_path / "none", "qemu", may_emulate=True)
    platform = host.choose("q35")
    assert platform.virt_type == "qemu"
    assert platform.warning is not None
    assert "No such file" in platform.warning


@pytest.mark.parametrize("virt_type", ["kvm", "qemu"])
def test_an_operators_word_is_taken_as_it_is(tmp_path: Path, virt_type: str) -> None:
    """Without a warning; libvirt says what it cannot do."""
    host = platforms(tmp_path / "none", "qemu", virt_type=virt_type)
    assert host.choose("q35") == Platform(virt_type, "pc-q35-7.2")
