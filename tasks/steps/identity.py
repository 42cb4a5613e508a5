"""Whose a domain is."""

from tasks.host import Domain
from tasks.operation import NotOurs, Work
from tasks.requests import Request


def stranger(work: Work[Request], domain: Domain) -> NotOurs | None:
    """A domain under the instance's UUID that is not the instance's, if it is one."""
    if domain.identity is None:
        return NotOurs(f"domain {work.instance} exists and is not one of Hostler's")
    if domain.identity.instance != work.instance:
        return NotOurs(f"domain {work.instance} says that it is instance {domain.identity.instance}")
    return None
