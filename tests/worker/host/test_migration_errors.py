"""What libvirt's errors mean when a guest is moved: as measured between two hosts."""

import errno

import pytest

from models.states import ErrorClass
from tests.worker.host.doubles import libvirt_error
from worker.host.errors import Call, row_for

TRANSIENT, UNKNOWN = ErrorClass.TRANSIENT, ErrorClass.UNKNOWN
RESOURCE, PERMANENT, CONFLICT = ErrorClass.RESOURCE, ErrorClass.PERMANENT, ErrorClass.CONFLICT


@pytest.mark.parametrize(
    ("code", "domain", "number", "expected"),
    [
        ("SYSTEM_ERROR", "RPC", errno.ECONNREFUSED, TRANSIENT),  # nobody listens over there
        ("SYSTEM_ERROR", "RPC", errno.ENETUNREACH, TRANSIENT),
        ("SYSTEM_ERROR", "RPC", 0, UNKNOWN),  # its name cannot be resolved
        ("SYSTEM_ERROR", "RPC", errno.EIO, UNKNOWN),  # this libvirtd was killed
        ("INTERNAL_ERROR", "RPC", 0, UNKNOWN),  # the other one was, or the link was cut
        ("OPERATION_ABORTED", "QEMU", 0, PERMANENT),  # somebody aborted it
        ("OPERATION_INVALID", "QEMU", 0, TRANSIENT),  # another one runs; or what is to be taken up still runs
        ("OPERATION_INVALID", "DOMAIN", 0, CONFLICT),  # the UUID is active over there
        ("OPERATION_FAILED", "QEMU", 0, PERMANENT),  # QEMU ended over there
        ("OPERATION_FAILED", "DOMAIN", 0, CONFLICT),  # the name is taken over there; or QEMU ended here
        ("OPERATION_TIMEOUT", "QEMU", 0, TRANSIENT),
        ("NO_DOMAIN", "QEMU", 0, TRANSIENT),  # it has left, perhaps
        ("MIGRATE_PERSIST_FAILED", "QEMU", 0, TRANSIENT),  # it has left
        ("MIGRATE_UNSAFE", "QEMU", 0, PERMANENT),
        ("CPU_INCOMPATIBLE", "CPU", 0, PERMANENT),
        ("SYSTEM_ERROR", "QEMU", errno.ENOENT, PERMANENT),  # a file is missing over there
        ("SYSTEM_ERROR", "QEMU", errno.ECONNRESET, UNKNOWN),
        ("NO_MEMORY", "NONE", 0, RESOURCE),
    ],
)
def test_a_failed_migration_means_what_was_measured(code: str, domain: str, number: int, expected: ErrorClass) -> None:
    """By code, domain and errno; none says who has the guest."""
    assert row_for(libvirt_error(code, domain, number), Call.MIGRATE).error_class is expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("cannot set up guest memory 'pc.ram': Cannot allocate memory", RESOURCE),
        ("process exited while connecting to monitor", PERMANENT),
    ],
)
def test_a_qemu_that_cannot_start_over_there_is_told_by_its_text_alone(message: str, expected: ErrorClass) -> None:
    """As at a start."""
    assert row_for(libvirt_error("INTERNAL_ERROR", "QEMU", message=message), Call.MIGRATE).error_class is expected


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("NO_DOMAIN", Call.ABORT),
        ("OPERATION_INVALID", Call.ABORT),
        ("NO_DOMAIN", Call.RESUME),
        ("OPERATION_INVALID", Call.RESUME),
        ("NO_DOMAIN", Call.MIGRATE),
        ("NO_DOMAIN", Call.STEER),
    ],
)
def test_what_may_be_done_already_is_looked_at(code: str, call: Call) -> None:
    """And is transient where the look says otherwise."""
    row = row_for(libvirt_error(code), call)
    assert (row.look_first, row.error_class) == (True, TRANSIENT)
