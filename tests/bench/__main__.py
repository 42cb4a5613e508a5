"""Measure, and say it once for people and once for programs."""

import argparse
import json
from contextlib import ExitStack
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.instances import OneHost, measure_life, measure_power, measure_volumes
from tests.bench.migrations import measure_migrations
from tests.bench.timing import Times

#: A hundred spawns and a hundred destroys are the two hundred jobs that memory is judged after.
ROUNDS = 100
VOLUME_ROUNDS = 60
MIGRATION_ROUNDS = 20
POWER_ROUNDS = 20


def main() -> None:
    """One table, and last one line of JSON."""
    arguments = argparse.ArgumentParser(prog="make bench", description="What Hostler costs over the bare calls.")
    arguments.add_argument("--rounds", type=int, default=ROUNDS, help="of spawn and destroy")
    arguments.add_argument("--volume-rounds", type=int, default=VOLUME_ROUNDS, help="of attach and detach")
    arguments.add_argument("--migration-rounds", type=int, default=MIGRATION_ROUNDS)
    arguments.add_argument("--power-rounds", type=int, default=POWER_ROUNDS, help="of each power operation")
    wanted = arguments.parse_args()
    times = Times()
    memory: dict[str, Any] = {}
    with ExitStack() as lab:
        place = OneHost(lab)
        if wanted.rounds:
            memory = measure_life(place, times, wanted.rounds)
        if wanted.volume_rounds:
            measure_volumes(place, times, wanted.volume_rounds)
        if wanted.power_rounds:
            measure_power(place, times, wanted.power_rounds)
    if wanted.migration_rounds:
        measure_migrations(times, wanted.migration_rounds)
    figures = times.figures()
    table = Table("operation", "hostler ms", "bare ms", "ratio", title="medians", box=None)
    for operation, row in figures.items():
        table.add_row(operation, f"{row['hostler_ms']:.1f}", f"{row['bare_ms']:.1f}", f"{row['ratio']:.2f}")
    console = Console(width=100)
    console.print(table)
    if memory:
        console.print(
            f"worker: {memory['worker_rss_mb']} MiB resident after {memory['jobs']} jobs, "
            f"{memory['worker_rss_half_way_mb']} MiB half-way"
        )
    print(json.dumps(figures | memory))


if __name__ == "__main__":
    main()
