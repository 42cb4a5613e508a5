"""Where the parts meet: a worker, built from settings, started in order and stopped in reverse.

The order: journal, hypervisor, lock, registration; then the threads that work; Celery last. A worker whose
broker is away recovers and serves its host all the same.
"""

import logging
import os
import signal
import sys
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Protocol

import migrations
from models.engine import Database
from models.inventory import stopped
from models.journal.asking import Answer, Asked, request_cancel, request_force_complete
from models.journal.claiming import Claimant
from models.journal.closing import disable_host, drain_host, enable_host
from models.journal.deciding import resume, retry, settle_by_hand, skip
from models.reading import job as job_record
from tasks.catalogue import OPERATIONS, Catalogue
from tasks.host import (
    ConfigDrives,
    Devices,
    Disks,
    Domains,
    EarlierWork,
    Host,
    Images,
    Interfaces,
    Migrations,
    Power,
    Volumes,
)
from worker.celery_app import ops, revoking
from worker.celery_app.app import build_app
from worker.celery_app.postman import Postman
from worker.celery_app.process import end_before_serving, keep_our_logging, serve, worker_name
from worker.celery_app.rings import Rings
from worker.consoles import ConsoleKeeper
from worker.doctor.examination import at_start
from worker.doctor.findings import Level
from worker.drift import Comparison, Observer
from worker.hands import Hands
from worker.heartbeat import Heartbeat
from worker.host.facts import HostFacts
from worker.host.hypervisor import Hypervisor
from worker.host.images.room import ImageRules
from worker.ledger.file import LedgerFile
from worker.ledger.writing import Ledger
from worker.retention import Retention
from worker.retrying import Patience
from worker.run import Runner
from worker.settings import ConfigurationError, Settings, VirtType, refuse_half_a_worker, supervisor
from worker.starting import keeper, locked
from worker.sweeper import Sweeper
from worker.vigil import Vigil
from worker.watchdog import Watchdog

log = logging.getLogger(__name__)

#: How long a thread may keep the interpreter from others, in seconds. A worker's threads wait for libvirt and disks,
#: and one that has its answer should go on at once (measured: 2 to 3 ms of a destroy against Python's 5 ms).
SWITCH_INTERVAL_S = 0.0005
#: How long a stopping worker waits for its threads, in seconds; jobs that are cut off are taken up at the next start.
STOP_DEADLINE_S = 30.0


@dataclass(frozen=True)
class ServedHost:
    """The port, fitted: the hypervisor's rooms, and what this worker has in hand."""

    domains: Domains
    devices: Devices
    power: Power
    images: Images
    disks: Disks
    config_drives: ConfigDrives
    volumes: Volumes
    interfaces: Interfaces
    migrations: Migrations
    earlier_work: EarlierWork


def prepare_journal(settings: Settings) -> Database:
    """The journal, at the revision that this program needs; raises ConfigurationError if it is at another.

    A new SQLite file is made; nothing that exists is changed without being asked to.
    """
    database = Database(settings.journal_url)
    if database.file is not None:
        database.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    found, needed = migrations.current(database), migrations.head()
    if found is None and database.file is not None:
        migrations.upgrade(database)
        log.info("a new journal was made: %s", database.file)
    elif found is not None and not migrations.is_known(found):
        raise ConfigurationError(
            f"HOSTLER_DATABASE_URL: the journal is at revision {found}, which this program is too old to know."
        )
    elif found != needed:
        raise ConfigurationError(
            f"HOSTLER_DATABASE_URL: the journal is at revision {found or 'none'}, this program needs {needed}; "
            "run: hostler db upgrade"
        )
    return database


def build_hypervisor(settings: Settings) -> Hypervisor:
    """The hypervisor of the settings; nothing is opened yet."""
    return Hypervisor(
        uri=settings.hypervisor_uri,
        state_folder=str(settings.state_dir),
        image_rules=ImageRules(
            roots=tuple(str(root) for root in settings.roots_of_images),
            urls=settings.permitted_image_urls,
            max_gib=settings.image_max_gib,
            cache_max_gib=settings.image_cache_max_gib,
            timeout_s=settings.image_timeout_s,
        ),
        volume_roots=tuple(str(root) for root in settings.roots_of_volumes),
        volume_devices=settings.permitted_volume_devices,
        nbd_servers=settings.permitted_nbd_servers,
        secrets_folder=str(settings.folder_of_secrets),
        virt_type=None if settings.virt_type is VirtType.AUTO else settings.virt_type.value,
        console_log_max_bytes=settings.console_log_max_mib * 1024**2,
    )


