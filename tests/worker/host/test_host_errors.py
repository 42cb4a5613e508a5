"""The error table: what libvirt's errors mean, by symbol."""

import errno
from pathlib import Path

import libvirt
import pytest

from models.states import ErrorClass
from tasks.host import HostError
from tests.worker.host.doubles import libvirt_error
from worker.host.errors import (
    CODE_NAMES,
    DOMAIN_NAMES,
    ERROR_TABLE,
    Call,
    from_os_error,
    os_errors,
    row_for,
    translated,
)

TRANSIENT, UNKNOWN = ErrorClass.TRANSIENT, ErrorClass.UNKNOWN
RESOURCE, PERMANENT, CONFLICT = ErrorClass.RESOURCE, ErrorClass.PERMANENT, ErrorClass.CONFLICT

#: (code, domain, errno, call) and the class: as measured, or as libvirt's header has it.
MEANINGS = [
    # the connection
    ("SYSTEM_ERROR", "RPC", errno.ECONNREFUSED, Call.OPEN, TRANSIENT),
    ("SYSTEM_ERROR", "RPC", errno.ENOENT, Call.OPEN, TRANSIENT),
    ("SYSTEM_ERROR", "RPC", errno.ECONNRESET, Call.START, UNKNOWN),
    ("SYSTEM_ERROR", "RPC", errno.EIO, Call.DEFINE, UNKNOWN),
    ("SYSTEM_ERROR", "REMOTE", errno.EIO, Call.KILL, UNKNOWN),
    ("INTERNAL_ERROR", "RPC", 0, Call.START, UNKNOWN),
    ("INTERNAL_ERROR", "RPC", 0, Call.LOOK, TRANSIENT),
    ("RPC", "RPC", 0, Call.UNDEFINE, UNKNOWN),
    ("INVALID_CONN", "NONE", 0, Call.START, UNKNOWN),
    ("AUTH_FAILED", "RPC", 0, Call.OPEN, PERMANENT),
    ("NO_CONNECT", "NONE", 0, Call.OPEN, PERMANENT),
    # domains
    ("NO_DOMAIN", "QEMU", 0, Call.START, PERMANENT),
    ("OPERATION_FAILED", "DOMAIN", 0, Call.DEFINE, CONFLICT),
    ("OPERATION_FAILED", "QEMU", 0, Call.KILL, TRANSIENT),
    ("OPERATION_TIMEOUT", "QEMU", 0, Call.START, TRANSIENT),
    ("OPERATION_TIMEOUT", "QEMU", 0, Call.KILL, TRANSIENT),
    ("SYSTEM_ERROR", "NONE", errno.EBUSY, Call.KILL, TRANSIENT),
    ("SYSTEM_ERROR", "STORAGE", errno.ENOENT, Call.START, PERMANENT),
    ("SYSTEM_ERROR", "STORAGE", errno.ENOSPC, Call.START, RESOURCE),
    ("SYSTEM_ERROR", "NONE", errno.ENOMEM, Call.START, RESOURCE),
    ("SYSTEM_ERROR", "NONE", errno.EACCES, Call.START, PERMANENT),
    ("SYSTEM_ERROR", "NONE", errno.ENODEV, Call.START, PERMANENT),
    ("SYSTEM_ERROR", "NONE", errno.ECONNRESET, Call.START, UNKNOWN),
    ("NO_MEMORY", "NONE", 0, Call.DEFINE, RESOURCE),
    ("INTERNAL_ERROR", "QEMU", 0, Call.START, PERMANENT),
    ("INTERNAL_ERROR", "QEMU", 0, Call.KILL, UNKNOWN),
    ("INTERNAL_ERROR", "QEMU", 0, Call.LOOK, TRANSIENT),
    ("XML_ERROR", "DOMAIN", 0, Call.DEFINE, PERMANENT),
    ("XML_DETAIL", "DOMAIN", 0, Call.DEFINE, PERMANENT),
    ("CONFIG_UNSUPPORTED", "QEMU", 0, Call.START, PERMANENT),
    ("NO_NETWORK", "NETWORK", 0, Call.START, PERMANENT),
    ("RESOURCE_BUSY", "NONE", 0, Call.START, TRANSIENT),
    ("OPERATION_DENIED", "NONE", 0, Call.KILL, PERMANENT),
    # devices
    ("NO_DOMAIN", "QEMU", 0, Call.ATTACH, PERMANENT),
    ("OPERATION_INVALID", "DOMAIN", 0, Call.ATTACH, TRANSIENT),  # it stopped
    ("OPERATION_INVALID", "NONE", 0, Call.ATTACH, CONFLICT),  # another guest has the tap
    ("OPERATION_INVALID", "NETWORK", 0, Call.ATTACH, PERMANENT),  # the network does not run
    ("XML_ERROR", "DOMAIN", 0, Call.ATTACH, PERMANENT),  # the target is taken, unless a look says by whom
    ("CONFIG_UNSUPPORTED", "DOMAIN", 0, Call.ATTACH, PERMANENT),  # the alias is taken, likewise
    ("INTERNAL_ERROR", "DOMAIN", 0, Call.ATTACH, PERMANENT),  # no slot left
    ("INTERNAL_ERROR", "QEMU", 0, Call.ATTACH, PERMANENT),  # another process writes the file
    ("SYSTEM_ERROR", "STORAGE", errno.ENOENT, Call.ATTACH, PERMANENT),  # the file is missing
    ("SYSTEM_ERROR", "NONE", errno.ENODEV, Call.ATTACH, PERMANENT),  # the bridge is missing
    ("SYSTEM_ERROR", "NONE", errno.EBUSY, Call.ATTACH, TRANSIENT),
    ("NO_NETWORK", "NETWORK", 0, Call.ATTACH, PERMANENT),
    ("OPERATION_TIMEOUT", "QEMU", 0, Call.ATTACH, TRANSIENT),
    ("OPERATION_FAILED", "QEMU", 0, Call.ATTACH, PERMANENT),
    ("INTERNAL_ERROR", "RPC", 0, Call.ATTACH, UNKNOWN),
    ("INTERNAL_ERROR", "RPC", 0, Call.DETACH, UNKNOWN),
    ("OPERATION_FAILED", "QEMU", 0, Call.DETACH, PERMANENT),  # the guest said no
    ("OPERATION_TIMEOUT", "QEMU", 0, Call.DETACH, TRANSIENT),
    ("INTERNAL_ERROR", "QEMU", 0, Call.DETACH, PERMANENT),  # its bus lets nothing go
    # not in the table
    ("HOOK_SCRIPT_FAILED", "HOOK", 0, Call.START, UNKNOWN),
    ("HOOK_SCRIPT_FAILED", "HOOK", 0, Call.LOOK, TRANSIENT),
]

