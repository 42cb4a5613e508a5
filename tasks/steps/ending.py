"""Having a guest end, and what other jobs still do for it."""

from typing import Any

from models.states import ErrorClass
from tasks.host import DomainState, Host, HostError
from tasks.operation import Work

#: How often a guest that does not shut down is asked again, in seconds: one that is still booting hears the next.
ASK_AGAIN_S = 10.0
#: How long a destroy waits at a time for calls of a superseded job to return, in seconds; then it looks again whether
#: one of them has started the guest since, which would hold the call up.
EARLIER_WORK_ROUND_S = 2.0
#: How often it does so, before the job waits: in all longer than libvirt's own 30 s wait for a job lock.
EARLIER_WORK_ROUNDS = 20


def end(work: Work[Any], host: Host, timeout_s: float) -> None:
    """End the guest's process: the guest is asked first, where there is time for that and it can hear."""
    if timeout_s > 0:
        domain = host.domains.find(work.instance)
        if domain is not None and domain.state in {DomainState.RUNNING, DomainState.SHUTTING_DOWN}:
            host.power.shut_down(work.instance, deadline_s=timeout_s, again_every_s=ASK_AGAIN_S)
    host.domains.kill(work.instance)


def outlast_earlier_work(work: Work[Any], host: Host) -> None:
    """Return once no call or child of another job of the instance is at work here.

    What does not end by itself is ended: a guest that was started after all, a child that writes a file.
    HostError(TRANSIENT) when something still goes on after all rounds.
    """
    for _ in range(EARLIER_WORK_ROUNDS):
        try:
            host.earlier_work.wait_ended(work.instance, work.job, EARLIER_WORK_ROUND_S)
        except HostError as error:
            if error.error_class is not ErrorClass.TRANSIENT:
                raise
        else:
            return
        host.domains.kill(work.instance)
        host.disks.end_children(work.instance)
    others = ", ".join(host.earlier_work.going_on(work.instance, work.job))
    lasted = EARLIER_WORK_ROUNDS * EARLIER_WORK_ROUND_S
    raise HostError(ErrorClass.TRANSIENT, f"a call of job {others} has not returned within {lasted:g} s")
