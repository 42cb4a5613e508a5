"""The disk that holds journal and guests of one machine is full in the middle of a job, and has room again."""

import shutil
from uuid import uuid4

import pytest

from tests.crash.breaking import passing
from tests.crash.moments import Armed, Deed, Moment
from tests.crash.scenes import acting_steps
from tests.crash.verdict import Ledger, job_faults
from tests.crash.wanderer import MORTAL
from tests.lab.places import CACHE
from tests.lab.site import Site
from tests.lab.small_disk import small_disk
from tests.lab.waiting import eventually

pytestmark = [pytest.mark.real, pytest.mark.beyond_slice]

GUEST = {"name": "cramped", "memory_mib": 40, "disk_gib": 1}
DISK_MIB = 64
FULL_FOR_S = 3.0
MET_WITHIN_S = 30.0
ENDED = {"succeeded", "failed"}
#: A guest without a volume and an interface has nothing to do for these.
OF_DEVICES = {"VolumesConnected", "InterfacesPlugged"}

ROWS = [
    pytest.param(operation, step, moment, id=f"{operation}-{step}-{moment}")
    for operation in ("spawn", "destroy")
    for step in acting_steps(operation)
    if step not in OF_DEVICES
    for moment in (Moment.LOOK, Moment.INTENDED, Moment.MADE)
]


@pytest.mark.parametrize(("operation", "step", "moment"), ROWS)
def test_a_job_whose_journal_has_no_room_ends_once_it_has(operation: str, step: str, moment: Moment) -> None:
    """On SQLite and the embedded driver: as it would have, or failed with nothing left; then it is destroyed."""
    instance = uuid4()
    with Site(worker_command=MORTAL) as site, small_disk(site.state, DISK_MIB) as disk:
        known = site.state / "libvirt/cache/qemu/capabilities"
        shutil.copytree(CACHE / "capabilities", known)
        site.images.mkdir()
        site.start_worker()
        if operation == "destroy":
            assert site.settled(site.accept("spawn", instance, GUEST))["state"] == "succeeded"
        armed = Armed(site.folder, step, moment)
        armed.arm(Deed.HOLD)
        job_id = site.accept(operation, instance, GUEST if operation == "spawn" else {})
        eventually(lambda: armed.met, "the worker is there", MET_WITHIN_S)
        disk.fill()
        armed.release()
        passing(FULL_FOR_S)
        disk.clear()
        job = site.settled(job_id)

        assert job["state"] in ({"succeeded"} if operation == "destroy" else ENDED), job
        ledger = Ledger(f"sqlite:///{site.state / 'journal.db'}")
        assert job_faults(ledger, job_id) == []
        ledger.close()
        assert len(site.qemu_pids(instance)) == (job["state"] == "succeeded" and operation == "spawn")
        if operation == "spawn":
            assert site.settled(site.accept("destroy", instance, {}))["state"] == "succeeded"
        assert site.files() == []
        assert site.qemu_pids(instance) == []
