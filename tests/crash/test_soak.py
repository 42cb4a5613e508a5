"""Random kills under a steady load of spawns and destroys: nothing lost, nothing doubled, nothing left over.

``make crash CRASH_ARGUMENTS="--soak"`` kills a thousand times, ``--kills 20`` twenty times.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest

from tests.crash import promises
from tests.crash.breaking import passing
from tests.crash.picture import picture, qemus
from tests.crash.promises import Kind, Violation
from tests.crash.stage import Stage
from tests.crash.striking import Fault, strike
from tests.crash.tally import TALLY
from tests.lab.postgres import PostgresServer
from tests.lab.waiting import NeverHappenedError, eventually

pytestmark = [pytest.mark.real, pytest.mark.soak, pytest.mark.timeout(0)]

KILLED = (Fault.WORKER_KILLED, Fault.LIBVIRTD_KILLED, Fault.BROKER_KILLED, Fault.COMMIT_LOST)
#: How many guests are being made or destroyed at any time.
GUESTS = 6
BETWEEN_KILLS_S = 1.5  #: on average
ENDED = {"succeeded", "failed", "cancelled", "quarantined"}
LOOK_EVERY_S = 0.3
ALL_END_WITHIN_S = 180.0
QUIET_WITHIN_S = 30.0


@dataclass
class Guest:
    """A place in the load: an instance that is made, destroyed, and followed by the next."""

    instance: UUID = field(default_factory=uuid4)
    jobs: list[str] = field(default_factory=list)


class Load:
    """Accepts a spawn for each place, its destroy when it has ended, and so on, until it is told to end."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._places = [Guest() for _ in range(GUESTS)]
        self.guests = list(self._places)
        self.twice: set[UUID] = set()
        self._ending = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._go_on, name="load", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Accept no new guest; those that are there are destroyed."""
        self._ending.set()
        self._thread.join(ALL_END_WITHIN_S)
        if self._failed is not None:
            raise self._failed
        # A destroy would supersede a spawn that has not ended: that nobody lost it could not be told.
        eventually(self._have_ended, "the last spawns end", ALL_END_WITHIN_S, poll_s=0.5)
        for guest in self._places:
            if len(guest.jobs) == 1:
                self._accept(guest, "destroy")

    @property
    def jobs(self) -> Iterator[str]:
        """All that were accepted."""
        return (job for guest in self.guests for job in guest.jobs)

    def _have_ended(self) -> bool:
        return all(self._stage.site.state_of(job) in ENDED for guest in self._places for job in guest.jobs)

    def _go_on(self) -> None:
        try:
            while not self._ending.wait(LOOK_EVERY_S):
                running = qemus()
                for place, guest in enumerate(self._places):
                    if len(running.get(guest.instance, ())) > 1:
                        self.twice.add(guest.instance)
                    if guest.jobs and self._stage.site.state_of(guest.jobs[-1]) not in ENDED:
                        continue
                    if len(guest.jobs) == len(("spawn", "destroy")):
                        guest = self._places[place] = Guest()  # noqa: PLW2901  # the next one in its place
                        self.guests.append(guest)
                    self._accept(guest, "destroy" if guest.jobs else "spawn")
        except BaseException as error:  # noqa: BLE001  # it is raised where the load is ended
            self._failed = error

    def _accept(self, guest: Guest, operation: str) -> None:
        request = self._stage.guest(guest.instance) if operation == "spawn" else {}
        guest.jobs.append(self._stage.site.accept(operation, guest.instance, request))


def violations(stage: Stage, load: Load, libvirtd_kills: int) -> Iterator[Violation]:
    """What was lost, doubled or left over, of all that was ever accepted."""
    seen = picture(stage.host, stage.site.state)
    yield from promises.of_host(stage.ledger, stage.site.host)
    yield from promises.of_network(seen)
    for guest in load.guests:
        for job in guest.jobs:
            yield from promises.of_job(stage.ledger, job)
            if (state := stage.site.state_of(job)) != "succeeded":
                yield Violation(Kind.LOST, f"{job} is {state}, and nobody asked for that")
        yield from promises.of_line(stage.ledger, guest.instance)
        yield from promises.of_instance(stage.ledger, seen, guest.instance)
        # A QEMU whose start was under way goes with its libvirtd, and is started once more.
        if (boots := stage.site.boots(guest.instance)) > 1 + libvirtd_kills:
            yield Violation(Kind.DOUBLED, f"{guest.instance} was started {boots} times")
    for instance in load.twice:
        yield Violation(Kind.DOUBLED, f"two QEMUs ran for {instance} at once")
    running = {guest.instance for guest in load.guests} & set(seen.qemus)
    if seen.domains or running or seen.files:
        yield Violation(Kind.LEFT_OVER, f"{seen.domains} {running} {seen.files}")


def test_nothing_is_lost_doubled_or_left_over(
    postgres_server: PostgresServer, draw: random.Random, request: pytest.FixtureRequest
) -> None:
    """However often, and whatever, is killed."""
    kills = request.config.getoption("--kills")
    killed: Counter[Fault] = Counter()
    began = time.monotonic()
    with Stage(postgres_server) as stage:
        load = Load(stage)
        load.start()
        for _ in range(kills):
            passing(draw.expovariate(1.0 / BETWEEN_KILLS_S))
            fault = draw.choice(KILLED)
            strike(fault, stage, (), lambda: None)
            killed[fault] += 1
            TALLY.kills += 1
        found: list[Violation] = []
        try:
            load.end()
            eventually(
                lambda: all(stage.site.state_of(job) in ENDED for job in load.jobs),
                "all jobs end",
                ALL_END_WITHIN_S,
                poll_s=0.5,
            )
            eventually(
                lambda: not list(violations(stage, load, killed[Fault.LIBVIRTD_KILLED])),
                "all is quiet",
                QUIET_WITHIN_S,
                poll_s=1.0,
            )
        except NeverHappenedError:
            found = list(violations(stage, load, killed[Fault.LIBVIRTD_KILLED]))
        load_was = f"{len(list(load.jobs))} jobs of {len(load.guests)} guests"
        print(f"{kills} kills in {time.monotonic() - began:.0f} s: {dict(killed)}; {load_was}")
        TALLY.row("soak", found)
        assert found == [], "\n".join(f"{each.kind}: {each.what}" for each in found)
