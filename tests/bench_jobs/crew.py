"""Many workers of the product's own, each in a process forked from one that has imported what they need.

Forked, they share their program's memory, so that two hundred fit into a small machine.
"""

import json
import logging
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import migrations
from models.engine import Database
from tests.lab.waiting import eventually
from worker.settings import load
from worker.wiring import run_worker

READY_LINE = "worker ready"
READY_WITHIN_S = 120.0
#: So many start at a time: a machine has only so many processors.
AT_ONCE = 3


@dataclass(frozen=True)
class Crew:
    """So many workers, on one journal, broker and libvirtd; each keeps its state below the folder."""

    workers: int
    folder: Path
    database_url: str
    broker_url: str
    libvirt_uri: str

    def as_json(self) -> str:
        """The argument that starts it."""
        return json.dumps(asdict(self) | {"folder": str(self.folder)})

    @classmethod
    def from_json(cls, document: str) -> "Crew":
        """As it was started."""
        fields = json.loads(document)
        return cls(**fields | {"folder": Path(fields["folder"])})

    def log_of(self, number: int) -> Path:
        """What a worker wrote."""
        return self.folder / f"{number}.log"

    def ready(self) -> int:
        """How many are ready."""
        logs = (self.log_of(number) for number in range(self.workers))
        return sum(READY_LINE in log.read_text(errors="replace") for log in logs if log.exists())

    def settings_of(self, number: int) -> dict[str, str]:
        """A worker's environment: the defaults, with Redis, PostgreSQL and libvirtd."""
        state = self.folder / str(number)
        return {
            "HOSTLER_HOST": f"h{number}",
            "HOSTLER_STATE_DIR": str(state),
            "HOSTLER_LOCK_DIR": str(state / "locks"),
            "HOSTLER_DATABASE_URL": self.database_url,
            "HOSTLER_BROKER_URL": self.broker_url,
            "HOSTLER_LIBVIRT_URI": self.libvirt_uri,
            "HOSTLER_VIRT_TYPE": "qemu",
        }


def _serve(crew: Crew, number: int) -> int:
    os.environ.update(crew.settings_of(number))
    logging.basicConfig(
        level=logging.INFO, filename=crew.log_of(number), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    return run_worker(load())


def main(crew: Crew) -> None:
    """Bring the journal up to date, start all, and look after them until whoever started it ends them all."""
    database = Database(crew.database_url)
    migrations.upgrade(database)
    database.close()
    children = []
    for number in range(crew.workers):
        child = os.fork()
        if child == 0:
            os._exit(_serve(crew, number))
        children.append(child)
        eventually(
            lambda: len(children) - crew.ready() < AT_ONCE, "earlier workers are ready", READY_WITHIN_S, poll_s=0.2
        )
    ended, _status = os.waitpid(-1, 0)
    raise RuntimeError(f"worker {children.index(ended)} has ended")


def _require_all(children: list[int]) -> None:
    """Raise RuntimeError if one of them has ended."""
    for number, child in enumerate(children):
        if os.waitpid(child, os.WNOHANG)[0]:
            raise RuntimeError(f"worker {number} has ended")


if __name__ == "__main__":
    main(Crew.from_json(sys.argv[1]))
