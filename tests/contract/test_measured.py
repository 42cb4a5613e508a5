"""Situations around spawn and destroy, as libvirt itself answers in them, and what becomes of ours: on a real libvirtd.

The doubles and the table of errors were made from these answers; another libvirt that answers otherwise fails here.
"""

import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID, uuid4

import libvirt
import psutil
import pytest

from models.states import ErrorClass
from tasks.host import Domain, DomainState, Guest, GuestDisk, HostError, Identity
from tests.contract.real_bench import RealBench
from tests.lab.hosts import LibvirtHost

pytestmark = pytest.mark.real

SOON_S = 20.0


@pytest.fixture
def bench(libvirtd_bench: RealBench) -> Iterator[RealBench]:
    """A libvirtd; the next test meets none of this one's domains."""
    yield libvirtd_bench
    libvirtd_bench.clear()


@pytest.fixture
def beside(libvirt_host: LibvirtHost, bench: RealBench) -> Iterator[libvirt.virConnect]:  # noqa: ARG001  # cleared after it
    """A connection of somebody else's."""
    with closing(libvirt.open(libvirt_host.uri)) as connection:
        yield connection


def guest(instance: UUID, *paths: str) -> Guest:
    """A guest whose firmware idles, with those disks."""
    disks = tuple(
        GuestDisk(path, "qcow2", f"vd{letter}", f"ua-{letter}", letter)
        for path, letter in zip(paths, "abc", strict=False)
    )
    return Guest(Identity(instance, "job-1"), "guest", memory_mib=32, vcpus=1, disks=disks)


def started(bench: RealBench, instance: UUID, *paths: str) -> None:
    """Have it run."""
    bench.host.domains.define(guest(instance, *paths))
    bench.host.domains.start(instance)
    bench.host.domains.wait_running(instance, SOON_S)


def seen(bench: RealBench, instance: UUID) -> Domain:
    """The domain, which is there."""
    domain = bench.host.domains.find(instance)
    assert domain is not None
    return domain


def answer(call: Callable[[], object]) -> tuple[int, int]:
    """The code and the domain of libvirt's error."""
    with pytest.raises(libvirt.libvirtError) as caught:
        call()
    return caught.value.get_error_code(), caught.value.get_error_domain()


def refusal(call: Callable[[], object]) -> HostError:
    """The error that ours raises."""
    with pytest.raises(HostError) as caught:
        call()
    return caught.value


def gone(bench: RealBench, instance: UUID) -> None:
    """Killed and undefined without an error, it is not there."""
    bench.host.domains.kill(instance)
    bench.host.domains.undefine(instance)
    assert bench.host.domains.find(instance) is None


def test_destroy_on_a_shut_off_guest(bench: RealBench, beside: libvirt.virConnect, instance: UUID) -> None:
    """OPERATION_INVALID; to ours it is killed already."""
    bench.host.domains.define(guest(instance))
    domain = beside.lookupByUUID(instance.bytes)
    assert answer(domain.destroy) == (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_FROM_DOMAIN)
    gone(bench, instance)


def test_destroy_after_a_transient_guest_is_gone(bench: RealBench, beside: libvirt.virConnect, instance: UUID) -> None:
    """Undefined while it runs it is transient, and with its process it goes: NO_DOMAIN. Ours never makes it so."""
    started(bench, instance)
    domain = beside.lookupByUUID(instance.bytes)
    assert refusal(lambda: bench.host.domains.undefine(instance)).error_class is ErrorClass.TRANSIENT
    assert domain.undefine() == 0
    assert (seen(bench, instance).persistent, seen(bench, instance).state) == (False, DomainState.RUNNING)
    bench.host.domains.kill(instance)
    assert answer(domain.destroy)[0] == libvirt.VIR_ERR_NO_DOMAIN
    assert answer(domain.undefine)[0] == libvirt.VIR_ERR_NO_DOMAIN
    gone(bench, instance)


def test_guest_process_killed_from_outside(bench: RealBench, instance: UUID) -> None:
    """Whether libvirt has noticed or not, it can be killed and undefined at once."""
    started(bench, instance)
    [process] = [
        each.info["pid"]
        for each in psutil.process_iter(["pid", "name", "cmdline"])
        if str(instance) in (each.info["cmdline"] or ()) and "qemu-system" in each.info["name"]
    ]
    os.kill(process, signal.SIGKILL)
    gone(bench, instance)


def test_create_twice(bench: RealBench, beside: libvirt.virConnect, instance: UUID) -> None:
    """OPERATION_INVALID; to ours it is started already, in the same process."""
    started(bench, instance)
    run = seen(bench, instance).run
    domain = beside.lookupByUUID(instance.bytes)
    assert answer(domain.create)[0] == libvirt.VIR_ERR_OPERATION_INVALID
    bench.host.domains.start(instance)
    assert seen(bench, instance).run == run


def test_an_image_already_open_for_write(bench: RealBench, instance: UUID) -> None:
    """QEMU's lock keeps a second guest from it: a conflict, and the guest that has it runs on."""
    other = uuid4()
    path = bench.host.disks.path_for(other, "root", "qcow2")
    bench.host.disks.create(other, path, size_bytes=1024**2, backing=None, epoch=1)
    started(bench, other, path)
    bench.host.domains.define(guest(instance, path))
    refused = refusal(lambda: bench.host.domains.start(instance))
    assert (refused.error_class, refused.record.code) == (ErrorClass.CONFLICT, "INTERNAL_ERROR")
    assert seen(bench, other).state is DomainState.RUNNING
    for remove in (lambda: bench.host.disks.remove(other, path), lambda: bench.host.disks.remove_folder(other)):
        assert refusal(remove).error_class is ErrorClass.TRANSIENT
    assert bench.host.disks.find(other, path) is not None
    gone(bench, instance)
    gone(bench, other)
    bench.host.disks.remove_folder(other)


def test_a_missing_file(bench: RealBench, instance: UUID) -> None:
    """SYSTEM_ERROR with ENOENT: not every one of them is a process that outlived its kill."""
    bench.host.domains.define(guest(instance, "/nonexistent/root.qcow2"))
    refused = refusal(lambda: bench.host.domains.start(instance))
    assert (refused.error_class, refused.record.code) == (ErrorClass.PERMANENT, "SYSTEM_ERROR")
    assert refused.record.errno == errno.ENOENT
    gone(bench, instance)


def test_undefine_with_nvram(bench: RealBench, beside: libvirt.virConnect, instance: UUID, tmp_path: Path) -> None:
    """OPERATION_INVALID without a flag for it; with ours the variables go with the domain."""
    bench.host.domains.define(guest(instance))
    domain = beside.lookupByUUID(instance.bytes)
    variables = tmp_path / "nvram.fd"
    variables.write_bytes(b"boot order")
    firmware = f"<loader readonly='yes' type='pflash'>{tmp_path}/firmware.fd</loader><nvram>{variables}</nvram></os>"
    beside.defineXML(domain.XMLDesc().replace("</os>", firmware))
    assert answer(domain.undefine)[0] == libvirt.VIR_ERR_OPERATION_INVALID
    gone(bench, instance)
    assert not variables.exists()
