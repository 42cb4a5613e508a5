"""Measure everything side by side, and say it once for people and once for programs."""

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench_jobs.contenders import Hostler, Lab, Plain, rival
from tests.bench_jobs.growth import FilledJournal, medians
from tests.bench_jobs.idle import measure_idle
from tests.bench_jobs.latency import first_effects, quantiles, resumes
from tests.lab.places import scratch_folder

THREADS = (1, 8)


@dataclass(frozen=True)
class Extent:
    """How much is measured."""

    rounds: int
    jobs: int
    dbos: int
    taskflow: int
    effects: int
    effects_without_broker: int
    kills: int
    sizes: tuple[int, ...]
    claims: int
    idle_workers: int


WHOLE = Extent(3, 1000, 200, 12, 200, 40, 20, (10, 10_000, 1_000_000), 300, 200)
QUICK = Extent(1, 200, 50, 4, 40, 8, 3, (10, 10_000), 100, 8)


class Report:
    """The table's rows, as they are measured."""

    def __init__(self) -> None:
        self.console = Console(width=110)
        self._rows: list[tuple[str, str]] = []
        self._began = time.monotonic()

    def add(self, what: str, figure: str) -> None:
        """One row; it is told at once, for the rest takes long."""
        self._rows.append((what, figure))
        self.tell(f"{what}: {figure}")

    def tell(self, what: str) -> None:
        """Say how far it is."""
        print(f"{time.monotonic() - self._began:6.1f} s  {what}", file=sys.stderr, flush=True)

    def show(self) -> None:
        """All of them."""
        table = Table("what", "figure", title="bench-jobs", box=None)
        for what, figure in self._rows:
            table.add_row(what, figure)
        self.console.print(table)


def measure_rates(lab: Lab, stack: ExitStack, extent: Extent, report: Report) -> dict[str, Any]:
    """Each contender in turn, round after round; medians, each at its best number of threads."""
    ours = {
        (journal, threads): lab.hostler(
            stack, f"{journal}-{threads}", postgresql=journal == "postgresql", threads=threads
        )
        for journal in ("sqlite", "postgresql")
        for threads in THREADS
    }
    plain = {threads: lab.plain(stack, threads) for threads in THREADS}
    readings: dict[tuple[str, int], list[float]] = defaultdict(list)
    commits: list[float] = []
    _warm_up([*ours.values(), *plain.values()], extent.jobs // 5)
    report.tell("workers are warm")
    for number in range(extent.rounds):
        for threads in THREADS:
            taken: dict[str, float] = {
                "celery": plain[threads].rate(extent.jobs),
                "sqlite": ours["sqlite", threads].rate(extent.jobs),
                "postgresql": ours["postgresql", threads].rate(extent.jobs),
                "dbos": rival("dbos_workflows", lab.postgres.create_database(), threads, extent.dbos),
                "taskflow": rival("taskflow_flows", lab.postgres.create_database(), threads, extent.taskflow),
            }
            commits.append(ours["postgresql", threads].commits_per_job)
            for kind, rate in taken.items():
                readings[kind, threads].append(rate)
            shown = ", ".join(f"{kind} {rate:.1f}/s" for kind, rate in taken.items())
            report.tell(f"round {number + 1}, threads {threads}: {shown}")
    names = {
        "celery": "bare Celery tasks with a result",
        "sqlite": "jobs of 4 steps, SQLite",
        "postgresql": "jobs of 4 steps, PostgreSQL",
        "dbos": "DBOS workflows of 4 steps, PostgreSQL",
        "taskflow": "TaskFlow flows of 4 tasks, PostgreSQL",
    }
    best: dict[str, float] = {}
    for kind, name in names.items():
        rates = {threads: statistics.median(readings[kind, threads]) for threads in THREADS}
        best[kind] = max(rates.values())
        report.add(f"{name}, 1 and 8 threads", " and ".join(f"{rate:.1f}/s" for rate in rates.values()))
    report.add("commits a job, PostgreSQL", f"{statistics.median(commits):.2f}")
    for other in ("celery", "dbos", "taskflow"):
        report.add(f"jobs on PostgreSQL over {other}, each at its best", f"{best['postgresql'] / best[other]:.2f}")
    return {
        "jobs_per_s": round(best["postgresql"], 1),
        "celery_tasks_per_s": round(best["celery"], 1),
        "dbos_workflows_per_s": round(best["dbos"], 1),
        "taskflow_flows_per_s": round(best["taskflow"], 1),
        "commits_per_job": round(statistics.median(commits), 2),
    }


def _warm_up(contenders: list[Hostler | Plain], jobs: int) -> None:
    for contender in contenders:
        contender.rate(jobs)


def measure_latencies(lab: Lab, stack: ExitStack, extent: Extent, report: Report) -> dict[str, Any]:
    """How soon a job begins, and how soon it goes on."""
    rung = lab.hostler(stack, "rung", postgresql=True, threads=8, marks=True)
    sent = quantiles(first_effects(rung, rung.send, extent.effects))
    report.add("message sent to first effect, Redis and PostgreSQL", _milliseconds(sent))
    submitted = quantiles(first_effects(rung, rung.submit, extent.effects))
    report.add("submit to first effect, Redis and PostgreSQL", _milliseconds(submitted))
    alone = lab.hostler(stack, "alone", postgresql=False, threads=8, marks=True, rung=False)
    found = quantiles(first_effects(alone, alone.submit, extent.effects_without_broker))
    report.add("submit to first effect, SQLite without a broker", _milliseconds(found))
    resumed = quantiles(resumes(rung, extent.kills))
    report.add("worker killed to its successor's first look", f"p50 {resumed['p50']:.2f} s, p99 {resumed['p99']:.2f} s")
    return {
        "first_effect_ms": {name: round(value, 1) for name, value in sent.items()},
        "resume_s": {name: round(value, 2) for name, value in resumed.items()},
    }


def _milliseconds(values: dict[str, float]) -> str:
    return f"p50 {values['p50']:.1f} ms, p99 {values['p99']:.1f} ms"


def measure_growth(lab: Lab, extent: Extent, report: Report) -> dict[str, Any]:
    """Claim and settle with few and many jobs; the worse of the two databases."""
    worst = 0.0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(scratch_folder("growth")))
        for journal in ("sqlite", "postgresql"):
            urls = (
                lab.postgres.create_database() if journal == "postgresql" else f"sqlite:///{folder / f'{size}.db'}"
                for size in extent.sizes
            )
            filled = [FilledJournal(stack, url, size) for url, size in zip(urls, extent.sizes, strict=True)]
            took = medians(filled, extent.claims)
            shown = ", ".join(f"{size}: {ms:.2f} ms" for size, ms in zip(extent.sizes, took, strict=True))
            report.add(f"claim and settle by jobs in the journal, {journal}", shown)
            worst = max(worst, took[-1] / took[0])
    report.add(f"claim and settle, {extent.sizes[-1]} jobs over {extent.sizes[0]}", f"{worst:.2f}")
    return {"claim_growth": round(worst, 2)}


