"""Having a guest run: at once, or, where it has interfaces, once its bridges pass on what it sends.

What a guest asks for as it boots, its address above all, is lost while they do not.
"""

from typing import Any

from models.records import Json
from tasks.host import Domain, DomainState, Host
from tasks.operation import Partial, Work
from tasks.steps.devices import interfaces_of


def planned(work: Work[Any]) -> Json:
    """A process has no identity beyond its domain's; whether it is this job that has it stand still."""
    return {"paused": bool(interfaces_of(work.devices))}


def standing_still(work: Work[Any], domain: Domain) -> Partial | None:
    """Whether this job has started the guest and has still to let it run; one that somebody else paused stays so."""
    if domain.state is DomainState.PAUSED and work.intended and work.intent.get("paused"):
        return Partial(f"domain {work.instance} stands still until what it sends is passed on")
    return None


def have_run(work: Work[Any], host: Host, deadline_s: float) -> None:
    """Start the domain and wait, by event, until it runs; each of the two waits may take as long."""
    paused = bool(work.intent.get("paused"))  # not in an intent of an earlier revision
    host.domains.start(work.instance, paused=paused)
    if paused:
        host.interfaces.wait_forwarding(interfaces_of(work.devices), deadline_s)
        host.power.unpause(work.instance)
    host.domains.wait_running(work.instance, deadline_s)
