"""What a foreign error means, said once: `ERROR_TABLE` for libvirt, `ERRNO_CLASSES` for the operating system.

The first row of the table that fits (code, domain, errno, call) decides. Where a row needs the message's text,
libvirt gives nothing else to tell by, and the row says so.
"""

import errno as numbers
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import libvirt

from models.states import ErrorClass
from tasks.host import HostError

TRANSIENT, UNKNOWN = ErrorClass.TRANSIENT, ErrorClass.UNKNOWN
RESOURCE, PERMANENT, CONFLICT = ErrorClass.RESOURCE, ErrorClass.PERMANENT, ErrorClass.CONFLICT


class Call(StrEnum):
    """What was asked of libvirt when it failed; the same code means opposite things in different calls."""

    OPEN = "open a connection"
    LOOK = "look at the host"
    DEFINE = "define the domain"
    START = "start the domain"
    KILL = "kill the domain"
    UNDEFINE = "undefine the domain"
    ATTACH = "attach the device"
    DETACH = "detach the device"
    MIGRATE = "migrate the guest"
    STEER = "steer the migration"
    ABORT = "abort the migration"
    RESUME = "resume the guest"
    SHUT_DOWN = "ask the guest to shut down"
    PAUSE = "pause the guest"
    SAVE = "save the guest's memory"
    MARK = "write into the domain whose it is"


#: Calls without an effect: when their answer is lost, nothing has happened.
EFFECTLESS = frozenset({Call.OPEN, Call.LOOK})

#: With the errnos of ``SYSTEM_ERROR``, and for our own calls to the operating system; others are permanent.
ERRNO_CLASSES: Mapping[int, ErrorClass] = MappingProxyType(
    dict.fromkeys((numbers.ENOSPC, numbers.EDQUOT, numbers.ENOMEM, numbers.EMFILE, numbers.ENFILE), RESOURCE)
    | dict.fromkeys((numbers.EAGAIN, numbers.EINTR, numbers.EBUSY, numbers.ETIMEDOUT, numbers.ETXTBSY), TRANSIENT)
    # A network file system that went away answers with these; it may come back.
    | dict.fromkeys((numbers.EIO, numbers.ESTALE, numbers.ENOTCONN, numbers.EHOSTDOWN), TRANSIENT)
    # Something is in the place of what we would make: a file, or a link where we follow none.
    | dict.fromkeys((numbers.EEXIST, numbers.ENOTEMPTY, numbers.ELOOP, numbers.ENOTDIR, numbers.EISDIR), CONFLICT)
)


@dataclass(frozen=True)
class Row:
    """One kind of libvirt error; an empty set fits everything."""

    reason: str
    error_class: ErrorClass
    codes: frozenset[int] = frozenset()
    domains: frozenset[int] = frozenset()
    errnos: frozenset[int] = frozenset()
    calls: frozenset[Call] = frozenset()
    text: str = ""  #: a part of the message, only where libvirt has no code for it
    connection_broken: bool = False
    #: The call's purpose may be reached already: done if a look says so, else of the row's class.
    look_first: bool = False

    def fits(self, code: int, domain: int, errno: int, call: Call, message: str) -> bool:
        """Whether the row speaks of this error."""
        return (
            (not self.codes or code in self.codes)
            and (not self.domains or domain in self.domains)
            and (not self.errnos or errno in self.errnos)
            and (not self.calls or call in self.calls)
            and self.text in message
        )


def _errnos(error_class: ErrorClass) -> frozenset[int]:
    return frozenset(number for number, meant in ERRNO_CLASSES.items() if meant is error_class)


_RPC = frozenset({libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE})
#: INTERNAL_ERROR and SYSTEM_ERROR are about the connection only when they come from these domains.
_BROKEN_OVER_RPC = frozenset({libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_SYSTEM_ERROR})
_BROKEN = frozenset({libvirt.VIR_ERR_RPC, libvirt.VIR_ERR_INVALID_CONN, libvirt.VIR_ERR_NO_CLIENT})
_SYSTEM = frozenset({libvirt.VIR_ERR_SYSTEM_ERROR})
_INTERNAL = frozenset({libvirt.VIR_ERR_INTERNAL_ERROR})
_EFFECTS = frozenset(Call) - EFFECTLESS
_CREATING = frozenset({Call.DEFINE, Call.START})
_REMOVING = frozenset({Call.KILL, Call.UNDEFINE})
_MIGRATING = frozenset({Call.MIGRATE})
_ATTACHING = frozenset({Call.ATTACH})
_DETACHING = frozenset({Call.DETACH})

