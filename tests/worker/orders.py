"""A host on which anything comes in any order: what a state machine does there, and what must be true after each step.

What must be true is asked of the tables and of the fake host's own memory, not of Hostler's way of reading them.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from models.engine import Database
from models.journal.accepting import DifferentPayloadError, accept
from models.journal.asking import Asked, request_cancel
from models.journal.deciding import resume, retry
from models.journal.due import claimable
from models.journal.pruning import prune
from models.states import ErrorClass, JobClass
from models.tables import devices, hosts, instances, job_events, jobs, steps
from tasks.catalogue import OPERATIONS
from tasks.host import HostError
from tests.builders import HOST, submission, time_passes, watched
from tests.fake_host import FakeHost, Killed
from tests.worker.world import REQUESTS, World
from worker.run import Runner

OPERATIONS_SENT = ("spawn", "destroy", "attach_volume", "detach_volume", "stop", "start")
INSTANCES = (UUID(int=0xA), UUID(int=0xB))
#: How often an effect may be had by one run of an operation, whatever died meanwhile: once.
EFFECTS_OF = {
    "disks.create": ("spawn",),
    "domains.define": ("spawn",),
    "domains.start": ("spawn", "start"),
    "devices.attach": ("attach_volume",),
    "disks.remove_folder": ("destroy",),
}
FINAL, UNSETTLED = {"succeeded", "failed", "cancelled"}, {"running", "waiting", "quarantined"}
ENDED_STEPS = {"done", "found", "skipped"}
#: Rounds in which everything must be over, once nothing is broken any more.
ROUNDS_MAX = 60
OPS = Asked("ops", "it is mended")


class BrokenPromiseError(AssertionError):
    """What must be true is not."""


def demand(condition: object, promise: str) -> None:
    """Raise BrokenPromiseError with the promise unless the condition holds."""
    if not condition:
        raise BrokenPromiseError(promise)


@dataclass
class Orders:
    """The journal, the host, the worker of the moment, and what was true a step ago."""

    database: Database
    fake: FakeHost = field(default_factory=FakeHost)
    sent: dict[str, tuple[str, UUID]] = field(default_factory=dict)
    _mishap: tuple[int, Callable[[], object]] | None = None
    _worker: Runner | None = None
    _before: dict[str, Any] = field(default_factory=dict)
    _begun: set[tuple[str, int]] = field(default_factory=set)  #: all runs that were ever claimed

    def __post_init__(self) -> None:
        """The storage answers."""
        self.fake.volumes.servers["storage:10809"] = True

    # --- what happens

    def send(self, operation: str, instance: UUID) -> str:
        """A new job."""
        job = f"j{len(self.sent)}"
        self.sent[job] = (operation, instance)
        demand(self._accept(job), "a new id is a new job")
        return job

    def send_again(self, job: str) -> None:
        """The same id with the same payload, and with another."""
        demand(not self._accept(job), "the same id with the same payload is the same job")
        operation, instance = self.sent[job]
        try:
            accept(
                self.database,
                submission(job, operation, instance=instance, host="h2", request=REQUESTS[operation]),
                outbox=False,
            )
        except DifferentPayloadError:
            return
        raise BrokenPromiseError("the same id with another payload is refused")

    def deliver(self, job: str, mishap: Callable[[], object] | None = None, after: int = 0) -> None:
        """A ring: new, late, doubled or forged; the mishap comes at one of the moments of its steps."""
        self._mishap = None if mishap is None else (after, mishap)
        try:
            worker = self.worker
            worker.take(self._world(job).details(job).job)
        except Killed:
            self._worker = None
        finally:
            self._mishap = None

    def sweep(self) -> bool:
        """The sweeper takes what can be claimed; False if nothing can."""
        found = claimable(
            self.database, HOST, classes=list(JobClass), in_hand=(), superseding=["destroy"], limit=len(self.sent) + 1
        )
        for job in found:
            self.deliver(job)
        return bool(found)

    def kill(self) -> None:
        """The worker dies here; the next one is another."""
        raise Killed

    def take_over(self, job: str) -> Callable[[], None]:
        """The worker sleeps here, while its successor carries the job out."""

        def sleep() -> None:
            self._mishap = None
            self._worker = None
            self.worker.take(self._world(job).details(job).job)

        return sleep

    def cancel(self, job: str) -> None:
        """Somebody asks it to stop."""
        request_cancel(self.database, job, OPS, outbox=False)

    def retry(self, job: str) -> None:
        """An operator begins it anew, if that may be."""
        retry(self.database, job, OPS, outbox=False)

    def resume(self, job: str) -> None:
        """An operator has it go on, if it is set aside."""
        resume(self.database, job, OPS, outbox=False)

    def time_passes(self, job: str) -> None:
        """If it waits, its time has come."""
        if self._state(job) == "waiting":
            time_passes(self.database, job)

    def break_call(self, method: str, kind: ErrorClass, times: int, after: bool) -> None:  # noqa: FBT001  # one of four
        """The next calls of the port's method fail, before or after their effect."""
        self.fake.fail(method, HostError(kind, "broken"), times=times, after=after)

    def prune(self) -> None:
        """What is over and in nobody's way is pruned."""
        prune(self.database, timedelta(0))

    def mend(self) -> None:
        """No call fails any more."""
        self.fake._script._faults.clear()

    @property
    def worker(self) -> Runner:
        """Who serves the host; a new one where the last one died."""
        if self._worker is None:
            world = World(self.database, self.fake)
            self._worker = world.worker(*(watched(OPERATIONS[name], self._hear) for name in OPERATIONS_SENT))
        return self._worker

    def _hear(self, moment: str, _step: str) -> None:
        if self._mishap is None or moment == "do":
            return
        left, mishap = self._mishap
        self._mishap = (left - 1, mishap)
        if left == 0:
            self._mishap = None
            mishap()

    def _accept(self, job: str) -> bool:
        operation, instance = self.sent[job]
        asked = submission(job, operation, instance=instance, request=REQUESTS[operation])
        return accept(self.database, asked, outbox=False).new

    def _world(self, job: str) -> World:
        return World(self.database, self.fake, self.sent[job][1])

    # --- what must be true

    def check(self) -> None:
        """After every step, whatever it was."""
        now = self._rows()
        for name in ("instances", "hosts"):
            for key, value in self._before.get(name, {}).items():
                demand(now[name][key] >= value, f"numbers of {name} only grow: {key}")
        for job, row in self._before.get("jobs", {}).items():
            same = now["jobs"][job]
            if row.state in FINAL and same.run == row.run:
                demand(_came_to(same) == _came_to(row), f"final is final: {job}")
                demand(row.pruned_at in {None, same.pruned_at}, f"a tombstone stays: {job}")
        for instance in INSTANCES:
            begun = [job for job, row in now["jobs"].items() if row.instance == instance and row.state in UNSETTLED]
            demand(len(begun) <= 1, f"one job of an instance is begun: {begun}")
        self._check_ends(now)
        _check_order(now)
        self._check_effects(now)
        self._before = now

    def _check_ends(self, now: dict[str, Any]) -> None:
        ends = Counter((event.job, event.run) for event in now["events"] if event.type in FINAL)
        for job, row in now["jobs"].items():
            told = row.state in FINAL and row.pruned_at is None
            demand(ends[job, row.run] == told, f"a run has one final event, until it is pruned: {job} {row.state}")
        demand(set(ends.values()) <= {1}, f"a run has one final event: {ends}")
        for step in now["steps"]:
            row = now["jobs"][step.job]
            if row.state == "succeeded" and step.run == row.run and step.direction == "do":
                demand(step.state in ENDED_STEPS, f"a succeeded run's steps are ended: {step.job} {step.name}")

    def _check_effects(self, now: dict[str, Any]) -> None:
        runs: Counter[tuple[str, UUID]] = Counter()
        self._begun |= {(event.job, event.run) for event in now["events"] if event.type == "claimed"}
        for job, run in self._begun:
            row = now["jobs"][job]
            demand(run <= row.run, "a run that was never begun is claimed")
            runs[row.operation, row.instance] += 1
        for (effect, instance), count in Counter(self.fake.effects).items():
            if effect in EFFECTS_OF:
                most = sum(runs[operation, instance] for operation in EFFECTS_OF[effect])
                demand(count <= most, f"an effect is made once a run: {effect} {count} times in {most} runs")

    def check_all_ends(self) -> None:
        """Once nothing is broken, and an operator resumes what was set aside, all jobs end, and both sides agree."""
        self.mend()
        for _ in range(ROUNDS_MAX):
            for job in self.sent:
                self.time_passes(job)
                if self._state(job) == "quarantined":
                    self.resume(job)
            idle = not self.sweep()
            self.check()
            if idle and all(self._state(job) in FINAL for job in self.sent):
                break
        unended = {job: self._state(job) for job in self.sent if self._state(job) not in FINAL}
        demand(not unended, f"every accepted job ends: {unended}")
        with self.database.read() as connection:
            known = {row.id: row.state for row in connection.execute(select(instances.c.id, instances.c.state))}
            has = defaultdict(set)
            for row in connection.execute(select(devices.c.instance, devices.c.key).where(devices.c.kind == "volume")):
                has[row.instance].add(f"ua-{row.key}")
        for instance, state in known.items():
            self._check_agreement(instance, state, has[instance])

    def _check_agreement(self, instance: UUID, state: str, volumes: set[str]) -> None:
        domain = self.fake.domains.there.get(instance)
        if state in {"absent", "deleted"}:
            left = self.fake.leftovers(instance)
            demand(left == (), f"nothing is left of an instance that is {state}: {left}")
            demand(not volumes, f"an instance that is {state} has no volumes: {volumes}")
            return
        demand(domain is not None, f"an instance that is {state} has a domain")
        assert domain is not None
        demand(domain.active == (state == "running"), f"the journal says {state}, the host {domain.state}")
        shown = {device.alias for device in self.fake.domains.defined[instance] if device.alias.startswith("ua-v")}
        demand(shown == volumes, f"the definition has {shown}, the journal {volumes}")

    def _state(self, job: str) -> str:
        with self.database.read() as connection:
            return str(connection.execute(select(jobs.c.state).where(jobs.c.id == job)).scalar_one())

    def _rows(self) -> dict[str, Any]:
        with self.database.read() as connection:
            return {
                "jobs": {row.id: row for row in connection.execute(select(jobs))},
                "instances": {
                    row.id: row.epoch for row in connection.execute(select(instances.c.id, instances.c.epoch))
                },
                "hosts": {row.name: row.sequence for row in connection.execute(select(hosts.c.name, hosts.c.sequence))},
                "steps": connection.execute(select(steps)).all(),
                "events": connection.execute(select(job_events).order_by(job_events.c.number)).all(),
            }


def _came_to(row: Row[Any]) -> dict[str, Any]:
    """All of a job's row but what a pruning takes."""
    return {name: value for name, value in row._mapping.items() if name not in {"request", "canvas", "pruned_at"}}


def _check_order(now: dict[str, Any]) -> None:
    """A run is begun when all runs that stand before it in its instance's line are over."""
    line: dict[UUID, list[tuple[str, int]]] = defaultdict(list)
    begun: set[tuple[str, int]] = set()
    event: Row[Any]
    for event in now["events"]:
        run, instance = (event.job, event.run), now["jobs"][event.job].instance
        if event.type in {"submitted", "retried"}:
            line[instance].append(run)
        elif event.type in FINAL:
            line[instance].remove(run)
        elif event.type == "claimed" and run not in begun:
            begun.add(run)
            demand(line[instance][0] == run, f"jobs of an instance begin in order: {run} before {line[instance][0]}")
