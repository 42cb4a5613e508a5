"""Checks run side by side, each within its deadline, whatever it does."""

import threading
import time

from worker.doctor.findings import Check, Finding, Level, examine, fine, problem


def test_a_hung_check_is_a_finding_and_holds_nobody_up() -> None:
    """Its own line names the deadline, what it would have told is unknown, and the others are as they are."""
    never = threading.Event()

    def hang() -> list[Finding]:
        never.wait(30)
        return []

    began = time.monotonic()
    found = examine(
        [
            Check(("libvirt", "versions"), hang, 0.1, "restart libvirtd"),
            Check(("space",), lambda: [fine("space", "plenty")], 5, ""),
        ]
    )
    never.set()

    assert time.monotonic() - began < 5
    assert [(each.check, each.level) for each in found] == [
        ("libvirt", Level.PROBLEM),
        ("versions", Level.UNKNOWN),
        ("space", Level.OK),
    ]
    assert found[0].line == "libvirt: no answer within 0.1 s; restart libvirtd"


def test_a_check_that_breaks_is_a_finding() -> None:
    """A defect of one check neither hides nor ends the others."""

    def broken() -> list[Finding]:
        raise LookupError("no such thing")

    found = examine([Check(("space",), broken, 5, "look there"), Check(("x",), lambda: [fine("x", "well")], 5, "")])

    assert found[0].line == "space: the look itself failed: LookupError: no such thing; look there"
    assert found[1].level is Level.OK


def test_a_finding_is_one_line() -> None:
    """Whatever a daemon said."""
    assert problem("libvirt", "first\n  second", "do\nit").line == "libvirt: first second; do it"
