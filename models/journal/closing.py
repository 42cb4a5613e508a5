"""Closing: what operators decide of whether a host takes new guests, or any new job; `models.availability` keeps it."""

from models.availability import disable, enable
from models.engine import Database
from models.journal.asking import Answer, Asked
from models.reading import list_hosts


def disable_host(database: Database, host: str, asked: Asked) -> Answer:
    """Let no new guest come to the host; needs a reason."""
    said = f"{host} is disabled: spawns and migrations to it wait."
    return _close(database, host, asked, said, drain=False)


def drain_host(database: Database, host: str, asked: Asked) -> Answer:
    """Let no job begin on the host, whatever it is, while those that were begun end; needs a reason."""
    said = f"{host} is drained: what was begun there ends, all else waits."
    return _close(database, host, asked, said, drain=True)


def enable_host(database: Database, host: str, asked: Asked) -> Answer:  # noqa: ARG001  # as every verb takes it
    """Take either back."""
    if not enable(database, host):
        return _no_such(host)
    still = next((found.down_because for found in list_hosts(database) if found.name == host), None)
    said = f"{host} is enabled." if still is None else f"{host} is enabled once its worker reaches libvirt: {still}"
    return Answer(taken=True, sentence=said)


def _close(database: Database, host: str, asked: Asked, said: str, *, drain: bool) -> Answer:
    if not asked.reason.strip():
        return Answer(taken=False, sentence="reason: one is needed; whoever finds the host closed will ask for it.")
    if not disable(database, host, asked.actor, asked.reason, drain=drain):
        return _no_such(host)
    return Answer(taken=True, sentence=said)


def _no_such(host: str) -> Answer:
    return Answer(taken=False, sentence=f"there is no host {host}.")
