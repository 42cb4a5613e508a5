"""The product's worker with one operation that does nothing on the host, in four steps that are journaled like any."""

import logging
import sys
from types import MappingProxyType
from typing import Any

from models.records import Change, Json
from models.states import JobClass
from tasks.catalogue import Catalogue
from tasks.host import Host
from tasks.operation import Absent, Operation, Sight, There, Work
from tasks.requests import Request
from worker.settings import load
from worker.wiring import run_worker

STEPS = 4


class EffortlessRequest(Request):
    """Nothing can be asked for."""


class Effortless:
    """A fact that is true once it was intended."""

    def __init__(self, number: int) -> None:
        self.name = f"Effortless{number}"

    def plan(self, work: Work[Any], host: Host) -> Json:
        """Something to journal."""
        return {"number": self.name}

    def look(self, work: Work[Any], host: Host) -> Sight:
        """It knows what the journal knows."""
        return There() if work.intended else Absent()

    def do(self, work: Work[Any], host: Host) -> None:
        """No effort."""

    def undo(self, work: Work[Any], host: Host) -> None:
        """No effort."""

    def changes(self, work: Work[Any]) -> tuple[Change, ...]:
        """Nothing that the inventory should know."""
        return ()


EFFORTLESS: Catalogue = MappingProxyType(
    {
        "effortless": Operation(
            "effortless",
            EffortlessRequest,
            steps=tuple(Effortless(number) for number in range(1, STEPS + 1)),
            job_class=JobClass.POWER,
        )
    }
)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    sys.exit(run_worker(load(), catalogue=EFFORTLESS))
