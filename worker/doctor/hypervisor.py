"""libvirt and QEMU: whether they answer, which they are, how guests run, and how other hosts reach them.

A libvirt daemon is asked over a connection of the doctor's own. The driver embedded in a worker is not: one process
per root may open it. Where a worker holds its lock, what that worker registered stands for it; where none does, the
doctor takes the lock for as long as it looks; where there is no root yet, it looks in one that it makes for itself.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

from sqlalchemy.exc import SQLAlchemyError

from models.engine import Database, DatabaseURLError
from models.reading import HostRecord, list_hosts
from tasks.host import HostError
from worker.doctor.findings import Finding, fine, problem, unknown, warning
from worker.doctor.qemu_user import apparmor, qemu_user
from worker.host.connections import Connections
from worker.host.facts import HostFacts, read_facts
from worker.host.lock import HostLock, HostLockedError
from worker.host.platforms import KVM, KVM_DEVICE, lack_of_kvm
from worker.settings import Settings, VirtType

#: What Debian 12 has; older ones are not tested.
OLDEST_LIBVIRT: Final = (9, 0, 0)
OLDEST_QEMU: Final = (7, 2, 0)
#: How long a connection may take to open: a daemon that is well takes milliseconds.
OPEN_DEADLINE_S: Final = 5.0

#: What is found of a libvirt that answers.
OF_FACTS: Final = ("versions", "virt_type", "qemu_user", "apparmor")
NAMES: Final = ("libvirt", *OF_FACTS, "peer")


def hypervisor(settings: Settings) -> Sequence[Finding]:
    """What libvirt, QEMU and the way to them are like."""
    try:
        with _facts(settings) as facts:
            return [
                fine("libvirt", f"{settings.hypervisor_uri} answers"),
                *of_facts(settings, facts),
                _peer(settings, facts),
            ]
    except HostLockedError:
        return _of_its_worker(settings)
    except HostError as error:
        return [problem("libvirt", f"{settings.hypervisor_uri}: {error}", _what_to_start(settings))]


def _of_its_worker(settings: Settings) -> Sequence[Finding]:
    """What the worker that has the embedded driver told the journal; it alone may ask the driver."""
    host = _registered(settings)
    if host is None or host.capabilities is None:
        why = "its worker alone may ask the embedded driver, and the journal has no word of it"
        return [fine("libvirt", "a worker is alive on it"), *(unknown(name, why) for name in NAMES[1:])]
    if host.down_because is not None:
        return [problem("libvirt", f"its worker (pid {host.worker_pid}) says: {host.down_because}", "see its log")]
    try:
        facts = HostFacts.of_document(host.libvirt_host_uuid, host.capabilities)
    except (KeyError, ValueError):
        why = f"it is another revision's word of pid {host.worker_pid}, which alone may ask the embedded driver"
        return [fine("libvirt", "a worker is alive on it"), *(unknown(name, why) for name in NAMES[1:])]
    said = f"its worker (pid {host.worker_pid}) has it; what follows of it was registered at that worker's start"
    return [fine("libvirt", said), *of_facts(settings, facts), _peer(settings, facts)]


def _registered(settings: Settings) -> HostRecord | None:
    """The host's row; None where there is none, or no journal that could be read: that is another check's."""
    try:
        database = Database(settings.journal_url)
    except DatabaseURLError:
        return None
    try:
        if database.file is not None and not database.file.exists():
            return None
        return next((host for host in list_hosts(database) if host.name == settings.host), None)
    except SQLAlchemyError:
        return None
    finally:
        database.close()


def of_facts(settings: Settings, facts: HostFacts) -> Sequence[Finding]:
    """What follows from the facts; `OF_FACTS` names it."""
    folders = (settings.state_dir, *settings.roots_of_images)
    return [
        versions(facts),
        virt_type(settings, facts),
        qemu_user(facts.qemu_user, folders),
        apparmor(facts.security_models, folders),
    ]


def versions(facts: HostFacts) -> Finding:
    """Whether libvirt and QEMU are new enough."""
    libvirt, qemu = _dotted(facts.libvirt_version), _dotted(facts.qemu_version)
    if facts.libvirt_version < OLDEST_LIBVIRT:
        return problem("versions", f"libvirt {libvirt} is older than {_dotted(OLDEST_LIBVIRT)}", "update libvirt")
    if facts.qemu_version < OLDEST_QEMU:
        return problem("versions", f"QEMU {qemu} is older than {_dotted(OLDEST_QEMU)}", "update QEMU")
    return fine("versions", f"libvirt {libvirt}, QEMU {qemu}")


def virt_type(settings: Settings, facts: HostFacts, kvm_device: Path = KVM_DEVICE) -> Finding:
    """Whether guests can run as the settings want them to."""
    lack = lack_of_kvm(facts, kvm_device)
    repair = f"load the kernel's module (kvm_intel, kvm_amd) and let the worker and QEMU open {kvm_device}"
    match settings.virt_type:
        case VirtType.KVM if lack:
            what = f"HOSTLER_VIRT_TYPE is kvm, and there is none ({lack})"
            return problem("virt_type", what, f"{repair}, switch virtualization on in the firmware, or set it to qemu")
        case VirtType.AUTO if lack and settings.embedded_root is None:
            what = f"the host has no KVM ({lack}): spawns are refused"
            return problem("virt_type", what, f"{repair}, or set HOSTLER_VIRT_TYPE=qemu to have guests emulated")
        case VirtType.AUTO if lack:
            what = f"the host has no KVM ({lack}): guests are emulated, which is slow"
            return warning("virt_type", what, f"{repair}, or set HOSTLER_VIRT_TYPE=qemu if that is meant")
        case VirtType.QEMU if not lack:
            return fine("virt_type", "qemu, as HOSTLER_VIRT_TYPE says; the host has KVM")
        case VirtType.AUTO:
            return fine("virt_type", KVM)
        case _:
            return fine("virt_type", settings.virt_type)


def _peer(settings: Settings, facts: HostFacts) -> Finding:
    """Whether what answers at the address that other hosts use is this host's libvirt."""
    uri = settings.peer_libvirt_uri
    if uri is None:
        return fine("peer", "no other host migrates guests to this one (HOSTLER_PEER_LIBVIRT_URI is not set)")
    if not settings.address_for_migrations:
        return problem("peer", f"{uri} names no host, and no address for migrations", "set HOSTLER_MIGRATION_ADDRESS")
    connections = Connections(uri, open_deadline_s=OPEN_DEADLINE_S)
    try:
        answers = read_facts(connections)
    except HostError as error:
        return problem("peer", f"{uri}: {error}", "check that libvirtd listens there, and its certificates")
    finally:
        connections.close()
    if answers.host_uuid != facts.host_uuid:
        return problem(
            "peer",
            f"at {uri} answers libvirt host {answers.host_uuid}, and this is {facts.host_uuid}",
            "set HOSTLER_PEER_LIBVIRT_URI to this host's own address",
        )
    return fine("peer", f"{uri} leads here; memory and disks of guests come to {settings.address_for_migrations}")


@contextmanager
def _facts(settings: Settings) -> Iterator[HostFacts]:
    root = settings.embedded_root
    if root is None:
        yield _read(settings.hypervisor_uri)
    elif root.exists():
        lock = HostLock.of_embedded(root)
        lock.acquire(uuid4())
        try:
            yield _read(settings.hypervisor_uri)
        finally:
            lock.release()
    else:
        with tempfile.TemporaryDirectory(prefix="hostler-", ignore_cleanup_errors=True) as made:
            yield _read(f"qemu:///embed?root={Path(made).resolve()}")


def _read(uri: str) -> HostFacts:
    connections = Connections(uri, open_deadline_s=OPEN_DEADLINE_S)
    try:
        return read_facts(connections)
    finally:
        connections.close()


def _what_to_start(settings: Settings) -> str:
    if settings.embedded_root is not None:
        return "install libvirt-daemon-driver-qemu and qemu-system, and make the account libvirt-qemu"
    return "start (or restart) libvirtd, and let this user reach its socket; see its log"


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))