LOOKED_AT_FIRST = [
    ("NO_DOMAIN", "QEMU", Call.KILL),
    ("NO_DOMAIN", "QEMU", Call.UNDEFINE),
    ("NO_DOMAIN", "QEMU", Call.DETACH),
    ("OPERATION_INVALID", "QEMU", Call.KILL),
    ("OPERATION_INVALID", "QEMU", Call.UNDEFINE),
    ("OPERATION_INVALID", "QEMU", Call.START),
    ("OPERATION_INVALID", "DOMAIN", Call.DETACH),
    ("DEVICE_MISSING", "QEMU", Call.DETACH),
    ("INTERNAL_ERROR", "DOMAIN", Call.DETACH),
]


@pytest.mark.parametrize(("code", "domain", "number", "call", "expected"), MEANINGS)
def test_an_error_means_what_was_measured(
    code: str, domain: str, number: int, call: Call, expected: ErrorClass
) -> None:
    """By code, domain, errno and call."""
    assert row_for(libvirt_error(code, domain, number), call).error_class is expected


@pytest.mark.parametrize(("code", "domain", "call"), LOOKED_AT_FIRST)
def test_what_may_be_done_already_is_looked_at(code: str, domain: str, call: Call) -> None:
    """And is transient where the look says otherwise."""
    row = row_for(libvirt_error(code, domain), call)
    assert (row.look_first, row.error_class) == (True, TRANSIENT)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ('qemu-system-x86_64: Failed to get "write" lock', CONFLICT),
        ("cannot set up guest memory 'pc.ram': Cannot allocate memory", RESOURCE),
        ("process exited while connecting to monitor", PERMANENT),
    ],
)
def test_an_internal_error_at_start_is_told_by_its_text_alone(message: str, expected: ErrorClass) -> None:
    """Libvirt passes on QEMU's last words, and nothing else."""
    assert row_for(libvirt_error("INTERNAL_ERROR", "QEMU", message=message), Call.START).error_class is expected


