"""A witness: looks at one instance on both hosts all the time while things are broken, and believes only what it sees.

It asks each libvirtd over connections of its own, each QEMU through its monitor where two copies seem to run, and reads
what the guest says on its consoles. A daemon that is down is no testimony.
"""

import json
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Self
from uuid import UUID

import libvirt
import libvirt_qemu

from tests.lab.guest_console import boots_seen, heartbeats
from tests.lab.hosts import LibvirtHost
from tests.lab.site import Site
from tests.lab.site_pair import SitePair

LOOK_EVERY_S = 0.03
ENDED_WITHIN_S = 20.0

UNSEEN, ABSENT = "unseen", "absent"
_STATES = {
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTOFF: "off",
}


class HostEye:
    """One host's word about the instance, over a connection that is opened again when it broke."""

    def __init__(self, host: LibvirtHost, instance: UUID) -> None:
        self._host = host
        self._instance = instance
        self._connection: libvirt.virConnect | None = None

    def state(self) -> str:
        """What libvirtd says now; `UNSEEN` while it says nothing."""
        domain = self._domain()
        if domain is None:
            return ABSENT if self._connection is not None else UNSEEN
        try:
            return _STATES.get(domain.state()[0], "other")
        except libvirt.libvirtError as error:
            return self._lost(error)

    def really_runs(self) -> bool:
        """Whether QEMU itself says that it runs the guest."""
        domain = self._domain()
        if domain is None:
            return False
        try:
            answer = json.loads(libvirt_qemu.qemuMonitorCommand(domain, '{"execute": "query-status"}', 0))
        except libvirt.libvirtError as error:
            self._lost(error)
            return False
        return bool(answer["return"]["running"])

    def close(self) -> None:
        """Look no more."""
        self._connection = None

    def _domain(self) -> libvirt.virDomain | None:
        try:
            if self._connection is None:
                self._connection = libvirt.open(self._host.uri)
            return self._connection.lookupByUUID(self._instance.bytes)
        except libvirt.libvirtError as error:
            self._lost(error)
            return None

    def _lost(self, error: libvirt.libvirtError) -> str:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return ABSENT
        self._connection = None
        return UNSEEN


class Consoles:
    """All that a guest wrote on its consoles, from one residence to the next, also those that are gone since."""

    def __init__(self, sites: Sequence[Site], instance: UUID) -> None:
        self._files = [site.state / "instances" / str(instance) / "console.log" for site in sites]
        self._open: dict[tuple[int, int], IO[str]] = {}  # by host and inode
        self._spoken: list[IO[str]] = []  # in the order in which it began to speak there
        self._lock = threading.Lock()

    def look(self) -> None:
        """See whether there is a console that was not there before."""
        with self._lock:
            for number, file in enumerate(self._files):
                with suppress(FileNotFoundError):
                    key = (number, file.stat().st_ino)
                    if key not in self._open:
                        self._open[key] = file.open(errors="replace")
            for console in self._open.values():
                console.seek(0)
                if console not in self._spoken and console.read(1):
                    self._spoken.append(console)

    @property
    def text(self) -> str:
        """A line may begin on one host and end on the other."""
        self.look()
        with self._lock:
            for console in self._spoken:
                console.seek(0)
            return "".join(console.read() for console in self._spoken)

    def close(self) -> None:
        """Let go of the files."""
        for console in self._open.values():
            console.close()


@dataclass
class Testimony:
    """What a witness saw."""

    looks: int = 0
    changes: list[str] = field(default_factory=list)  #: of what both hosts said, with the seconds since the beginning
    twice: list[str] = field(default_factory=list)  #: sightings of two running copies


class Witness:
    """Looks from its beginning to its end, in a thread of its own."""

    def __init__(self, pair: SitePair, instance: UUID, consoles: Consoles) -> None:
        self.seen = Testimony()
        self._eyes = [HostEye(host, instance) for host in (pair.hosts.first, pair.hosts.second)]
        self._consoles = consoles
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="witness", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join(ENDED_WITHIN_S)
        for eye in self._eyes:
            eye.close()

    def _look_on(self) -> None:
        last: tuple[str, str] | None = None
        while not self._ended.wait(LOOK_EVERY_S):
            now = self._look()
            if now != last:
                self.seen.changes.append(f"{self._elapsed:.2f} s: {' / '.join(now)}")
                last = now
            self._consoles.look()

    def _look(self) -> tuple[str, str]:
        """Both hosts' words. Two copies run if the first host's runs before and after the second's is seen running."""
        first, second = self._eyes
        before, there, after = first.state(), second.state(), first.state()
        self.seen.looks += 1
        if before == there == after == "running":
            proof = [first.really_runs(), second.really_runs(), first.really_runs()]
            if all(proof):
                self.seen.twice.append(f"{self._elapsed:.2f} s: the guest runs on both hosts")
        return before, there

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._began


def guest_faults(text: str) -> list[str]:
    """What is wrong with what a guest said: it boots once, and says each number once, in order."""
    found = []
    if len(boots_seen(text)) != 1:
        found.append(f"the guest booted {len(boots_seen(text))} times")
    beats = heartbeats(text)
    if beats != list(range(1, len(beats) + 1)):
        odd = [(a, b) for a, b in zip([0, *beats], beats, strict=False) if b != a + 1]
        found.append(f"its beats do not follow each other: {odd[:5]}")
    return found
