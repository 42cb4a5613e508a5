"""The keeper of a host's claims: has the host registered, held when its database went back, and recovered."""

import logging
import threading
from collections.abc import Callable, Mapping
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from typing_extensions import override

from models.engine import Database
from models.inventory import HostBoundElsewhereError, Registration, register
from models.journal.asking import Asked
from models.journal.recovering import Recovery, begin, claims_of, open_recovery, publish, refuse
from models.journal.repairing import known, repair
from tasks.host import Domains, HostError
from worker.hands import Hands
from worker.ledger.writing import Ledger
from worker.recovery.judging import Judgement, judge
from worker.recovery.plan import Plan, plan

log = logging.getLogger(__name__)

#: How often a host in recovery is looked at, in seconds, and how soon what failed is tried again.
INTERVAL_S = 1.0


class RecoveryKeeper(threading.Thread):
    """Waits for a suspicion that the database went back, and for an operator's word once that is so.

    ``marks`` gives the epochs that files of the host show; ``served`` is called whenever nothing, or nothing more, is
    amiss, before the first job is claimed.
    """

    def __init__(  # noqa: PLR0913  # all that it compares
        self,
        database: Database,
        registration: Registration,
        ledger: Ledger,
        *,
        hands: Hands,
        domains: Domains,
        marks: Callable[[], Mapping[UUID, int]],
        served: Callable[[], None],
        interval_s: float = INTERVAL_S,
    ) -> None:
        super().__init__(name="recovery", daemon=True)
        self._database = database
        self._registration = registration
        self._host = registration.host
        self._ledger = ledger
        self._hands = hands
        self._domains = domains
        self._marks = marks
        self._served = served
        self._interval_s = interval_s
        self._recovers = False
        self._complaint = ""
        self._stopped = threading.Event()

    def enlist(self) -> None:
        """Register the host, and compare its journal with its ledger; from then on it is served, or held.

        Raises HostBoundElsewhereError as `register` does.
        """
        register(self._database, self._registration)
        judgement = self._judge()
        if judgement.because is not None:
            begin(self._database, self._host, judgement.because)
            self._recovers = True
            self._ledger.suspect(judgement.because)
            log.error(
                "%s is in recovery: %s; nothing is touched there until an operator says: hostler hosts recover %s",
                *(self._host, judgement.because, self._host),
            )
            return
        if judgement.remark is not None:
            log.warning("%s", judgement.remark)
        claims = claims_of(self._database, self._host)
        sequence = 0 if claims is None else claims.sequence
        if self._ledger.was_lost and not self._ledger.file.exists:
            self._ledger.recovered(sequence)  # so that there is one from here on
        self._recovers = False
        self._served()
        self._ledger.begin_at(sequence)

    @override
    def run(self) -> None:
        """Look while there is something to look at."""
        while not self._stopped.is_set():
            self._ledger.suspected.wait(self._interval_s if self._recovers else None)
            if self._stopped.is_set():
                return
            try:
                self.look()
                self._complaint = ""
            except (SQLAlchemyError, HostError, HostBoundElsewhereError, OSError) as error:
                self._complain(f"{type(error).__name__}: {error}")
                self._stopped.wait(self._interval_s)
            except Exception:
                log.exception("the recovery met a defect; it goes on")
                self._stopped.wait(self._interval_s)

    def look(self) -> None:
        """Look once: into a suspicion, or what a recovery has come to."""
        found = open_recovery(self._database, self._host) if self._recovers else None
        if found is None:
            self._enlist_anew()
            found = open_recovery(self._database, self._host) if self._recovers else None
        if found is not None:
            self._ledger.suspected.clear()
            if self._go_on(found):
                self._enlist_anew()

    def _enlist_anew(self) -> None:
        """Have it served, or held; what fails is looked into again."""
        self._ledger.suspected.clear()
        try:
            self.enlist()
        except BaseException:
            self._ledger.suspected.set()
            raise

    def stop(self, deadline_s: float) -> None:
        """Look no more."""
        self._stopped.set()
        self._ledger.suspected.set()
        self.join(timeout=deadline_s)

    def _complain(self, what: str) -> None:
        """Once, however often it is tried."""
        if what != self._complaint:
            log.error("whether the database went back cannot be looked into now, and no job is claimed: %s", what)
            self._complaint = what

    def _judge(self) -> Judgement:
        claims = claims_of(self._database, self._host)
        if claims is None:
            return Judgement(f"the database does not know {self._host}")
        if self._ledger.jumped is not None:
            return Judgement(self._ledger.jumped)
        if self._ledger.was_lost and self._ledger.last == 0:
            return judge(claims, None, None, self._strange() if claims.sequence else {})
        remembered = self._ledger.tail()
        ending = remembered.last_ending
        ids = [] if ending is None else [ending.job]
        last_ended = known(self._database, self._host, ids, ()).jobs.get(ids[0]) if ids else None
        return judge(claims, remembered, last_ended, {})

    def _strange(self) -> dict[str, str]:
        """The domains that say that they are of jobs which the journal does not know, and of no instance it has."""
        marked = {uuid: domain.identity for uuid, domain in self._domains.known().items() if domain.identity}
        there = known(self._database, self._host, {identity.job for identity in marked.values()}, marked)
        return {
            str(uuid): identity.job
            for uuid, identity in marked.items()
            if identity.job not in there.jobs and uuid not in there.living
        }

    def _go_on(self, found: Recovery) -> bool:
        """Tell what would be changed, and change it if that is wanted and nothing of the host is in hand; if it was."""
        in_hand = self._hands.held()
        proposed = self._plan(in_hand)
        if found.digest != proposed.digest or found.plan != proposed.document:
            publish(self._database, found.number, proposed.document, proposed.digest)
        if found.wanted is None or in_hand:
            return False
        if found.wanted != proposed.digest:
            refuse(self._database, found.number, "what is to be changed is not what was shown: look again.")
            return False
        asked = Asked(found.wanted_by or "unknown", found.wanted_because or "")
        sequence, left = repair(self._database, found.number, self._host, proposed.repairs, asked)
        for sentence in left:
            log.warning("recovery: %s", sentence)
        log.warning("%s has recovered, by %s: the journal was told again", self._host, asked.actor)
        self._recovers = False
        self._ledger.recovered(sequence)
        return True

    def _plan(self, in_hand: frozenset[str]) -> Plan:
        remembered = self._ledger.read()
        domains, marks = self._domains.known(), self._marks()
        ids = {ending.job for ending in remembered.endings} | set(remembered.claims)
        of = {*remembered.standings, *remembered.marks, *domains, *marks}
        there = known(self._database, self._host, ids, of)
        return plan(self._host, remembered, there, domains=domains, marks=marks, in_hand=in_hand)
