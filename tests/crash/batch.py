"""Rows of one operation and one fault, carried out together: each has an instance and is held at its moment.

When all are there, the fault happens once, to all of them.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import groupby
from uuid import UUID

import libvirt

from models import reading
from models.journal.asking import Asked, request_cancel
from tasks.catalogue import OPERATIONS
from tests.contract.backdoor import Backdoor
from tests.crash import promises
from tests.crash.breaking import passing
from tests.crash.moments import Armed, Deed, Moment
from tests.crash.picture import Picture, picture
from tests.crash.promises import Kind, Violation
from tests.crash.scenes import SCENES, Acted, Row, acting_steps, request
from tests.crash.stage import Stage
from tests.crash.striking import ENDS_GUESTS, MAY_START_TWICE, strike
from tests.crash.tally import TALLY
from tests.lab.waiting import NeverHappenedError, eventually

READY_WITHIN_S = 120.0
MET_WITHIN_S = 40.0
MET_AFTER_END_WITHIN_S = 3.0
SETTLED_WITHIN_S = 90.0
#: Within which the observer tells what happened by itself, and the broker knows all outcomes.
QUIET_WITHIN_S = 20.0
#: How far into an effect a fault comes, at most, in seconds.
INTO_THE_EFFECT_S = 0.25
ENDED = {"succeeded", "failed", "cancelled", "quarantined"}


class Batch:
    """The rows, on a stage."""

    def __init__(self, stage: Stage, rows: Sequence[Row], draw: random.Random) -> None:
        self._stage = stage
        self._rows = [Acted(row) for row in rows]
        self._draw = draw
        self._fault = rows[0].fault
        self.broken: dict[str, list[Violation]] = {}

    def carry_out(self) -> dict[str, list[Violation]]:
        """The broken promises of each row, by its name."""
        self.broken = {each.row.name: [] for each in self._rows}
        try:
            self._prepare()
            self._hold()
            strike(self._fault, self._stage, [each.instance for each in self._rows], self._release)
            TALLY.kills += 1
            self._let_end()
            self._judge()
            self._clear()
        except Exception as error:
            self._broke(self._rows[0], Kind.OTHER, f"it was not carried out to its end: {error!r}")
            raise
        finally:
            for name, violations in self.broken.items():
                TALLY.row(name, violations)
        return {name: violations for name, violations in self.broken.items() if violations}

    def _prepare(self) -> None:
        """Bring each instance to where its scene begins."""
        if SCENES[self._rows[0].row.operation].of_others:
            with closing(libvirt.open(self._stage.host.uri)) as connection:
                for each in self._rows:
                    Backdoor(connection).stranger(each.instance)
        for operation in SCENES[self._rows[0].row.operation].before:
            for each in self._rows:
                asked = request(self._stage, operation, each.instance)
                each.earlier.append(self._stage.site.accept(operation, each.instance, asked))
            self._all_end([each.earlier[-1] for each in self._rows], READY_WITHIN_S)
            states = Counter(self._state(each.earlier[-1]) for each in self._rows)
            assert set(states) == {"succeeded"}, f"{operation} to begin with: {states}"
        for each in self._rows:
            each.boots_before = self._stage.site.boots(each.instance)

    def _hold(self) -> None:
        """Have each job come to its moment, and stay there."""
        site = self._stage.site
        for each in self._rows:
            each.job = f"{each.row.name}.{each.instance.hex[:8]}"
            for armed in self._first_arms(each):
                armed.arm(Deed.HOLD)
            site.accept(
                each.row.operation,
                each.instance,
                request(self._stage, each.row.operation, each.instance),
                job_id=each.job,
            )
        for each in self._rows:
            self._meets(each, self._first_arms(each)[0])
        for each in self._rows:
            if each.row.is_undone:
                taken = request_cancel(site.database, each.job, Asked("test", "a row"), outbox=False).taken
                assert taken, f"{each.row.name}: it cannot be cancelled any more"
                self._armed(each, each.row.step, each.row.moment).arm(Deed.HOLD)
                self._first_arms(each)[0].release()
        for each in self._rows:
            if each.row.is_undone:
                self._meets(each, self._armed(each, each.row.step, each.row.moment))
        in_the_middle = [each for each in self._rows if each.row.moment is Moment.DO]
        for each in in_the_middle:
            self._armed(each, each.row.step, Moment.INTENDED).release()
        if in_the_middle:
            passing(self._draw.uniform(0.0, INTO_THE_EFFECT_S))

    def _first_arms(self, each: Acted) -> list[Armed]:
        row = each.row
        if row.is_undone:
            last = acting_steps(row.operation)[-1]
            forward_after = last == OPERATIONS[row.operation].no_return_after
            return [self._armed(each, last, Moment.LOOKED if forward_after else Moment.MADE)]
        moment = Moment.INTENDED if row.moment is Moment.DO else row.moment
        return [self._armed(each, row.step, moment)]

    def _armed(self, each: Acted, step: str, moment: Moment) -> Armed:
        return Armed(self._stage.site.folder, step, moment, each.job)

    def _meets(self, each: Acted, armed: Armed) -> None:
        def there_or_over() -> bool:
            return armed.met or self._state(each.job) in ENDED

        try:
            eventually(there_or_over, f"{each.row.name} is there", MET_WITHIN_S)
            eventually(lambda: armed.met, "a moment that comes after its end", MET_AFTER_END_WITHIN_S)
        except NeverHappenedError:
            self._broke(each, Kind.OTHER, f"it never came to its moment: {self._told(each)}")

    def _release(self) -> None:
        for each in self._rows:
            self._armed(each, each.row.step, each.row.moment).release()

    def _let_end(self) -> None:
        with suppress(NeverHappenedError):  # told of each of them below
            self._all_end([each.job for each in self._rows], SETTLED_WITHIN_S)

    def _all_end(self, jobs: Sequence[str], within_s: float) -> None:
        def ended() -> bool:
            self._stage.supervise()
            return all(self._state(job) in ENDED for job in jobs)

        eventually(ended, "all jobs end", within_s, poll_s=0.1)

    def _state(self, job: str) -> str | None:
        return self._stage.site.state_of(job)

    # --- what must be so

    def _judge(self) -> None:
        """Once all is quiet."""
        deadline = time.monotonic() + QUIET_WITHIN_S
        while True:
            found = list(self._violations(self._look()))
            if not found or time.monotonic() >= deadline:
                break
            passing(0.5)
        for each, violation in found:
            self.broken[each.row.name].append(violation)

    def _look(self) -> Picture:
        return picture(self._stage.host, self._stage.site.state)

    def _violations(self, seen: Picture) -> Iterator[tuple[Acted, Violation]]:
        ledger = self._stage.ledger
        first = self._rows[0]
        for violation in (*promises.of_host(ledger, self._stage.site.host), *promises.of_network(seen)):
            yield first, violation
        for each in self._rows:
            for job in (*each.earlier, each.job):
                for violation in promises.of_job(ledger, job):
                    yield each, violation
            state = str(self._state(each.job))
            released = self._is_released(each, state)
            for violation in promises.of_line(ledger, each.instance):
                yield each, violation
            for violation in promises.of_instance(ledger, seen, each.instance, released=released):
                yield each, violation
            yield from ((each, violation) for violation in self._as_it_should(each, state))

    def _is_released(self, each: Acted, state: str) -> bool:
        operation = each.row.operation
        return (operation == "release" and state == "succeeded") or (operation == "adopt" and state != "succeeded")

    def _as_it_should(self, each: Acted, state: str) -> Iterator[Violation]:
        """The job came to what was asked for, or to nothing; a process was begun as often as that needs."""
        row, scene = each.row, each.scene
        wanted = {"cancelled"} if row.is_undone else {"succeeded"}
        if row.may_fail:
            wanted |= {"failed"}
        if state not in wanted:
            yield Violation(Kind.OTHER, f"it is {state}: {self._told(each)}")
        has = promises.standing(self._stage.ledger, each.instance)
        if row.fault not in ENDS_GUESTS:
            ought = scene.state_after if state == "succeeded" else scene.state_before
            if has.state != ought and not {has.state, ought} <= promises.NOWHERE:
                yield Violation(Kind.OTHER, f"the job is {state}, and the instance {has.state}, not {ought}")
        begun = self._stage.site.boots(each.instance) - each.boots_before
        may_be = {int(scene.begins_process)} if state == "succeeded" else {0, 1}
        if row.is_undone and scene.ends_process:
            may_be |= {1}  # a guest that was ended is started again
        if row.fault in MAY_START_TWICE:
            may_be |= {max(may_be) + 1}
        if begun not in may_be:
            yield Violation(Kind.DOUBLED, f"{begun} QEMUs were started, not {may_be}")

    def _broke(self, each: Acted, kind: Kind, what: str) -> None:
        self.broken[each.row.name].append(Violation(kind, what))

    def _told(self, each: Acted) -> str:
        """Its state, its error and its history."""
        job = reading.job_details(self._stage.site.database, each.job)
        if job is None:
            return "no such job"
        events = [f"{event.type}" for event in job.events]
        return f"{job.job.state} {job.job.error} {events}"

    # --- afterwards

    def _clear(self) -> None:
        """Destroy everything; then nothing of it is left."""
        jobs = [self._stage.site.accept("destroy", each.instance, {}) for each in self._rows]
        try:
            self._all_end(jobs, SETTLED_WITHIN_S)
        except NeverHappenedError as error:
            self._broke(self._rows[0], Kind.LOST, f"destroys do not end: {error}")
        for each, job in zip(self._rows, jobs, strict=True):
            for violation in promises.of_job(self._stage.ledger, job):
                if "never told" not in violation.what:
                    self.broken[each.row.name].append(violation)
        self._remove_what_others_have()
        seen = self._look()
        for each in self._rows:
            if each.instance in seen.domains or each.instance in seen.qemus:
                self._broke(each, Kind.LEFT_OVER, "a domain or QEMU is there after the destroy")
            if str(each.instance) in seen.files:
                self._broke(each, Kind.LEFT_OVER, f"files after the destroy: {seen.files[str(each.instance)]}")

    def _remove_what_others_have(self) -> None:
        """What was released, or adopted, is not Hostler's to remove, wholly or in part."""
        if self._rows[0].row.operation not in {"adopt", "release"}:
            return
        with closing(libvirt.open(self._stage.host.uri)) as connection:
            ours = {each.instance for each in self._rows}
            for domain in connection.listAllDomains():
                if UUID(bytes=domain.UUID()) in ours:
                    if domain.isActive():
                        domain.destroy()
                    domain.undefine()
        for each in self._rows:
            folder = self._stage.site.state / "instances" / str(each.instance)
            for file in folder.glob("*") if folder.exists() else []:
                file.unlink()
            with suppress(FileNotFoundError):
                folder.rmdir()


def batches(rows: Sequence[Row], key: Callable[[Row], tuple[str, str]]) -> dict[tuple[str, str], list[Row]]:
    """The rows by operation and fault."""
    return {of: list(group) for of, group in groupby(sorted(rows, key=key), key)}
