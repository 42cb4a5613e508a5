"""What the journal is to be told again, by the ledger, the domains and the files of its host; nothing is done here."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from models.journal.repairing import Known, KnownJob, Repairs
from models.records import Ending, InstanceRecord
from models.states import FINAL, InstanceState
from tasks.host import Domain
from worker.ledger.entries import Claimed
from worker.ledger.reading import Remembered

_NOT_THERE = (InstanceState.ABSENT, InstanceState.DELETED)


@dataclass(frozen=True)
class Plan:
    """What would be changed, and all that an operator should see of it: ``document`` is what ``--json`` prints."""

    repairs: Repairs
    document: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Of what would be told, whatever the journal says now: an operator's word is for just that."""
        told = {
            "instances": [(change["id"], change["to"]) for change in self.document["instances"]],
            "jobs": [(change["id"], change["run"], change["to"]) for change in self.document["jobs"]],
            "epochs": self.document["epochs"],
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def plan(  # noqa: PLR0913  # all that is known
    host: str,
    ledger: Remembered,
    known: Known,
    *,
    domains: Mapping[UUID, Domain],
    marks: Mapping[UUID, int],
    in_hand: frozenset[str] = frozenset(),
) -> Plan:
    """Compare what the ledger remembers with what the journal knows.

    ``known`` has every job and instance of the ledger, of the domains and of the ``marks``, which are epochs that
    files of the host show.
    """
    endings = tuple(ending for ending in ledger.endings if not _is_known(known.jobs.get(ending.job), ending))
    records = tuple(
        replace(ending.instance, id=instance)
        for instance, ending in sorted(ledger.standings.items())
        if ending.instance is not None and _is_newer(ending, ending.instance, known)
    )
    seen = dict(ledger.marks)
    for instance, epoch in marks.items():
        seen[instance] = max(epoch, seen.get(instance, 0))
    epochs = {
        instance: epoch
        for instance, epoch in sorted(seen.items())
        if epoch > (known.instances[instance].epoch if instance in known.instances else 0)
    }
    repairs = Repairs(endings, records, epochs, ledger.last)
    ended = {ending.job: ending for ending in endings}
    document = {
        "host": host,
        "claims": {"database": known.sequence, "ledger": ledger.last, "ledger_from": ledger.first},
        "instances": [_instance_change(record, known, domains, ledger) for record in records],
        "jobs": [_job_change(ending, known.jobs.get(job)) for job, ending in ended.items()],
        "epochs": {str(instance): epoch for instance, epoch in epochs.items()},
        "goes_on": [
            {"id": job.id, "operation": job.operation, "instance": str(job.instance), "state": job.state.value}
            for job in known.open_jobs
            if job.id not in ended
        ],
        "left": list(_left(host, ledger, known, records, domains)),
        "in_hand": sorted(in_hand),
    }
    return Plan(repairs, document)


def _is_known(job: KnownJob | None, ending: Ending) -> bool:
    return job is not None and (job.run > ending.run or (job.run == ending.run and job.state in FINAL))


def _is_newer(ending: Ending, record: InstanceRecord, known: Known) -> bool:
    """Whether the ledger tells of the instance what the journal does not know yet.

    The same epoch is the journal's own, unless the run that held it has not ended there; or another host's recovery
    raised it to that.
    """
    there = known.instances.get(record.id)
    if there is None or record.epoch > there.epoch:
        return True
    return record.epoch == there.epoch and ending.state in FINAL and not _is_known(known.jobs.get(ending.job), ending)


def _is_forgotten(claim: Claimed, known: Known) -> bool:
    """Whether the journal does not have the claim of a run that did not end."""
    job = known.jobs.get(claim.job)
    if job is None:
        return True
    return job.run < claim.run or (job.run == claim.run and job.epoch < claim.epoch and job.state not in FINAL)


def _instance_change(
    record: InstanceRecord, known: Known, domains: Mapping[UUID, Domain], ledger: Remembered
) -> dict[str, Any]:
    there, domain = known.instances.get(record.id), domains.get(record.id)
    return {
        "id": str(record.id),
        "name": record.name,
        "from": None if there is None else {"host": there.host, "state": there.state.value},
        "to": {"host": record.host, "state": record.state.value},
        "domain": None if domain is None else domain.state.value,
        "by": ledger.standings[record.id].job,
    }


def _job_change(ending: Ending, job: KnownJob | None) -> dict[str, Any]:
    return {
        "id": ending.job,
        "operation": ending.operation,
        "instance": str(ending.instance_id),
        "from": None if job is None else job.state.value,
        "to": ending.state.value,
        "run": ending.run,
    }


def _left(
    host: str,
    ledger: Remembered,
    known: Known,
    records: tuple[InstanceRecord, ...],
    domains: Mapping[UUID, Domain],
) -> Iterator[str]:
    """What nobody can tell the journal, in a sentence each, with what to do."""
    if ledger.first > known.sequence:
        yield (
            f"the ledger begins after claim {ledger.first}, the database ends at {known.sequence}: of what was done "
            "between only the domains tell"
        )
    begun = {claim.instance: claim for claim in ledger.claims.values() if _is_forgotten(claim, known)}
    for claim in begun.values():
        if claim.job in ledger.gone_to:
            there = ledger.gone_to[claim.job]
            yield (
                f"job {claim.job} ({claim.operation} of instance {claim.instance}) went on to host {there}, whose "
                f"ledger tells what came of it: recover {there}, too"
            )
            continue
        job = known.jobs.get(claim.job)
        has = "does not know it" if job is None else f"has it {job.state}"
        yield (
            f"job {claim.job} ({claim.operation} of instance {claim.instance}) was under way, and the database {has}: "
            "how far it came is forgotten; if it goes on it looks first, and what it cannot know for its own it leaves "
            "there and fails: then destroy the instance"
        )
    told = {record.id: record for record in records}
    after = {**known.instances, **told}
    for uuid, domain in sorted(domains.items()):
        record = after.get(uuid)
        is_here = record is not None and record.host == host and record.state not in _NOT_THERE
        if domain.identity is not None and not is_here and uuid not in begun:
            yield (
                f"domain {uuid} ({domain.state}) says that it is of job {domain.identity.job}, and is no instance of "
                f"{host}: adopt it, or destroy it"
            )
    for uuid, record in sorted(after.items()):
        lives = record.host == host and record.state not in {*_NOT_THERE, InstanceState.BUILDING}
        if lives and uuid not in domains and uuid not in begun:
            yield f"instance {uuid} is {record.state}, and {host} shows no domain of it: destroy it, or look for it"
