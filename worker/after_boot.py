"""After a boot: the guests that are to run are started, by ordinary jobs, as many at once as any others."""

import logging
from uuid import UUID

from models.engine import Database
from models.journal.booting import answer_boot
from models.states import InstanceState
from models.submission import Submission
from tasks.catalogue import Catalogue
from tasks.submission import read_submission

log = logging.getLogger(__name__)

#: Who asked for the jobs, in their history.
ACTOR = "worker:after-boot"


def start_after_boot(database: Database, catalogue: Catalogue, host: str, boot_id: str, *, enabled: bool) -> None:
    """Accept a start of each instance whose guest is to run, if the host has booted since a worker last came here.

    ``boot_id`` is the kernel's. A job's id is of the boot and the instance: however often this is cut off and begun
    again, each guest is started once per boot.
    """

    def start(instance: UUID) -> Submission:
        return read_submission(
            catalogue,
            operation="start",
            host=host,
            instance=str(instance),
            request={},
            job_id=f"after-boot.{boot_id}.{instance}",
            actor=ACTOR,
        )

    ending = {
        operation.name
        for operation in catalogue.values()
        if operation.instance_wanted_as not in {None, InstanceState.RUNNING}
    }
    boot = answer_boot(database, host, boot_id, start if enabled else None, ending=ending)
    if boot is None:
        return
    if not enabled:
        log.warning("this host has booted; its guests stay as they are, HOSTLER_START_AFTER_BOOT is off")
        return
    log.info("this host has booted; guests to be started: %d", len(boot.started))
    for instance, job in boot.left:
        log.warning("not started after the boot, an open job decides: instance=%s job=%s", instance, job)
