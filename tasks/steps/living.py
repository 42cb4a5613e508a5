"""Instances that are there, and what is asked of them: seen, refused, and with what they need within reach."""

from typing import Any

from models.states import ErrorClass
from tasks.host import Domain, DomainState, Host, HostError
from tasks.operation import Absent, InProgress, NotOurs, Sight, There, Work
from tasks.steps.devices import interfaces_of, volumes_of
from tasks.steps.identity import stranger


def present(work: Work[Any], host: Host) -> Domain | NotOurs:
    """The instance's domain; an instance without one is refused for good."""
    domain = host.domains.find(work.instance)
    if domain is None:
        raise refused(work, "has no domain there")
    return stranger(work, domain) or domain


def refused(work: Work[Any], why: str) -> HostError:
    """What is asked of the instance makes no sense as it is, and never will by itself."""
    return HostError(ErrorClass.PERMANENT, f"instance {work.instance} on host {work.host} {why}")


def seen_running(work: Work[Any], domain: Domain | NotOurs) -> Sight:
    """Whether a process runs for it, paused or not."""
    if isinstance(domain, NotOurs):
        return domain
    if domain.state in {DomainState.STARTING, DomainState.SHUTTING_DOWN}:
        return InProgress(f"domain {work.instance} is {domain.state}")
    return There() if domain.active else Absent()


def reach(work: Work[Any], host: Host) -> None:
    """Bring the instance's volumes and networks within reach: a host that has booted may be ahead of its servers."""
    for device in volumes_of(work.devices):
        host.volumes.connect(device.volume)
    for interface in interfaces_of(work.devices):
        host.interfaces.plug(interface)
