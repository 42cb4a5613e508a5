"""Reading a submission: whatever is wrong with it is one sentence, before anything is written."""

from typing import Any
from uuid import UUID

import pytest

from models.states import JobClass
from models.submission import Submission
from tasks.catalogue import OPERATIONS
from tasks.requests import BadRequestError
from tasks.submission import REQUEST_MAX_BYTES, read_submission

INSTANCE = "6f0c7f9e-0d5c-4b6e-9d52-0a4ad6a3a1d7"
GOOD: dict[str, Any] = {
    "operation": "spawn",
    "host": "h1",
    "instance": INSTANCE,
    "request": {"name": "vm", "memory_mib": 64, "disk_gib": 1},
    "job_id": "job-1",
    "actor": "test",
}
JOB_ID = "job id: at most 128 letters, digits and . _ : @ -, beginning with a letter or digit."
HOST = "host: a name of at most 63 lower-case letters, digits, dots and dashes is needed."
UUID_NEEDED = "instance: a UUID is needed."
OBJECT_NEEDED = "request: a JSON object is needed."


def read(**changes: object) -> Submission:
    """The good submission, with some fields changed."""
    return read_submission(OPERATIONS, **(GOOD | changes))


def refused(**changes: object) -> str:
    """The sentence with which it is refused."""
    with pytest.raises(BadRequestError) as error:
        read(**changes)
    return str(error.value)


def test_a_good_submission_is_read_as_it_was_sent() -> None:
    """Its request has no default in it."""
    assert read() == Submission(
        id="job-1",
        operation="spawn",
        job_class=JobClass.SPAWN,
        instance=UUID(INSTANCE),
        host="h1",
        request=GOOD["request"],
        actor="test",
        canvas=None,
    )


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_a_job_has_its_operations_class(name: str) -> None:
    """It shares that class's slots."""
    request = {
        "spawn": GOOD["request"],
        "destroy": {},
        "attach_volume": {"volume": {"id": "v1", "kind": "block", "path": "/dev/v1"}},
        "detach_volume": {"volume_id": "v1"},
        "attach_interface": {"interface": {"id": "i1", "bridge": "br0"}},
        "detach_interface": {"interface_id": "i1"},
        "migrate": {"destination": "h2"},
    }.get(name, {})
    assert read(operation=name, request=request).job_class is OPERATIONS[name].job_class


BAD: list[tuple[str, object, str]] = [
    ("operation", "resurrect", f"operation: there is no 'resurrect'; there are {', '.join(sorted(OPERATIONS))}."),
    *(("job_id", value, JOB_ID) for value in ("", "-a", ".a", "a" * 129, "a b", "a/b", "a\n", "ä", None, 7, b"a")),
    *(("host", value, HOST) for value in ("", "H1", "-h", "h_1", "h" * 64, "h1\n", "ħ", None, 7)),
    *(("instance", value, UUID_NEEDED) for value in ("", "vm-1", f"{INSTANCE}0", None, 7, UUID(INSTANCE))),
    ("request", None, OBJECT_NEEDED),
    ("request", [], OBJECT_NEEDED),
    ("request", "{}", OBJECT_NEEDED),
    ("request", {**GOOD["request"], "memory_mib": 1}, "memory_mib: input should be greater than or equal to 16."),
    ("request", {**GOOD["request"], "colour": 1}, "colour: extra inputs are not permitted."),
]


@pytest.mark.parametrize(
    ("field", "value", "sentence"), BAD, ids=[f"{number}-{field}" for number, (field, _, _) in enumerate(BAD)]
)
def test_a_bad_field_gets_one_sentence_that_names_it(field: str, value: object, sentence: str) -> None:
    """Ids and names end up in queues, files and URIs, so they are narrow."""
    assert refused(**{field: value}) == sentence


@pytest.mark.parametrize("job_id", ["a", "7", "a" * 128, "0b5e:x@y.z_w-v"])
def test_a_sender_chooses_its_job_ids(job_id: str) -> None:
    """Within 128 characters of the plain kind."""
    assert read(job_id=job_id).id == job_id


@pytest.mark.parametrize("instance", [INSTANCE.upper(), INSTANCE.replace("-", "")])
def test_an_instance_is_the_same_however_its_uuid_is_written(instance: str) -> None:
    """The digest is taken of the UUID, not of its spelling."""
    assert read(instance=instance).digest == read().digest


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), b"bytes", {1, 2}, object()], ids=["NaN", "infinity", "bytes", "set", "object"]
)
def test_a_request_that_is_not_plain_json_is_refused(value: object) -> None:
    """Another reader of the journal could not read it."""
    assert refused(request={"a": value}).startswith("request: it is not plain JSON (")


def test_a_request_that_is_nested_too_deeply_is_refused() -> None:
    """It is a bad request like any other, not a defect."""
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    assert refused(request={"a": nested}).startswith("request: ")


def test_a_request_that_is_too_large_is_refused() -> None:
    """Its size is said before its fields are looked at, and which of them makes it so long."""
    sentence = refused(request={"name": "vm", "user_data": "x" * REQUEST_MAX_BYTES, "b": {}})
    assert sentence.startswith("user_data: it is too long: the request has ")
    assert sentence.endswith(f" bytes, more than {REQUEST_MAX_BYTES}.")
    many = refused(request={str(number) * 200: number for number in range(REQUEST_MAX_BYTES // 200)})
    assert len(many) < 200


def test_an_empty_canvas_is_none() -> None:
    """A message without links carries nothing that is worth keeping."""
    assert read(canvas={}).canvas is None
    assert read(canvas={"chain": []}).canvas == {"chain": []}
