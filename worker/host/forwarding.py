"""Whether a bridge passes on what a guest sends: told by the kernel's events about links, and seen in sysfs.

A port of a bridge that speaks the spanning tree protocol is silent for two of its forward delays, 30 s by default, and
one of a bridge that is down for as long as that is. A guest that asks for its address meanwhile gets none.
"""

import selectors
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

#: An event may be lost where many come at once.
LOOK_AGAIN_S: Final = 2.0
#: The kernel's multicast group of changes to links, their states in bridges among them.
_RTMGRP_LINK: Final = 1
_MESSAGE_MAX_BYTES: Final = 65_536
_MESSAGES_AT_ONCE: Final = 1000
#: Linux's ``BR_STATE_FORWARDING``.
_FORWARDING: Final = "3"


def is_bridge_port(tap: Path) -> bool:
    """Whether the device, a folder of sysfs, is plugged into a Linux bridge."""
    return (tap / "brport").exists()


def forwards(tap: Path) -> bool:
    """Whether its bridge passes on what comes from the device, a folder of sysfs."""
    try:
        return (tap / "brport" / "state").read_text().strip() == _FORWARDING
    except OSError:
        return False  # it is not plugged in, or not any more


def wait_until(true: Callable[[], bool], deadline_s: float) -> bool:
    """Look at each change of a link in this network namespace; whether it came true in time."""
    end = time.monotonic() + deadline_s
    with _changes_of_links() as wait:
        while not true():  # until the deadline, which each round compares
            left = end - time.monotonic()
            if left <= 0:
                return False
            wait(min(left, LOOK_AGAIN_S))
    return True


@contextmanager
def _changes_of_links() -> Iterator[Callable[[float], None]]:
    """A wait for the next change, at most so many seconds; changes since this was entered count."""
    with ExitStack() as stack:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
        events = stack.enter_context(socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE))
        events.bind((0, _RTMGRP_LINK))
        ready = stack.enter_context(selectors.DefaultSelector())
        ready.register(events, selectors.EVENT_READ)

        def wait(seconds: float) -> None:
            ready.select(seconds)
            with suppress(OSError):  # none is left, or some were lost: either way it is time to look
                for _ in range(_MESSAGES_AT_ONCE):
                    events.recv(_MESSAGE_MAX_BYTES)

        yield wait
