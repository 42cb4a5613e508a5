"""Drift: compares what the host shows with what the journal says, and records what neither side's jobs account for.

Nothing is repaired here. A guest that changed its power by itself is recorded in its instance; whatever else is told
differently is drift, listed until it is gone, for an operator to put right by a job.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from typing_extensions import override

from models.engine import Database
from models.observing import NOT_THERE, Drift, Standing, drifted, happened, power_changed, standing
from models.states import DeviceKind, DriftKind, InstanceState, Observed
from tasks.host import Domain, DomainState, GuestDevice, Host, HostError
from tasks.steps.devices import interfaces_of, volumes_of

log = logging.getLogger(__name__)

#: News is looked at together, this long after the first: what a job does itself is journaled by then, mostly.
GATHERED_FOR_S = 1.0
#: Absence is believed after a second look, no sooner than this after the first, in seconds.
SECOND_LOOK_AFTER_S = 5.0

_POWER: Mapping[DomainState, InstanceState] = MappingProxyType(
    {
        DomainState.RUNNING: InstanceState.RUNNING,
        DomainState.PAUSED: InstanceState.PAUSED,
        DomainState.SHUT_OFF: InstanceState.STOPPED,
        DomainState.CRASHED: InstanceState.STOPPED,
    }
)
#: Instances whose power is compared; the others are being made, or gone.
_LIVING = frozenset(_POWER.values()) | {InstanceState.SUSPENDED}


class _News(Protocol):
    @property
    def instance(self) -> UUID | None: ...
    @property
    def reboot(self) -> bool: ...


@dataclass
class Comparison:
    """One host and its journal, compared as often as it is asked for."""

    database: Database
    host_name: str
    host: Host
    clock: Callable[[], float] = time.monotonic
    _absent_since: dict[UUID, float] = field(default_factory=dict)

    def look(self) -> None:
        """Compare everything; raises HostError or the journal's errors when one side cannot be read."""
        before = standing(self.database, host=self.host_name)
        domains = self.host.domains.known()
        after = standing(self.database, host=self.host_name, ids=domains)
        quiet = {each.id: each for each in after.values() if _is_quiet(each, before)}
        for instance in quiet.values():
            self._compare_power(instance, domains.get(instance.id))
        unsure = set(after) - set(quiet)
        found = [
            *self._missing(quiet.values(), domains),
            *_unknown(domains, after, unsure, self.host_name),
            *self._devices(each for each in quiet.values() if each.id in domains),
        ]
        new, gone = drifted(self.database, self.host_name, found)
        for drift in new:
            log.warning("drift: %s %s %s", drift.kind, drift.subject, dict(drift.data))
        for record in gone:
            log.info("drift is gone: %s %s", record.kind, record.subject)

    def look_at(self, changed: Collection[UUID], rebooted: Collection[UUID] = ()) -> None:
        """Compare the power of these instances, and record which of them began anew by themselves."""
        before = standing(self.database, ids={*changed, *rebooted})
        for instance in before.values():
            if instance.busy or instance.host != self.host_name:
                continue
            if instance.id in rebooted:
                happened(self.database, instance, Observed.REBOOTED, {})
            self._compare_power(instance, self.host.domains.find(instance.id))

    @property
    def is_unsure(self) -> bool:
        """Whether something was absent once, and a second look is due before long."""
        return bool(self._absent_since)

    def _compare_power(self, instance: Standing, domain: Domain | None) -> None:
        if domain is None or domain.identity is None or instance.state not in _LIVING:
            return
        now = _POWER.get(domain.state)
        if now is InstanceState.STOPPED and self.host.power.is_saved(instance.id):
            now = InstanceState.SUSPENDED
        if now is None or now is instance.state:
            return
        if power_changed(self.database, instance, now, {"reason": domain.reason}):
            log.info("by itself: instance=%s %s -> %s (%s)", instance.id, instance.state, now, domain.reason)

    def _missing(self, quiet: Iterable[Standing], domains: Mapping[UUID, Domain]) -> Iterator[Drift]:
        now = self.clock()
        absent = [
            each for each in quiet if each.id not in domains and each.state in _LIVING and each.host == self.host_name
        ]
        self._absent_since = {each.id: self._absent_since.get(each.id, now) for each in absent}
        for each in absent:
            if now - self._absent_since[each.id] >= SECOND_LOOK_AFTER_S:
                yield Drift(DriftKind.MISSING, str(each.id), {"state": each.state.value})

    def _devices(self, present: Iterable[Standing]) -> Iterator[Drift]:
        for instance in present:
            if instance.state not in _LIVING:
                continue
            try:
                shown = self.host.devices.shown(instance.id)
            except HostError as error:  # it went meanwhile, or is another's, which is drift of its own
                log.info("devices not compared: instance=%s %s", instance.id, error)
                continue
            if shown is None:
                continue
            wanted: tuple[GuestDevice, ...] = (*volumes_of(instance.devices), *interfaces_of(instance.devices))
            for device in wanted:
                if not shown.everywhere(device):
                    subject = f"{instance.id}/{device.alias}"
                    yield Drift(DriftKind.DEVICE_MISSING, subject, {"alias": device.alias})
            own = {device.details.get("alias") for device in instance.devices if device.kind is DeviceKind.DISK}
            ours = {device.alias for device in wanted} | own
            seen = {device.alias for side in (shown.live, shown.persistent) for device in side or ()}
            for alias in sorted(seen - ours):
                if alias.startswith("ua-"):
                    yield Drift(DriftKind.DEVICE_UNKNOWN, f"{instance.id}/{alias}", {"alias": alias})