def measure_fleet(extent: Extent, report: Report) -> dict[str, Any]:
    """Workers that have nothing to do."""
    idle = measure_idle(extent.idle_workers)
    report.add(f"{extent.idle_workers} idle workers: connections each", f"{idle.connections:.2f}")
    report.add(f"{extent.idle_workers} idle workers: statements a second each", f"{idle.statements_per_s:.2f}")
    return {"idle_statements_per_worker_s": round(idle.statements_per_s, 2)}


ORDER = (
    "jobs_per_s",
    "celery_tasks_per_s",
    "dbos_workflows_per_s",
    "taskflow_flows_per_s",
    "first_effect_ms",
    "resume_s",
    "claim_growth",
    "commits_per_job",
    "idle_statements_per_worker_s",
)
PARTS = ("rates", "latencies", "growth", "fleet")


def main() -> None:
    """One table, and last one line of JSON."""
    arguments = argparse.ArgumentParser(prog="make bench-jobs", description="What the journal costs, and beside what.")
    arguments.add_argument("--quick", action="store_true", help="a minute or two, for whoever changes something")
    arguments.add_argument(
        "--only", choices=PARTS, action="append", help="measure a part; the line has its figures alone"
    )
    wanted = arguments.parse_args()
    extent, parts = QUICK if wanted.quick else WHOLE, wanted.only or PARTS
    report = Report()
    figures: dict[str, Any] = {}
    with ExitStack() as stack:
        lab = Lab(stack)
        if "rates" in parts:
            with ExitStack() as workers:
                figures |= measure_rates(lab, workers, extent, report)
        if "latencies" in parts:
            with ExitStack() as workers:
                figures |= measure_latencies(lab, workers, extent, report)
        if "growth" in parts:
            figures |= measure_growth(lab, extent, report)
    if "fleet" in parts:
        figures |= measure_fleet(extent, report)
    report.show()
    print(json.dumps({name: figures[name] for name in ORDER if name in figures}))


if __name__ == "__main__":
    main()