ERROR_TABLE: tuple[Row, ...] = (
    # --- the connection, ours or the one from host to host
    Row("the other host is not reached; nothing was begun there", TRANSIENT, _SYSTEM, _RPC,
        errnos=frozenset({numbers.ECONNREFUSED, numbers.ENETUNREACH}), calls=_MIGRATING),
    Row("nothing was sent, or only a question", TRANSIENT, _BROKEN_OVER_RPC, _RPC, calls=EFFECTLESS,
        connection_broken=True),
    Row("nothing was sent, or only a question", TRANSIENT, _BROKEN, calls=EFFECTLESS, connection_broken=True),
    Row("the daemon went, or fell silent, with the call in its hands; it may complete it", UNKNOWN, _BROKEN_OVER_RPC,
        _RPC, calls=_EFFECTS, connection_broken=True),
    Row("the answer never came", UNKNOWN, _BROKEN, calls=_EFFECTS, connection_broken=True),
    Row("no driver serves this URI", PERMANENT, frozenset({libvirt.VIR_ERR_NO_CONNECT})),
    Row("we may not; no repetition changes that", PERMANENT,
        frozenset({libvirt.VIR_ERR_AUTH_FAILED, libvirt.VIR_ERR_AUTH_CANCELLED, libvirt.VIR_ERR_AUTH_UNAVAILABLE,
                   libvirt.VIR_ERR_ACCESS_DENIED, libvirt.VIR_ERR_OPERATION_DENIED})),
    # --- already so, perhaps
    Row("gone is what a removal wants; a killed domain's end may also outrun the call's answer", TRANSIENT,
        frozenset({libvirt.VIR_ERR_NO_DOMAIN}), calls=_REMOVING, look_first=True),
    Row("not running is what a kill wants; the code also says 'another job runs'", TRANSIENT,
        frozenset({libvirt.VIR_ERR_OPERATION_INVALID}), calls=frozenset({Call.KILL, Call.UNDEFINE}), look_first=True),
    Row("running is what a start wants; the code also says 'another job runs'", TRANSIENT,
        frozenset({libvirt.VIR_ERR_OPERATION_INVALID}), calls=frozenset({Call.START}), look_first=True),
    Row("gone is what a detach wants, and a guest that does not run has nothing to let go", TRANSIENT,
        frozenset({libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_DEVICE_MISSING}),
        calls=_DETACHING, look_first=True),
    Row("no device has the alias (measured: not DEVICE_MISSING)", TRANSIENT, _INTERNAL,
        frozenset({libvirt.VIR_FROM_DOMAIN}), calls=_DETACHING, look_first=True),
    # By text: QEMU has no error class for it, and so libvirt no code.
    Row("the guest has been asked, and its time still runs", TRANSIENT, _INTERNAL, calls=_DETACHING,
        text="already in the process of unplug", look_first=True),
    Row("a migration may have taken it away", TRANSIENT, frozenset({libvirt.VIR_ERR_NO_DOMAIN}),
        calls=frozenset({Call.MIGRATE, Call.STEER, Call.ABORT, Call.RESUME}), look_first=True),
    Row("no migration is under way, or it cannot be aborted any more", TRANSIENT,
        frozenset({libvirt.VIR_ERR_OPERATION_INVALID}), calls=frozenset({Call.ABORT}), look_first=True),
    Row("off is what a shutdown wants; the code also says 'another job runs'", TRANSIENT,
        frozenset({libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN}),
        calls=frozenset({Call.SHUT_DOWN}), look_first=True),
    Row("paused is what a pause wants", TRANSIENT,
        frozenset({libvirt.VIR_ERR_OPERATION_INVALID}), calls=frozenset({Call.PAUSE}), look_first=True),
    Row("saving was called off, or failed; the guest runs on", TRANSIENT,
        frozenset({libvirt.VIR_ERR_OPERATION_FAILED, libvirt.VIR_ERR_OPERATION_ABORTED}),
        calls=frozenset({Call.SAVE})),
    Row("it started, stopped or went between a look and the mark", TRANSIENT,
        frozenset({libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN}), calls=frozenset({Call.MARK})),
    Row("running is what a resume wants", TRANSIENT,
        frozenset({libvirt.VIR_ERR_OPERATION_INVALID}), calls=frozenset({Call.RESUME}), look_first=True),
    Row("somebody aborted the migration, who does not want it made again; the guest stays where it was", PERMANENT,
        frozenset({libvirt.VIR_ERR_OPERATION_ABORTED}), calls=_MIGRATING),
    Row("the guest runs on the other host, without a definition", TRANSIENT,
        frozenset({libvirt.VIR_ERR_MIGRATE_PERSIST_FAILED}), look_first=True),
    Row("there is no such domain to do it to", PERMANENT, frozenset({libvirt.VIR_ERR_NO_DOMAIN})),
    # --- somebody else's
    Row("the name or the UUID is taken by another domain (measured: not DOM_EXIST)", CONFLICT,
        frozenset({libvirt.VIR_ERR_OPERATION_FAILED}), frozenset({libvirt.VIR_FROM_DOMAIN}),
        calls=frozenset({Call.DEFINE})),
    Row("another guest has the tap", CONFLICT, frozenset({libvirt.VIR_ERR_OPERATION_INVALID}),
        frozenset({libvirt.VIR_FROM_NONE}), calls=_ATTACHING),
    Row("the UUID or the name is another domain's on the other host; or the guest has ended here", CONFLICT,
        frozenset({libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_OPERATION_FAILED}),
        frozenset({libvirt.VIR_FROM_DOMAIN}), calls=_MIGRATING),
    Row("the domain exists", CONFLICT, frozenset({libvirt.VIR_ERR_DOM_EXIST})),
    # By text: QEMU reports a lock that another process holds on an image as INTERNAL_ERROR without an errno.
    Row("another process has the image open for writing", CONFLICT, _INTERNAL, calls=_CREATING,
        text='failed to get "write" lock'),
    # --- the host is full
    Row("no memory for libvirt itself", RESOURCE, frozenset({libvirt.VIR_ERR_NO_MEMORY})),
    Row("the host lacks memory, space or descriptors", RESOURCE, _SYSTEM, errnos=_errnos(RESOURCE)),
    # By text: QEMU ends with a line in its log, which libvirt repeats as INTERNAL_ERROR without an errno.
    Row("the host lacks memory for the guest", RESOURCE, _INTERNAL, calls=_CREATING | _MIGRATING,
        text="cannot allocate memory"),
    Row("the host lacks memory for the guest", RESOURCE, _INTERNAL, calls=_CREATING | _MIGRATING,
        text="cannot set up guest memory"),
    # --- wait
    Row("another call holds the domain's lock, or its monitor hangs", TRANSIENT,
        frozenset({libvirt.VIR_ERR_OPERATION_TIMEOUT})),
    Row("it ends by itself", TRANSIENT,
        frozenset({libvirt.VIR_ERR_RESOURCE_BUSY, libvirt.VIR_ERR_BLOCK_COPY_ACTIVE, libvirt.VIR_ERR_OPERATION_ABORTED,
                   libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_ERR_AGENT_UNSYNCED})),
    Row("busy: the process outlived SIGKILL, or a device is in use", TRANSIENT, _SYSTEM, errnos=_errnos(TRANSIENT)),
    Row("the process has not ended yet", TRANSIENT, frozenset({libvirt.VIR_ERR_OPERATION_FAILED}),
        calls=frozenset({Call.KILL})),
    Row("the network does not run", PERMANENT, frozenset({libvirt.VIR_ERR_OPERATION_INVALID}),
        frozenset({libvirt.VIR_FROM_NETWORK}), calls=_ATTACHING),
    Row("another call is at work on the domain", TRANSIENT, frozenset({libvirt.VIR_ERR_OPERATION_INVALID})),
    # --- the call's outcome is open
    Row("QEMU went during the call", UNKNOWN, _SYSTEM,
        errnos=frozenset({numbers.ECONNRESET, numbers.EPIPE, numbers.ECONNABORTED})),
    Row("libvirt failed in the middle of a removal", UNKNOWN, _INTERNAL, calls=_REMOVING),
    Row("a question may be asked again", TRANSIENT, _INTERNAL, calls=EFFECTLESS),
    # --- it will not work
    Row("something else is in the way", CONFLICT, _SYSTEM, errnos=_errnos(CONFLICT)),
    Row("a file, a device or a right is missing", PERMANENT, _SYSTEM,
        errnos=frozenset({numbers.ENOENT, numbers.ENODEV, numbers.ENXIO, numbers.EACCES, numbers.EPERM, numbers.EROFS,
                          numbers.EINVAL, numbers.ENAMETOOLONG})),
    Row("QEMU refused the guest or ended; libvirt took back what it had begun", PERMANENT, _INTERNAL, calls=_CREATING),
    Row("QEMU refused the device, nothing is left to plug it into, or somebody else writes its file", PERMANENT,
        _INTERNAL, calls=_ATTACHING),
    Row("the device cannot be unplugged", PERMANENT, _INTERNAL, calls=_DETACHING),
    Row("libvirt took back what it had begun", PERMANENT, frozenset({libvirt.VIR_ERR_OPERATION_FAILED}),
        calls=_CREATING | _ATTACHING),
    Row("the guest said that it will not let the device go", PERMANENT,
        frozenset({libvirt.VIR_ERR_OPERATION_FAILED}), calls=_DETACHING),
    Row("QEMU at one end failed or refused; libvirt took back what it had begun, and the guest stays where it was",
        PERMANENT, _INTERNAL | frozenset({libvirt.VIR_ERR_OPERATION_FAILED}), calls=_MIGRATING),
    Row("the request is wrong, or not for this host", PERMANENT,
        frozenset({libvirt.VIR_ERR_XML_ERROR, libvirt.VIR_ERR_XML_DETAIL, libvirt.VIR_ERR_XML_INVALID_SCHEMA,
                   libvirt.VIR_ERR_CONFIG_UNSUPPORTED, libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_INVALID_ARG,
                   libvirt.VIR_ERR_OPERATION_UNSUPPORTED, libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
                   libvirt.VIR_ERR_CPU_INCOMPATIBLE, libvirt.VIR_ERR_MIGRATE_UNSAFE, libvirt.VIR_ERR_UNKNOWN_HOST,
                   libvirt.VIR_ERR_NO_NETWORK, libvirt.VIR_ERR_NO_SECRET, libvirt.VIR_ERR_NO_STORAGE_POOL,
                   libvirt.VIR_ERR_NO_STORAGE_VOL, libvirt.VIR_ERR_DEVICE_MISSING})),
    # --- nothing above knows it
    Row("a question may be asked again", TRANSIENT, calls=EFFECTLESS),
    Row("not in this table, so whether it had an effect is not known", UNKNOWN),
)  # fmt: skip


