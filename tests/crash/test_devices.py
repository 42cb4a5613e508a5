"""The worker is killed at each step of attach and detach, beside devices of earlier jobs, which nobody may touch."""

from collections.abc import Iterator, Sequence

import pytest

import migrations
from models.journal.asking import Asked, request_cancel
from tasks.catalogue import OPERATIONS
from tests.crash.furnished import EXTRA_NIC, EXTRA_VOLUME, KEPT_VOLUME, Furnished, Piece
from tests.crash.moments import MAKING, UNDOING, Moment
from tests.crash.wanderer import MORTAL
from tests.lab.guest_image import GuestImage
from tests.lab.host_pair import HostPair
from tests.lab.postgres import PostgresServer
from tests.lab.site import Site
from tests.lab.site_pair import end_guests

pytestmark = pytest.mark.real

#: Steps that never act in these runs: of a file, and of a tap that goes with its guest's end, the host keeps nothing.
ONLY_LOOK = {"VolumeDisconnected", "InterfaceUnplugged"}
PIECES = {
    "attach_volume": EXTRA_VOLUME,
    "detach_volume": EXTRA_VOLUME,
    "attach_interface": EXTRA_NIC,
    "detach_interface": EXTRA_NIC,
}
#: The moments at which the job's last word may be true already: a cancel then comes too late.
MAY_BE_TRUE = {Moment.DO, Moment.MADE}
IN_SLICE = {Moment.DO}

ROWS = [
    pytest.param(
        operation,
        step.name,
        moment,
        cancelled,
        id=f"{operation}-{step.name}-{moment}-{'is-cancelled' if cancelled else 'goes-on'}",
        marks=() if moment in IN_SLICE and not cancelled else pytest.mark.beyond_slice,
    )
    for operation in PIECES
    for step in OPERATIONS[operation].steps
    for moment in MAKING
    if moment is Moment.LOOK or step.name not in ONLY_LOOK
    for cancelled in (False, True)
]
UNDO_ROWS = [
    pytest.param(operation, step.name, moment, id=f"{operation}-{step.name}-{moment}", marks=pytest.mark.beyond_slice)
    for operation in PIECES
    for step in OPERATIONS[operation].steps
    for moment in UNDOING
    if step.name not in ONLY_LOOK
]
FOUND_ROWS = [
    pytest.param(moment, id=moment.value, marks=() if moment is Moment.MADE else pytest.mark.beyond_slice)
    for moment in MAKING
]


@pytest.fixture(scope="module")
def furnished(
    lasting_host_pair: HostPair, postgres_server: PostgresServer, guest_image: GuestImage
) -> Iterator[Furnished]:
    """A guest on a libvirtd, in a network with a bridge."""
    host = lasting_host_pair.first
    journal = postgres_server.create_database(socket=True)
    with Site(
        libvirt=host, network_namespace=host.network_namespace, database_url=journal, worker_command=MORTAL
    ) as site:
        migrations.upgrade(site.database)
        site.start_worker()
        guest = Furnished(site, journal, guest_image, host)
        try:
            guest.furnish()
            yield guest
        finally:
            guest.close()
            site.end_worker()
            end_guests(host)
    postgres_server.drop_database(journal)


@pytest.fixture(scope="module")
def furnished_embedded(guest_image: GuestImage) -> Iterator[Furnished]:
    """A guest on the driver that is embedded in the worker."""
    with Site(worker_command=MORTAL) as site:
        site.start_worker()
        guest = Furnished(site, f"sqlite:///{site.state / 'journal.db'}", guest_image, None)
        try:
            guest.furnish()
            yield guest
        finally:
            guest.close()


def carry_out(
    guest: Furnished, operation: str, piece: Piece, kills: Sequence[tuple[str, Moment]], *, cancelled: bool
) -> bool:
    """One job whose worker is killed at each of these moments in turn; whether it came true.

    A cancel, if there is one, is asked for while the first killed worker is dead.
    """
    name, request = guest.attaching(piece) if operation.startswith("attach") else guest.detaching(piece)
    guest.dies_at(*kills[0])
    job = guest.site.accept(name, guest.instance, request)
    guest.worker_dies()
    taken = cancelled and request_cancel(guest.site.database, job, Asked("test", "a row"), outbox=False).taken
    for kill in kills[1:]:
        guest.dies_at(*kill)
        guest.site.start_worker()
        guest.worker_dies()
    guest.site.start_worker()
    settled = guest.site.settled(job)
    assert guest.job_faults(job) == []
    may_be = {"cancelled"} if taken else {"succeeded"}
    if taken and kills[0][1] in MAY_BE_TRUE:
        may_be |= {"succeeded"}
    assert settled["state"] in may_be, settled
    return bool(settled["state"] == "succeeded")


def ends_right(guest: Furnished, operation: str, kills: Sequence[tuple[str, Moment]], *, cancelled: bool) -> None:
    """The job, and what the guest has after it; then the guest is as it was before the row."""
    piece, attaching = PIECES[operation], operation.startswith("attach")
    if not attaching:
        guest.done(*guest.attaching(piece))
    true = carry_out(guest, operation, piece, kills, cancelled=cancelled)
    has_it = true if attaching else not true
    assert guest.faults(having=[*guest.kept, piece] if has_it else guest.kept) == []
    if has_it:
        guest.done(*guest.detaching(piece))
        assert guest.faults(having=guest.kept) == []


@pytest.mark.parametrize(("operation", "step", "moment", "cancelled"), ROWS)
def test_a_job_whose_worker_was_killed_ends_as_it_would_have(
    furnished: Furnished, operation: str, step: str, moment: Moment, *, cancelled: bool
) -> None:
    """With the device in guest, definition and inventory once, or nowhere; and with all that was there before."""
    ends_right(furnished, operation, [(step, moment)], cancelled=cancelled)


@pytest.mark.parametrize(
    ("operation", "step"), [("attach_volume", "VolumeAttached"), ("detach_volume", "VolumeReleased")]
)
def test_a_call_that_goes_with_its_process_is_made_up_for(
    furnished_embedded: Furnished, operation: str, step: str
) -> None:
    """On the embedded driver, which dies with the worker in the middle of the call."""
    ends_right(furnished_embedded, operation, [(step, Moment.DO)], cancelled=False)


@pytest.mark.parametrize(("operation", "step", "moment"), UNDO_ROWS)
def test_an_undo_whose_worker_was_killed_is_completed(
    furnished: Furnished, operation: str, step: str, moment: Moment
) -> None:
    """As if nothing had been asked for."""
    last = [each.name for each in OPERATIONS[operation].steps if each.name not in ONLY_LOOK][-1]
    ends_right(furnished, operation, [(last, Moment.INTENDED), (step, moment)], cancelled=True)


@pytest.mark.parametrize("moment", FOUND_ROWS)
def test_a_disk_of_an_earlier_job_is_never_detached_by_an_undo(furnished: Furnished, moment: Moment) -> None:
    """Missing in the definition alone, it is put back by a job that is killed and cancelled: the guest keeps it."""
    furnished.edit_definition(KEPT_VOLUME)
    carry_out(furnished, "attach_volume", KEPT_VOLUME, [("VolumeAttached", moment)], cancelled=True)
    furnished.done(*furnished.attaching(KEPT_VOLUME))  # whatever became of it, the definition has it again
    assert furnished.faults(having=furnished.kept) == []