class Observer(threading.Thread):
    """Looks at everything as it starts and at intervals, and at an instance when something happens to it."""

    def __init__(self, comparison: Comparison, news: Callable[[float], tuple[_News, ...]], interval_s: float) -> None:
        super().__init__(name="observer", daemon=True)
        self._comparison = comparison
        self._news = news
        self._interval_s = interval_s
        self._stop_asked = threading.Event()

    @override
    def run(self) -> None:
        """Look until it is stopped."""
        next_look = time.monotonic()
        while not self._stop_asked.is_set():
            if time.monotonic() >= next_look:
                self._patiently(self._comparison.look)
                wait_s = min(self._interval_s, SECOND_LOOK_AFTER_S) if self._comparison.is_unsure else self._interval_s
                next_look = time.monotonic() + wait_s
            news = self._news(min(next_look - time.monotonic(), GATHERED_FOR_S))
            if not news or self._stop_asked.wait(GATHERED_FOR_S):
                continue
            news = (*news, *self._news(0.0))
            if any(each.instance is None for each in news):
                next_look = time.monotonic()
            changed = {each.instance for each in news if each.instance is not None}
            rebooted = {each.instance for each in news if each.instance is not None and each.reboot}
            self._patiently(lambda: self._comparison.look_at(changed, rebooted))  # noqa: B023  # called at once

    def stop(self, deadline_s: float) -> None:
        """Look no more."""
        self._stop_asked.set()
        self.join(timeout=deadline_s)

    @staticmethod
    def _patiently(look: Callable[[], None]) -> None:
        """What cannot be read now is read at the next look."""
        try:
            look()
        except (HostError, SQLAlchemyError) as error:
            log.warning("host and journal not compared: %s: %s", type(error).__name__, error)
        except Exception:
            log.exception("the observer met a defect; it goes on")


def _is_quiet(now: Standing, before: Mapping[UUID, Standing]) -> bool:
    """Whether no job had the instance while the host was looked at."""
    then = before.get(now.id)
    return then is not None and not then.busy and not now.busy and then.epoch == now.epoch


def _unknown(
    domains: Mapping[UUID, Domain], known: Mapping[UUID, Standing], unsure: Collection[UUID], host: str
) -> Iterator[Drift]:
    for uuid, domain in domains.items():
        instance = known.get(uuid)
        if instance is not None and (instance.busy or (uuid in unsure and instance.host == host)):
            continue
        if instance is None or instance.host != host or instance.state in NOT_THERE:
            whose = "hostler's" if domain.identity is not None else "another's"
            lives_on = None if instance is None or instance.state in NOT_THERE else instance.host
            data = {"state": domain.state.value, "made_by": whose, "lives_on": lives_on}
            yield Drift(DriftKind.UNKNOWN, str(uuid), data)