def test_a_guest_that_was_asked_already_is_waited_for() -> None:
    """QEMU has no class for that error, so its text tells."""
    message = "unable to execute QEMU command 'device_del': Device ua-1 is already in the process of unplug"
    assert row_for(libvirt_error("INTERNAL_ERROR", "QEMU", message=message), Call.DETACH).look_first


@pytest.mark.parametrize("code", ["SYSTEM_ERROR", "INTERNAL_ERROR"])
def test_only_the_rpc_domains_tell_of_a_broken_connection(code: str) -> None:
    """QEMU's own failures must not cost a healthy connection."""
    for domain in ("RPC", "REMOTE"):
        assert row_for(libvirt_error(code, domain), Call.LOOK).connection_broken
    for domain in ("QEMU", "NONE", "STORAGE"):
        assert not row_for(libvirt_error(code, domain, errno.EIO), Call.LOOK).connection_broken


def test_every_code_means_something_for_every_call() -> None:
    """No error of libvirt's falls through the table."""
    for code in CODE_NAMES.values():
        for call in Call:
            assert row_for(libvirt_error(code, "NONE"), call) in ERROR_TABLE


def test_every_row_is_reached() -> None:
    """A row behind a wider one would be a comment."""
    reached = set()
    texts = [row.text for row in ERROR_TABLE if row.text] + [""]
    for code in [*CODE_NAMES.values(), "OK"]:
        for domain in ("NONE", "RPC", "DOMAIN", "QEMU", "NETWORK"):
            for number in (0, *errno.errorcode):
                for call in Call:
                    for text in texts if code == "INTERNAL_ERROR" else [""]:
                        reached.add(row_for(libvirt_error(code, domain, number, text), call))
    assert [row.reason for row in ERROR_TABLE if row not in reached] == []


def test_a_translated_error_keeps_libvirts_names_and_errno() -> None:
    """Symbols without their prefix, and the number that the operating system gave."""
    record = translated(libvirt_error("SYSTEM_ERROR", "STORAGE", errno.ENOSPC, "full"), Call.START).record
    assert (record.code, record.domain, record.errno) == ("SYSTEM_ERROR", "STORAGE", errno.ENOSPC)
    assert record.message == "libvirt could not start the domain: full"


def test_a_number_that_is_no_errno_is_not_passed_on() -> None:
    """Other codes use the field for numbers of their own."""
    assert translated(libvirt_error("OPERATION_INVALID", "QEMU", 28), Call.START).record.errno is None


def test_an_error_without_details_is_still_translated() -> None:
    """The bindings raise one when libvirt kept none."""
    error = libvirt.libvirtError("virConnectOpen() failed")
    error.err = None  # or it is the last error that this thread met
    record = translated(error, Call.START).record
    assert (record.error_class, record.code, record.domain) == (UNKNOWN, None, None)


def test_levels_are_not_taken_for_codes() -> None:
    """VIR_ERR_WARNING and VIR_ERR_INTERNAL_ERROR are the same number."""
    assert CODE_NAMES[libvirt.VIR_ERR_INTERNAL_ERROR] == "INTERNAL_ERROR"
    assert CODE_NAMES[libvirt.VIR_ERR_NO_MEMORY] == "NO_MEMORY"
    assert DOMAIN_NAMES[libvirt.VIR_FROM_QEMU] == "QEMU"


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ENOSPC, RESOURCE), (errno.EDQUOT, RESOURCE), (errno.EBUSY, TRANSIENT), (errno.EEXIST, CONFLICT),
     (errno.ELOOP, CONFLICT), (errno.EACCES, PERMANENT), (errno.ENOENT, PERMANENT)],
)  # fmt: skip
def test_an_operating_systems_error_is_told_by_its_number(number: int, expected: ErrorClass) -> None:
    """The same table serves files and SYSTEM_ERROR."""
    record = from_os_error(OSError(number, "why"), "do it").record
    assert (record.error_class, record.errno, record.message) == (expected, number, "could not do it: why")


def test_an_operating_systems_error_leaves_as_a_host_error_from_its_cause(tmp_path: Path) -> None:
    """Translated once, with the original behind it."""
    with pytest.raises(HostError) as caught, os_errors("read it"):
        (tmp_path / "missing").read_bytes()
    assert isinstance(caught.value.__cause__, FileNotFoundError)
