"""A fact that a job found is not its to take back: on real files, beside a real running guest."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from models.engine import Database
from models.journal.accepting import accept
from models.reading import JobDetails, job_details
from models.states import Direction, JobState, StepState
from tasks.catalogue import OPERATIONS
from tests.builders import find_make_fail, runner, submission
from tests.lab.hosts import LibvirtHost
from tests.lab.places import scratch_folder
from worker.host.hypervisor import Hypervisor
from worker.run import Runner

pytestmark = pytest.mark.real
pytest_plugins = ["tests.builders"]


def done(worker: Runner, job_id: str, operation: str, of: UUID, request: dict[str, Any]) -> JobDetails:
    """The job, accepted and carried out."""
    accept(worker.database, submission(job_id, operation, instance=of, request=request), outbox=False)
    details = job_details(worker.database, job_id)
    assert details is not None
    assert worker.take(details.job) is None
    ended = job_details(worker.database, job_id)
    assert ended is not None
    return ended


def test_what_a_job_found_survives_its_undo_on_a_real_host(
    libvirt_host: LibvirtHost, sqlite_journal: Database, instance: UUID, small_guest: dict[str, Any]
) -> None:
    """An attach-like job finds one disk, makes another and fails for good: only what it made is gone."""
    with scratch_folder("found") as folder:
        host = Hypervisor(uri=libvirt_host.uri, state_folder=str(folder), virt_type="qemu")
        worker = runner(sqlite_journal, host, *OPERATIONS.values(), find_make_fail)
        assert done(worker, "spawn", "spawn", instance, small_guest).job.state is JobState.SUCCEEDED
        found = host.disks.path_for(instance, "found", "qcow2")
        host.disks.create(instance, found, size_bytes=1024**2, backing=None, epoch=0)
        before = {path.name: path.stat().st_ino for path in Path(found).parent.iterdir()}

        details = done(worker, "attach", "find_make_fail", instance, {})

        assert details.job.state is JobState.FAILED
        assert {step.name: step.state for step in details.steps if step.direction is Direction.DO} == {
            "DiskThere:found": StepState.FOUND,
            "DiskThere:made": StepState.DONE,
            "NoSuchFileRead": StepState.INTENDED,
        }
        assert {path.name: path.stat().st_ino for path in Path(found).parent.iterdir()} == before
        domain = host.domains.find(instance)
        assert domain is not None
        assert domain.active
        assert done(worker, "destroy", "destroy", instance, {}).job.state is JobState.SUCCEEDED
        assert not host.disks.folder_exists(instance)
        host.close()
