"""Arriving: a job that its sender's message brings to a worker, recorded and claimed in one commit."""

from collections.abc import Callable

from models.engine import Database
from models.journal.accepting import Accepted, accept, accept_within
from models.journal.claiming import Claimant, HostHeldError, Lease, NotNow, claim_within
from models.journal.superseding import Terms
from models.records import JobRecord
from models.submission import Submission


def accept_and_claim(  # noqa: PLR0913  # who claims what
    database: Database,
    submission: Submission,
    claimant: Claimant,
    terms_of: Callable[[JobRecord], Terms],
    *,
    outbox: bool,
    seen: int = 0,
) -> tuple[Accepted, Lease | NotNow]:
    """What `accept`, without a ring, and `claim`, after it, would have done; what cannot be claimed is recorded alone.

    Raises DifferentPayloadError, as `accept` does.
    """
    try:
        with database.write() as connection:
            accepted = accept_within(connection, submission, outbox=False)
            claimed = claim_within(
                connection, submission.id, claimant, terms_of, outbox=outbox, seen=seen, locked=accepted.instance_locked
            )
            return accepted, claimed
    except HostHeldError as held:
        return accept(database, submission, outbox=False), held.not_now
