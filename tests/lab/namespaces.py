"""Network namespaces of our own. A name tells its maker, so that what a killed session left is known, and removed.

hostler-<the maker's namespace of processes>-<the maker's pid>-<random>-<role>
"""

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from tests.lab.places import program

COMMAND_WITHIN_S = 20.0
FOLDER = Path("/run/netns")  #: where `ip netns` keeps them

_NAME = re.compile(r"hostler-(?P<pids>[0-9a-f]+)-(?P<pid>\d+)-[0-9a-f]{6}-[a-z0-9.-]+")


class NetworkRefusedError(AssertionError):
    """The kernel did not do to a network of the lab what it was told."""


def inside(namespace: str | None, argv: Sequence[str | Path]) -> list[str]:
    """The command that runs `argv` in a network namespace, or here. Its pid never changes."""
    enter = [] if namespace is None else [program("ip"), "netns", "exec", namespace]
    return [*enter, *map(str, argv)]


@contextmanager
def network_namespaces(*roles: str) -> Iterator[list[str]]:
    """New namespaces, one for each role, each with its loopback interface up; deleted at the end with their links."""
    remove_leftovers()
    stem = f"hostler-{_own_pids()}-{os.getpid()}-{uuid4().hex[:6]}"
    names = [f"{stem}-{role}" for role in roles]
    try:
        for name in names:
            call("ip", "netns", "add", name)
            configure(name, "link set lo up")
        yield names
    finally:
        for name in names:
            _delete(name)


def configure(namespace: str, *lines: str, tool: str = "ip") -> None:
    """Give `ip`, or `bridge`, these lines to obey in the namespace; all of them at once."""
    call(tool, "-n", namespace, "-batch", "-", told="".join(f"{line}\n" for line in lines))


def call(name: str, *arguments: str, told: str = "") -> str:
    """Run one of iproute2's programs; what it says."""
    done = subprocess.run(
        [program(name), *arguments], input=told, check=False, capture_output=True, text=True, timeout=COMMAND_WITHIN_S
    )
    if done.returncode:
        raise NetworkRefusedError(f"{name} {' '.join(arguments)}\n{told}{done.stderr}")
    return done.stdout


def remove_leftovers() -> None:
    """Delete the namespaces of sessions that are dead; those of other people, and of other containers, are let be."""
    for found in FOLDER.iterdir() if FOLDER.exists() else []:
        parts = _NAME.fullmatch(found.name)
        if parts and parts["pids"] == _own_pids() and not Path(f"/proc/{parts['pid']}").exists():
            _delete(found.name)


def _own_pids() -> str:
    """Within which namespace of processes a pid of ours means something."""
    return f"{Path('/proc/self/ns/pid').stat().st_ino:x}"


def _delete(name: str) -> None:
    """Whoever is quicker: another session may remove the same leftover."""
    subprocess.run([program("ip"), "netns", "delete", name], check=False, capture_output=True, timeout=COMMAND_WITHIN_S)