def run_worker(
    settings: Settings,
    *,
    catalogue: Catalogue = OPERATIONS,
    fit: Callable[[Host], Host] = lambda host: host,
    patience: Patience | None = None,
) -> int:
    """Serve this host until a signal ends it; the exit status. Raises ConfigurationError before anything is done.

    ``catalogue``, ``fit`` and ``patience`` are seams: what is run, on which port, and how patiently.
    """
    refuse_half_a_worker(settings)
    keep_our_logging()
    signal.signal(signal.SIGTERM, _stop_in_good_order)  # until Celery takes the signals over
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    log.info("hostler %s, %s", version("hostler"), settings.summary())
    for folder in (settings.state_dir, *settings.roots_of_images, *settings.roots_of_volumes):
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    database = prepare_journal(settings)
    hypervisor = build_hypervisor(settings)
    worker = uuid.uuid4()
    ledger_file = LedgerFile(settings.state_dir / "ledger", settings.host)
    lock = locked(settings, hypervisor, worker)
    try:
        ledger = Ledger(ledger_file)
        hands = Hands(settings.limits, hypervisor.connections.under_way.reinstate)
        recovery = keeper(settings, database, hypervisor, worker, ledger, hands, catalogue)
        recovery.enlist()
        rooms = ServedHost(
            domains=hypervisor.domains,
            devices=hypervisor.devices,
            power=hypervisor.power,
            images=hypervisor.images,
            disks=hypervisor.disks,
            config_drives=hypervisor.config_drives,
            volumes=hypervisor.volumes,
            interfaces=hypervisor.interfaces,
            migrations=hypervisor.migrations,
            earlier_work=hands,
        )
        app = build_app(settings)
        outbox = settings.broker_url is not None or settings.results_url is not None
        postman = Postman(
            app, database, settings.host, worker_name(settings.host), rings=settings.broker_url is not None
        )
        runner = Runner(
            database=database,
            host=fit(rooms),
            claimant=Claimant(worker, settings.host),
            catalogue=catalogue,
            hands=hands,
            ledger=ledger,
            patience=patience or Patience(),
            announcer=postman,
            outbox=outbox,
        )
        sweeper = Sweeper(database, runner, settings.sweeps_every_s)
        revokes = revoking.EarlyRevokes()
        revoking.install(_canceller(database, postman, outbox=outbox), revokes)
        Rings(database, settings.host, catalogue, sweeper, revokes).register(app)
        ops.register(app, _verbs(database, postman, outbox=outbox))
        beat = Heartbeat(database, worker, settings.host, ledger)
        vigil = Vigil(database, worker, settings.host, hypervisor.require_answer)
        observer = _observer(settings, database, hypervisor, rooms)
        watchdog = Watchdog(supervisor(), hypervisor.connections.under_way, hands, sweeper.silent_s)
        housekeepers = (
            Retention(database, settings.retention),
            ConsoleKeeper(hypervisor.console_logs.keep_within_bounds),
        )
        for thread in (postman, beat, recovery, sweeper, observer, vigil, watchdog, *housekeepers):
            thread.start()
        threading.Thread(
            target=_tell_what_is_wrong, args=(settings, hypervisor.facts()), name="doctor", daemon=True
        ).start()
        log.info("worker ready: host=%s worker=%s pid=%d lock=%s", settings.host, worker, os.getpid(), lock.path)
        try:
            return serve(app, settings.host, threads=settings.threads, on_stopping=hands.close)
        finally:
            watchdog.stopping()
            _let_go(hands, sweeper, recovery, observer, *housekeepers)
            postman.stop(STOP_DEADLINE_S)
            vigil.stop()
            beat.stop()
            stopped(database, worker)
    finally:
        ledger_file.close()
        hypervisor.close()
        lock.release()
        database.close()


def _observer(settings: Settings, database: Database, hypervisor: Hypervisor, rooms: Host) -> Observer:
    events = hypervisor.connections.events
    events.follow_all()
    return Observer(Comparison(database, settings.host, rooms), events.news, settings.drift_interval_s)


class _Stoppable(Protocol):
    def stop(self, deadline_s: float) -> None: ...


def _let_go(hands: Hands, *threads: _Stoppable) -> None:
    """Take no new job, and wait for those in hand."""
    hands.close()
    for thread in threads:
        thread.stop(STOP_DEADLINE_S)
    if not hands.wait_empty(STOP_DEADLINE_S):
        log.warning("stopping with jobs in hand, the next start takes them up: %s", ", ".join(hands.held()))


def _stop_in_good_order(_signal: int, _frame: object) -> None:
    """Asked to stop while still starting: start, and then end; each wait on the way there has its deadline.

    An exception from here could come while an import holds Python's lock, and leave it held. Asked twice, it is raised.
    """
    if end_before_serving():
        sys.exit(0)


def _tell_what_is_wrong(settings: Settings, facts: HostFacts) -> None:
    """Each of the doctor's complaints as a line of the log; the worker serves its host all the same."""
    for finding in at_start(settings, facts):
        if finding.level is not Level.OK:
            level = logging.ERROR if finding.level is Level.PROBLEM else logging.WARNING
            log.log(level, "doctor: %s", finding.line)


def _verbs(database: Database, postman: Postman, *, outbox: bool) -> dict[str, ops.Verb]:
    def of_hosts(decide: Callable[[Database, str, Asked], Answer]) -> ops.Verb:
        return lambda host, asked: decide(database, host, asked)

    def telling(decide: Callable[..., Answer], **fixed: object) -> Callable[..., Answer]:
        def ask(job: str, asked: Asked, **options: object) -> Answer:
            answer = decide(database, job, asked, **fixed, **options)
            postman.left_in_outbox(job)
            return answer

        return ask

    return {
        "job_cancel": telling(request_cancel, outbox=outbox),
        "job_force_complete": telling(request_force_complete),
        "job_retry": telling(retry, outbox=outbox),
        "job_resume": telling(resume, outbox=outbox),
        "job_skip": telling(skip),
        "job_settle": telling(settle_by_hand, outbox=outbox),
        "host_disable": of_hosts(disable_host),
        "host_drain": of_hosts(drain_host),
        "host_enable": of_hosts(enable_host),
    }


def _canceller(database: Database, postman: Postman, *, outbox: bool) -> Callable[[str, str], Answer | None]:
    def cancel(job_id: str, reason: str) -> Answer | None:
        if job_record(database, job_id) is None:
            return None
        answer = request_cancel(database, job_id, Asked("celery:revoke", reason), outbox=outbox)
        postman.left_in_outbox(job_id)
        return answer

    return cancel
