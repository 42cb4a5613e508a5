"""What must be true of an instance once all faults are over: asked of hosts and database, without Hostler's code."""

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import libvirt
from sqlalchemy import Engine, create_engine, text

from tests.lab.hosts import LibvirtHost
from tests.lab.site import Site
from tests.lab.site_pair import SitePair

FINAL = {"succeeded", "failed", "cancelled"}
#: The operations' steps that are taken on the other host of a job, told once more, by hand.
AT_PEER = {
    "DestinationFits",
    "DestinationFilesMade",
    "DestinationVolumesConnected",
    "DestinationInterfacesPlugged",
    "DestinationOpen",
    "DomainPersistent",
    "OtherHalfRemoved",
}


class Ledger:
    """A journal's tables, asked in plain SQL."""

    def __init__(self, url: str) -> None:
        self._engine: Engine = create_engine(url, pool_pre_ping=True)  # its server may be killed

    def rows(self, query: str, **values: object) -> list[Mapping[str, Any]]:
        """The rows that the query finds."""
        with self._engine.connect() as connection:
            return [_read(row) for row in connection.execute(text(query), values).mappings()]

    def job(self, job_id: str) -> Mapping[str, Any]:
        """The job's row."""
        [row] = self.rows("SELECT * FROM jobs WHERE id = :job", job=job_id)
        return row

    def home_of(self, instance: UUID) -> tuple[str | None, str]:
        """Which host the inventory names for the instance, and its state there."""
        # SQLite keeps a UUID as its 32 digits, PostgreSQL has a type for it and accepts both forms.
        [row] = self.rows("SELECT host, state FROM instances WHERE id = :of", of=instance.hex)
        return row["host"], row["state"]

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()


def _read(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row, with its documents read, which SQLite keeps as text; an attempt's outcome is a word."""
    return {name: json.loads(value) if _is_document(name, value) else value for name, value in row.items()}


def _is_document(name: str, value: object) -> bool:
    return name in {"data", "outcome"} and isinstance(value, str) and value.startswith("{")


def job_faults(ledger: Ledger, job_id: str) -> list[str]:
    """What is wrong with how the journal tells of a job that ought to be over."""
    job = ledger.job(job_id)
    found = []
    if job["state"] not in FINAL:
        found.append(f"the job is {job['state']}: {job['error']}")
    if job["owner"] is not None or job["progress"] is not None or job["hopping"]:
        found.append(f"the job is still in hand: owner={job['owner']} hopping={job['hopping']} {job['progress']}")
    found += _event_faults(ledger, job) + _step_faults(ledger, job) + _attempt_faults(ledger, job)
    outcomes = ledger.rows("SELECT * FROM outbox WHERE job = :job AND kind = 'outcome'", job=job_id)
    if len(outcomes) > 1:
        found.append(f"its outcome is told {len(outcomes)} times")
    return found


def _event_faults(ledger: Ledger, job: Mapping[str, Any]) -> list[str]:
    events = ledger.rows("SELECT type, data FROM job_events WHERE job = :job ORDER BY number", job=job["id"])
    kinds = [event["type"] for event in events]
    found = []
    if [kind for kind in kinds if kind in FINAL] != [job["state"]]:
        found.append(f"its final events are {[kind for kind in kinds if kind in FINAL]}, and its state {job['state']}")
    if kinds[-1] not in FINAL or kinds[0] != "submitted":
        found.append(f"its history is {kinds}")
    epochs = [event["data"]["epoch"] for event in events if event["type"] == "claimed"]
    if epochs != sorted(set(epochs)) or epochs[-1:] != [job["epoch"]]:
        found.append(f"its epochs are {epochs}, and the last is said to be {job['epoch']}")
    if kinds.count("past_return") > 1:
        found.append("it passed its point of no return twice")
    return found


def _step_faults(ledger: Ledger, job: Mapping[str, Any]) -> list[str]:
    rows = ledger.rows("SELECT * FROM steps WHERE job = :job AND run = :run", job=job["id"], run=job["run"])
    made = [row for row in rows if row["direction"] == "do"]
    undone = [row for row in rows if row["direction"] == "undo"]
    found = [f"step {row['name']} is of epoch {row['epoch']}" for row in rows if row["epoch"] != job["epoch"]]
    if job["state"] == "succeeded":
        found += [f"step {row['name']} is {row['state']}" for row in made if row["state"] in {"pending", "intended"}]
        found += [f"step {row['name']} was undone" for row in undone]
    else:
        found += [f"the undo of {row['name']} is {row['state']}" for row in undone if row["state"] != "done"]
    for row in rows:
        there = job["peer"] if job["peer"] is not None and row["name"] in AT_PEER else job["home"]
        if row["state"] not in {"pending", "skipped"} and row["host"] != there:
            found.append(f"step {row['name']} was taken on {row['host']}, and is {there}'s")
    return found


def _attempt_faults(ledger: Ledger, job: Mapping[str, Any]) -> list[str]:
    attempts = ledger.rows("SELECT * FROM step_attempts WHERE job = :job AND run = :run", job=job["id"], run=job["run"])
    counted = Counter((row["direction"], row["position"]) for row in attempts)
    rows = ledger.rows("SELECT * FROM steps WHERE job = :job AND run = :run", job=job["id"], run=job["run"])
    return [
        f"step {row['name']} counts {row['attempts']} attempts, and has {counted[row['direction'], row['position']]}"
        for row in rows
        if row["attempts"] != counted[row["direction"], row["position"]]
    ]


def place_faults(pair: SitePair, ledger: Ledger, instance: UUID) -> list[str]:
    """What is wrong with where it is: it runs once, where the inventory says, and nothing of it is elsewhere."""
    home, state = ledger.home_of(instance)
    found = [] if state == "running" else [f"the inventory says that it is {state}"]
    running = []
    for site, host in zip(pair.sites, (pair.hosts.first, pair.hosts.second), strict=True):
        domain, processes = _domain(host, instance), [pid for pid in host.qemu_pids() if _is_of(pid, instance)]
        if site.host == home:
            if domain != ("running", True):
                found.append(f"on {home}, where the inventory has it, libvirt shows {domain}")
            if len(processes) != 1:
                found.append(f"{len(processes)} QEMUs of it are on {home}")
        else:
            if domain is not None:
                found.append(f"{site.host} has a domain of it: {domain}")
            if processes:
                found.append(f"{site.host} has a QEMU of it: {processes}")
            if left := files_of(site, instance):
                found.append(f"{site.host} has files of it: {left}")
        running += [site.host] * len(processes)
    if running != [home]:
        found.append(f"it is on {running}, and the inventory says {home}")
    return found


def files_of(site: Site, instance: UUID) -> list[str]:
    """What lies on the host under the instance's name."""
    return [file for file in site.files() if file.startswith(str(instance))]


def _is_of(pid: int, instance: UUID) -> bool:
    try:
        return str(instance) in Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:
        return False


def _domain(host: LibvirtHost, instance: UUID) -> tuple[str, bool] | None:
    """Whether libvirt shows the domain running, and defined; None for no domain."""
    with closing(libvirt.open(host.uri)) as connection:
        try:
            domain = connection.lookupByUUID(instance.bytes)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise
        state, reason = domain.state()
        return "running" if state == libvirt.VIR_DOMAIN_RUNNING else f"{state}/{reason}", bool(domain.isPersistent())
