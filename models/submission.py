"""A submission: what a sender asks for, before anything is recorded."""

import hashlib
import json
from dataclasses import dataclass
from uuid import UUID

from models.records import Json
from models.states import JobClass


@dataclass(frozen=True)
class Submission:
    """A request for one operation on one instance, under an id that its sender chose."""

    id: str
    operation: str
    job_class: JobClass
    instance: UUID
    host: str
    request: Json  #: as sent, before defaults; what is withheld from it is only named
    actor: str
    canvas: Json | None = None  #: Celery's links, chain, chord and group, as they came
    withheld: Json | None = None  #: parts of the request that nobody is shown, and that end with the job

    @property
    def digest(self) -> str:
        """What sameness is judged by: SHA-256 over the canonical JSON of what was asked."""
        asked = {
            "operation": self.operation,
            "instance": str(self.instance),
            "host": self.host,
            "request": self.request,
        }
        canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()
