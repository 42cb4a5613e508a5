"""What nobody is shown of a request: kept beside it, told from others by its digest, and masked where it is shown."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import pytest

from models.records import WITHHELD, withheld_fields
from models.submission import Submission
from tasks.catalogue import OPERATIONS
from tasks.requests import BadRequestError
from tasks.requests.withheld import masked
from tasks.submission import read_submission

SPAWN = {"name": "vm", "memory_mib": 64, "disk_gib": 1}
PRIVATE = "#cloud-config\npassword: hunter2\n"


def read(request: Mapping[str, Any], job: str = "job-1", *, known: bool = False) -> Submission:
    """The submission of a spawn."""
    return read_submission(
        OPERATIONS,
        operation="spawn",
        host="h1",
        instance="6f0c7f9e-0d5c-4b6e-9d52-0a4ad6a3a1d7",
        request=request,
        job_id=job,
        actor="test",
        is_known=lambda _: known,
    )


@pytest.mark.parametrize(
    ("field", "part"),
    [
        ("user_data", PRIVATE),
        ("user_data_base64", b64encode(PRIVATE.encode()).decode()),
        ("vendor_data", PRIVATE),
        ("user_data", ""),
    ],
)
def test_user_and_vendor_data_are_kept_beside_the_request(field: str, part: str) -> None:
    """In the request itself a digest stands in their place; all else is as it was sent."""
    submission = read({**SPAWN, field: part})
    assert submission.withheld == {field: part}
    [(name, digest)] = submission.request[field].items()
    assert (name, len(digest)) == (WITHHELD, 32)
    assert {**submission.request, field: part} == {**SPAWN, field: part}
    assert withheld_fields(submission.request) == (field,)


@pytest.mark.parametrize("request_", [SPAWN, {**SPAWN, "user_data": None}, {**SPAWN, "user_data": {"secret": "a"}}])
def test_a_request_that_holds_nothing_private_is_kept_whole(request_: dict[str, Any]) -> None:
    """Also one that names a secret: its name says nothing."""
    submission = read(request_)
    assert (submission.request, submission.withheld) == (request_, None)


def test_the_digest_tells_the_same_user_data_from_other() -> None:
    """Sent again it is the same job; and nobody sees that two jobs have the same."""
    first, again, other = (read({**SPAWN, "user_data": text}) for text in (PRIVATE, PRIVATE, PRIVATE + " "))
    assert first.digest == again.digest
    assert first.digest != other.digest
    elsewhere = read({**SPAWN, "user_data": PRIVATE}, job="job-2")
    assert elsewhere.request["user_data"] != first.request["user_data"]


def test_a_ring_that_lacks_it_is_one_for_the_job_that_is_known() -> None:
    """With the same digest as the first message; nobody can begin a job with one."""
    first = read({**SPAWN, "user_data": PRIVATE})
    ring = read(first.request, known=True)
    assert (ring.digest, ring.request, ring.withheld) == (first.digest, first.request, None)
    with pytest.raises(BadRequestError) as refused:
        read(first.request)
    assert str(refused.value) == "user_data: it is withheld, and no job is known by this id: send it whole."


def test_whatever_is_sent_as_user_data_is_masked() -> None:
    """Also what would be refused; a secret's name, a digest and nothing at all are shown."""
    sent = {"user_data": PRIVATE, "vendor_data": {"password": 1}, "user_data_base64": 7, "name": "vm"}
    assert masked(sent) == {"user_data": "***", "vendor_data": "***", "user_data_base64": "***", "name": "vm"}
    shown = {"user_data": {"secret": "a"}, "vendor_data": {WITHHELD: "0"}, "user_data_base64": None}
    assert masked(shown) == shown
    assert masked([PRIVATE]) == [PRIVATE]
