"""A site: one host served by a real worker process, with its state folder, its environment and the command line.

The hypervisor is a lab host's libvirtd, or libvirt's driver embedded in the worker.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

import psutil

from models import reading
from models.engine import Database
from models.journal.accepting import accept
from tasks.catalogue import OPERATIONS
from tasks.submission import read_submission
from tests.lab import qemu_log
from tests.lab.enclosure import enclosed, qemu_account
from tests.lab.hosts import LibvirtHost
from tests.lab.mount_points import ensure_mount_points
from tests.lab.namespaces import inside
from tests.lab.places import CACHE, CHECKOUT, scratch_folder
from tests.lab.processes import Process
from tests.lab.waiting import eventually
from worker.cli.documents import job_details_document

READY_WITHIN_S = 30.0
COMMAND_WITHIN_S = 60.0
READY_LINE = "worker ready"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Site:
    """A host and its worker. Leaving the context ends the worker and, on the embedded driver, its guests.

    A worker in a `network_namespace` reaches its journal and its broker by UNIX sockets, and other hosts by the links
    of that network; the command line, which only asks the journal, runs outside.
    """

    def __init__(
        self,
        *,
        libvirt: LibvirtHost | None = None,
        network_namespace: str | None = None,
        host: str = "h1",
        database_url: str | None = None,
        broker_url: str | None = None,
        settings: dict[str, str] | None = None,
        surroundings: dict[str, str] | None = None,
        worker_command: Sequence[str] = ("-m", "worker.cli", "worker"),
    ) -> None:
        self.host = host
        self._libvirt = libvirt
        self._network_namespace = network_namespace
        self._given = {"DATABASE_URL": database_url, "BROKER_URL": broker_url, **(settings or {})}
        self._surroundings = surroundings or {}  # variables that are no settings
        self._command = worker_command
        self._cleanup = ExitStack()
        self._starts = 0
        self._ready_before = 0
        self._worker: Process | None = None
        self._database: Database | None = None

    def __enter__(self) -> Self:
        self.folder = self._cleanup.enter_context(scratch_folder("site"))
        self.state = self.folder / "s"
        self.images = self.state / "images"
        self.images.mkdir(parents=True)
        if self._libvirt is None:
            capabilities = self.state / "libvirt/cache/qemu/capabilities"
            capabilities.mkdir(parents=True)
            for known in (CACHE / "capabilities").glob("*.xml"):  # or the first look at QEMU takes 8 s
                shutil.copy2(known, capabilities)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            sys.stderr.write(f"--- the worker of {self.host} said:\n{self.log[-6000:]}\n")
        if self._database is not None:
            self._database.close()
        self._cleanup.close()

    @property
    def environment(self) -> dict[str, str]:
        """What the worker and the command line are told."""
        told = {
            "STATE_DIR": str(self.state),
            "HOST": self.host,
            "VIRT_TYPE": "qemu",
            "IMAGE_ROOTS": f"{self.images}:{CACHE}",
            "LOCK_DIR": str(self.folder / "locks"),
            "LIBVIRT_URI": None if self._libvirt is None else self._libvirt.uri,
            "ALLOW_SQLITE_WITH_BROKER": "true",
            "SWEEP_INTERVAL_S": "0.2",
            **self._given,
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HOSTLER_", "CELERY_"))}
        mortal = {"LAB_MARKS": str(self.folder)}  # for a mortal worker, see tests.crash
        return (
            kept
            | mortal
            | self._surroundings
            | {f"HOSTLER_{name}": value for name, value in told.items() if value is not None}
        )

    @property
    def database(self) -> Database:
        """The journal."""
        if self._database is None:
            self._database = Database(self._given["DATABASE_URL"] or f"sqlite:///{self.state / 'journal.db'}")
        return self._database

    @property
    def worker(self) -> Process:
        """The running, or last, worker."""
        if self._worker is None:
            raise RuntimeError(f"{self.host} has no worker yet")
        return self._worker

    @property
    def log(self) -> str:
        """All that the workers of this site wrote."""
        file = self.folder / "worker.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def start_worker(
        self, *, ready: bool = True, settings: dict[str, str] | None = None, boot_id: str | None = None
    ) -> Process:
        """Start a worker, and return once it is ready, unless it is not meant to be.

        With a `boot_id` it sees that in the kernel's place.
        """
        command: list[str | Path] = [sys.executable, *self._command]
        if boot_id is not None:
            shown = self.folder / "boot_id"
            shown.write_text(f"{boot_id}\n")
            command = list(enclosed(command, {BOOT_ID: shown}))
        if self._libvirt is None:
            (self.folder / "run").mkdir(exist_ok=True)
            ensure_mount_points()
            command = list(enclosed(command, qemu_account(self.folder) | {Path("/run/libvirt"): self.folder / "run"}))
        self._ready_before = self.log.count(READY_LINE)
        self._worker = Process(
            inside(self._network_namespace, command),
            log=self.folder / "worker.log",
            env=self.environment | {f"HOSTLER_{name}": value for name, value in (settings or {}).items()},
            cwd=CHECKOUT,
        )
        self._cleanup.enter_context(self._worker)
        if ready:
            self.wait_ready()
        return self.worker

    def wait_ready(self) -> None:
        """Return once the worker that was started last is ready."""
        self.worker.wait_ready(
            lambda: self.log.count(READY_LINE) > self._ready_before, "the worker is ready", READY_WITHIN_S
        )

    def end_worker(self) -> None:
        """End the last worker, if there is one; on a libvirtd, its guests run on."""
        if self._worker is not None:
            self._worker.end()

    def kill_worker(self) -> None:
        """SIGKILL, in the middle of whatever it does; its guests run on."""
        self.worker.kill()

    def hostler(self, *arguments: str, request: object = None, within_s: float = COMMAND_WITHIN_S) -> Any:
        """Run the command line; a completed process with its texts."""
        return subprocess.run(
            [sys.executable, "-m", "worker.cli", *arguments],
            input="" if request is None else json.dumps(request),
            env=self.environment,
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )

    def submit(self, operation: str, instance: UUID, request: object, *options: str) -> Any:
        """Submit a job through the command line."""
        target = ("--host", self.host, "--instance", str(instance), "--request", "-")
        return self.hostler("submit", operation, *target, *options, request=request)

    def accept(self, operation: str, instance: UUID, request: dict[str, Any], *, job_id: str | None = None) -> str:
        """Record a job as any submitter would, without the cost of starting the command line; its id."""
        submission = read_submission(
            OPERATIONS,
            operation=operation,
            host=self.host,
            instance=str(instance),
            request=request,
            job_id=job_id or str(uuid4()),
            actor="test",
        )
        return accept(self.database, submission, outbox=self._given["BROKER_URL"] is not None).job.id

    def job(self, job_id: str) -> dict[str, Any]:
        """The job as ``jobs show --json`` gives it."""
        shown = self.hostler("jobs", "show", job_id, "--json")
        assert shown.returncode == 0, shown.stderr
        document: dict[str, Any] = json.loads(shown.stdout)
        return document

    def state_of(self, job_id: str) -> str | None:
        """The job's state now; None before it is recorded."""
        job = reading.job(self.database, job_id)
        return None if job is None else job.state.value

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, newest first, as ``jobs list --json`` gives them."""
        listed = self.hostler("jobs", "list", "--json")
        assert listed.returncode == 0, listed.stderr
        documents: list[dict[str, Any]] = json.loads(listed.stdout)
        return documents

    def settled(self, job_id: str, within_s: float = 60.0) -> dict[str, Any]:
        """The job once it has ended or is quarantined."""

        def ended() -> bool:
            return self.state_of(job_id) in {"succeeded", "failed", "cancelled", "quarantined"}

        eventually(ended, f"job {job_id} ends", within_s)
        details = reading.job_details(self.database, job_id)
        assert details is not None
        return job_details_document(details)

    def console(self, instance: UUID) -> str:
        """What the guest wrote on its console."""
        file = self.state / "instances" / str(instance) / "console.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def files(self) -> list[str]:
        """What lies in the folder of instances."""
        folder = self.state / "instances"
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.exists() else []

    def qemu_pids(self, instance: UUID) -> list[int]:
        """The pids of the instance's QEMUs, whatever libvirt believes."""
        found = []
        for process in psutil.process_iter(["pid", "name", "cmdline"]):
            command = process.info["cmdline"] or []
            if (process.info["name"] or "").startswith("qemu-system") and str(instance) in command:
                found.append(int(process.info["pid"]))
        return found

    def boots(self, instance: UUID) -> int:
        """How often a QEMU was started for the instance on this host."""
        if self._libvirt is not None:
            return self._libvirt.boots(instance)
        return len(qemu_log.starts(self.state / "libvirt/log/qemu", instance))
