"""Faults scripted at the port, and the ledger of what really happened: what the rooms of the fake host share."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar
from uuid import UUID

P = ParamSpec("P")
R = TypeVar("R")
RoomT = TypeVar("RoomT", bound="Room")


class Killed(BaseException):
    """The worker was killed here."""


@dataclass
class Fault:
    """An error that calls of one method meet: so many times, at that moment of the call."""

    error: BaseException
    times: int
    after: bool
    halfway: bool


class Script:
    """Which calls fail when, and what was done. Rooms hold ``changed`` while they read or change anything."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.effects: list[tuple[str, UUID]] = []
        self.calls: Counter[str] = Counter()
        self._faults: dict[str, list[Fault]] = {}

    def fail(self, method: str, fault: Fault) -> None:
        """Add a fault to those of the method."""
        with self.changed:
            self._faults.setdefault(method, []).append(fault)

    def unspent(self) -> tuple[str, ...]:
        """The methods whose scripted faults have not all happened."""
        with self.changed:
            return tuple(sorted(name for name, faults in self._faults.items() if any(each.times for each in faults)))

    def begin(self, method: str) -> None:
        """A call of the port arrives."""
        with self.changed:
            self.calls[method] += 1
        self.trip(method, after=False)

    def trip(self, method: str, *, after: bool, halfway: bool = False) -> None:
        """Raise the fault that was scripted for this moment, if any."""
        with self.changed:
            for fault in self._faults.get(method, ()):
                if fault.times and fault.after is after and fault.halfway is halfway:
                    fault.times -= 1
                    raise fault.error

    def did(self, method: str, instance: UUID) -> None:
        """Something changed: it is in the ledger, and whoever waits looks."""
        with self.changed:
            self.effects.append((method, instance))
            self.changed.notify_all()


class Room:
    """A part of the fake host."""

    def __init__(self, script: Script) -> None:
        self.script = script


def port(name: str) -> Callable[[Callable[Concatenate[RoomT, P], R]], Callable[Concatenate[RoomT, P], R]]:
    """A method of the port: counted, and open to scripted faults before and after its effect."""

    def decorate(method: Callable[Concatenate[RoomT, P], R]) -> Callable[Concatenate[RoomT, P], R]:
        def call(room: RoomT, /, *args: P.args, **kwargs: P.kwargs) -> R:
            room.script.begin(name)
            result = method(room, *args, **kwargs)
            room.script.trip(name, after=True)
            return result

        return call

    return decorate