def row_for(error: libvirt.libvirtError, call: Call) -> Row:
    """The one row that speaks for the error."""
    code, domain = error.get_error_code() or 0, error.get_error_domain() or 0
    errno, message = _errno(error) or 0, (error.get_error_message() or "").lower()
    return next(row for row in ERROR_TABLE if row.fits(code, domain, errno, call, message))


def translated(error: libvirt.libvirtError, call: Call) -> HostError:
    """The error in the port's words; the caller raises it from the original."""
    return HostError(
        row_for(error, call).error_class,
        f"libvirt could not {call}: {' '.join((error.get_error_message() or str(error)).split())}",
        code=CODE_NAMES.get(error.get_error_code()),
        domain=DOMAIN_NAMES.get(error.get_error_domain()),
        errno=_errno(error),
    )


def is_look_first(error: HostError, call: Call) -> bool:
    """Whether libvirt's error may mean that the call's purpose is reached already, which a look must tell."""
    cause = error.__cause__
    return isinstance(cause, libvirt.libvirtError) and row_for(cause, call).look_first


def from_os_error(error: OSError, doing: str) -> HostError:
    """An operating system's error in the port's words."""
    error_class = ERRNO_CLASSES.get(error.errno or 0, PERMANENT)
    return HostError(error_class, f"could not {doing}: {error.strerror or error}", errno=error.errno)


@contextmanager
def os_errors(doing: str) -> Iterator[None]:
    """Within it every OSError leaves as a HostError that says what was being done."""
    try:
        yield
    except OSError as error:
        raise from_os_error(error, doing) from error


def _errno(error: libvirt.libvirtError) -> int | None:
    # Only SYSTEM_ERROR keeps the errno there; other codes use the field for numbers of their own.
    if error.get_error_code() != libvirt.VIR_ERR_SYSTEM_ERROR:
        return None
    number: int | None = error.get_int1()
    return number if number and number > 0 else None


def _names(prefix: str, not_of_this_family: frozenset[str]) -> Mapping[int, str]:
    return MappingProxyType(
        {
            value: name.removeprefix(prefix)
            for name, value in vars(libvirt).items()
            if name.startswith(prefix) and name not in not_of_this_family
        }
    )


#: libvirt's levels share the codes' prefix.
CODE_NAMES = _names("VIR_ERR_", frozenset({"VIR_ERR_NONE", "VIR_ERR_WARNING", "VIR_ERR_ERROR"}))
DOMAIN_NAMES = _names("VIR_FROM_", frozenset())
