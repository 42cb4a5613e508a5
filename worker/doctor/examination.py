"""Which checks there are: all of them for `hostler doctor`, and those of a worker's start."""

from collections.abc import Sequence
from typing import Final

from worker.celery_app.reaching import OutOfReachError, require_answer
from worker.doctor import hypervisor, places
from worker.doctor.findings import Check, Finding, Level, examine, fine, problem
from worker.doctor.journal import journal
from worker.host.facts import HostFacts
from worker.settings import RESULTS_BY_BROKER, ConfigurationError, Settings, masked, refuse_half_a_worker

BROKER_DEADLINE_S: Final = 5
JOURNAL_DEADLINE_S: Final = 15.0
#: libvirt asks every QEMU on a new host, which takes seconds; a daemon that hangs is found after 5 s.
LIBVIRT_DEADLINE_S: Final = 45.0
#: Files, mounts and programs; a dead network file system hangs whoever looks at it.
PLACES_DEADLINE_S: Final = 10.0
_FILES: Final = "the file system does not answer: see the kernel's log"


def examination(settings: Settings) -> list[Finding]:
    """All that can be told of the host, running or not."""
    return examine(
        [
            Check(("settings",), lambda: [_settings(settings)], PLACES_DEADLINE_S, "see README"),
            *_of_places(settings),
            Check(
                hypervisor.NAMES,
                lambda: hypervisor.hypervisor(settings),
                LIBVIRT_DEADLINE_S,
                "see libvirtd's log, and restart it",
            ),
            *_of_services(settings),
        ]
    )


def at_start(settings: Settings, facts: HostFacts) -> list[Finding]:
    """What a starting worker, which has opened libvirt and the journal, still does not know."""
    return examine(
        [
            *_of_places(settings),
            Check(
                hypervisor.OF_FACTS,
                lambda: hypervisor.of_facts(settings, facts),
                PLACES_DEADLINE_S,
                "see libvirt's log",
            ),
            *_of_services(settings),
        ]
    )


def _settings(settings: Settings) -> Finding:
    try:
        refuse_half_a_worker(settings)
    except ConfigurationError as error:
        return problem("settings", str(error), "the worker refuses to start until then")
    return fine("settings", settings.summary())


def _of_places(settings: Settings) -> list[Check]:
    folder = settings.state_dir
    sockets = [
        (setting, path)
        for setting, uri in (
            ("HOSTLER_LIBVIRT_URI", settings.hypervisor_uri),
            ("HOSTLER_DATABASE_URL", settings.journal_url),
            ("HOSTLER_BROKER_URL", settings.broker_url or ""),
        )
        if (path := places.socket_of_uri(uri)) is not None
    ]
    locks = settings.embedded_root or settings.lock_dir
    return [
        Check(("state_folder",), lambda: [places.state_folder(folder)], PLACES_DEADLINE_S, _FILES),
        Check(("space",), lambda: [places.space(folder)], PLACES_DEADLINE_S, _FILES),
        Check(("lock_folder",), lambda: [places.lock_folder(locks)], PLACES_DEADLINE_S, _FILES),
        Check(("socket_path",), lambda: [places.socket_paths(sockets)], PLACES_DEADLINE_S, _FILES),
        Check(("qemu_img",), lambda: [places.qemu_img()], PLACES_DEADLINE_S, _FILES),
    ]


def _of_services(settings: Settings) -> list[Check]:
    return [
        Check(
            ("database", "clock", "recovery"), lambda: journal(settings), JOURNAL_DEADLINE_S, "see the database's log"
        ),
        Check(("broker",), lambda: [_broker(settings)], 3 * BROKER_DEADLINE_S, "see the broker's log"),
    ]


def _broker(settings: Settings) -> Finding:
    if settings.broker_url is None:
        return fine("broker", "none: the worker finds jobs in the journal")
    try:
        for url in dict.fromkeys((settings.broker_url, settings.results_url)):
            if url is not None and url != RESULTS_BY_BROKER:
                require_answer(url, BROKER_DEADLINE_S)
    except OutOfReachError as error:
        return problem(
            "broker", str(error), "start it, or set HOSTLER_BROKER_URL; jobs in the journal go on without it"
        )
    return fine("broker", f"{masked(settings.broker_url)} answers")


def is_well(found: Sequence[Finding]) -> bool:
    """Whether nothing of it is a problem."""
    return not any(finding.level is Level.PROBLEM for finding in found)
