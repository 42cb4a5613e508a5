"""Starting: what a worker does before it takes its first job, so that nobody else serves its host, and all is told."""

import logging
import os
import uuid
from collections.abc import Callable
from importlib.metadata import version
from uuid import UUID

from models.engine import Database
from models.inventory import Registration
from tasks.catalogue import Catalogue
from tasks.host import HostError
from worker.after_boot import start_after_boot
from worker.doctor.findings import Finding, Level
from worker.doctor.hypervisor import versions
from worker.doctor.places import lock_folder
from worker.hands import Hands
from worker.host.hypervisor import Hypervisor
from worker.host.lock import HostLock
from worker.host.machine import boot_id, machine_id
from worker.ledger.writing import Ledger
from worker.recovery.keeper import RecoveryKeeper
from worker.settings import ConfigurationError, Settings

log = logging.getLogger(__name__)


def locked(settings: Settings, hypervisor: Hypervisor, worker: UUID) -> HostLock:
    """Take the lock; the embedded driver is opened only after that, for it allows one process per root."""
    _refuse(lock_folder(settings.embedded_root or settings.lock_dir))
    if settings.embedded_root is not None:
        lock = HostLock.of_embedded(settings.embedded_root)
    else:
        facts = hypervisor.facts()
        lock = HostLock.of_driver(settings.lock_dir, facts.host_uuid, settings.hypervisor_uri)
    lock.acquire(worker)
    _end_what_was_left(hypervisor.disks.end_all_children)
    return lock


def _end_what_was_left(end_all_children: Callable[[], int]) -> None:
    """This worker has no children yet. One that does not end holds up the jobs of its instance, not the host."""
    try:
        if left := end_all_children():
            log.warning("programs that an earlier worker had left at work were ended: %d", left)
    except HostError as error:
        log.error("a program that an earlier worker had left at work goes on: %s", error)  # noqa: TRY400  # told in full


def keeper(  # noqa: PLR0913, PLR0917  # all that it compares
    settings: Settings,
    database: Database,
    hypervisor: Hypervisor,
    worker: UUID,
    ledger: Ledger,
    hands: Hands,
    catalogue: Catalogue,
) -> RecoveryKeeper:
    """Who registers the host; its guests are started after a boot once nothing is amiss with its journal."""

    def served() -> None:
        start_after_boot(database, catalogue, settings.host, boot_id(), enabled=settings.start_after_boot)

    return RecoveryKeeper(
        database,
        _registration(settings, hypervisor, worker),
        ledger,
        hands=hands,
        domains=hypervisor.domains,
        marks=hypervisor.disks.epochs,
        served=served,
    )


def _registration(settings: Settings, hypervisor: Hypervisor, worker: UUID) -> Registration:
    machine = machine_id(settings.state_dir)
    facts = hypervisor.facts()
    _refuse(versions(facts))
    # An embedded driver on a machine without SMBIOS makes up a host UUID at each start; its root does not change.
    root = settings.embedded_root
    host_uuid = facts.host_uuid if root is None else uuid.uuid5(uuid.NAMESPACE_URL, f"{machine}{root}")
    return Registration(
        host=settings.host,
        machine_id=machine,
        libvirt_host_uuid=host_uuid,
        libvirt_uri=settings.hypervisor_uri,
        worker=worker,
        pid=os.getpid(),
        version=version("hostler"),
        peer_libvirt_uri=settings.peer_libvirt_uri,
        migration_address=settings.address_for_migrations,
        capabilities=facts.document,
        inventory=hypervisor.inventory(),
    )


def _refuse(finding: Finding) -> None:
    """A host that a worker cannot serve safely is not served."""
    if finding.level is Level.PROBLEM:
        raise ConfigurationError(f"{finding.line}.")
