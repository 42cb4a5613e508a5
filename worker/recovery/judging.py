"""Whether a host's journal and its ledger tell one story."""

from collections.abc import Mapping
from dataclasses import dataclass

from models.journal.recovering import HostClaims
from models.journal.repairing import KnownJob
from models.states import FINAL
from worker.ledger.reading import Remembered


@dataclass(frozen=True)
class Judgement:
    """``because`` says why the host must recover; else ``remark`` is worth a line in the log, if it is one."""

    because: str | None = None
    remark: str | None = None


def judge(
    claims: HostClaims,
    ledger: Remembered | None,
    last_ended: KnownJob | None,
    strange: Mapping[str, str],
) -> Judgement:
    """Compare how far each knows of the host's claims, and what the last run that ended came to.

    ``ledger`` is None where there is none, ``last_ended`` what the journal has of the run that ended last by the
    ledger, ``strange`` the domains that say that they are of jobs which the journal does not know: domain to job.
    """
    if claims.recovering_because is not None:
        return Judgement(claims.recovering_because)
    if ledger is None:
        return _without_ledger(claims, strange)
    if claims.sequence < ledger.last:
        went = (
            "the database has never heard of a claim of this host" if claims.sequence == 0 else
            f"the database is at claim {claims.sequence} of this host"
        )  # fmt: skip
        new = ": it is a new one, or went back" if claims.sequence == 0 else ": it was restored from a backup, it seems"
        return Judgement(f"{went}, its ledger at claim {ledger.last}{new}")
    ending = ledger.last_ending
    if ending is not None and not _has_ended(last_ended, ending.run):
        has = "does not know it" if last_ended is None else f"has it {last_ended.state}"
        return Judgement(
            f"job {ending.job} ({ending.operation}) has {ending.state} by this host's ledger, and the database {has}"
        )
    if claims.sequence > ledger.last:
        return Judgement(
            remark=f"the ledger is {claims.sequence - ledger.last} claims behind the database: its last lines were "
            "lost, as when a machine loses its power; it goes on from the database's"
        )
    return Judgement()


def _without_ledger(claims: HostClaims, strange: Mapping[str, str]) -> Judgement:
    if claims.sequence == 0:
        return Judgement()
    if strange:
        domain, job = next(iter(sorted(strange.items())))
        more = f", and {len(strange) - 1} more" if len(strange) > 1 else ""
        return Judgement(
            f"this host has lost its ledger, and its domain {domain} says that it is of job {job}{more}, "
            "which the database does not know"
        )
    return Judgement(
        remark=f"this host has no ledger yet, or has lost it: whether the database went back before claim "
        f"{claims.sequence} cannot be told, and no domain speaks for it"
    )


def _has_ended(job: KnownJob | None, run: int) -> bool:
    return job is not None and (job.run > run or (job.run == run and job.state in FINAL))
