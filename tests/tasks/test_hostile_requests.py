"""Requests by people who mean harm, for every operation: each is refused by its field's name, or it is harmless."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from tasks.catalogue import OPERATIONS
from tasks.host import DirectBoot, Guest, Identity, Platform
from tasks.requests import BadRequestError, parse, withheld
from tasks.requests.spawn import SpawnRequest
from tasks.requests.withheld import WITHHELD_FIELDS
from tasks.submission import read_submission
from tests.tasks.whole_requests import INSTANCE, WHOLE, WHOLE_REQUESTS
from worker.host.guest_xml import GuestSurroundings, domain_xml

SENTENCE_MAX_LENGTH = 1000
HERE = GuestSurroundings("x86_64", "/state/console.log")

Path = tuple[str | int, ...]


@pytest.fixture(autouse=True, scope="module")
def _guessing_is_quick() -> Iterator[None]:
    """Here nobody guesses at digests, and thousands are made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(withheld, "_SCRYPT", {"n": 2, "r": 1, "p": 1})
        yield


def paths(value: object, before: Path = ()) -> Iterator[Path]:
    """Every place in the document that holds something."""
    children: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        yield (*before, name)
        yield from paths(child, (*before, name))


def at(document: Any, path: Path) -> Any:  # a part of a JSON document
    """What the document holds there."""
    for part in path:
        document = document[part]
    return document


def refusal(document: dict[str, Any], operation: str = "spawn") -> str | None:
    """The sentence with which the request is refused; None if it is taken."""
    try:
        read_submission(
            OPERATIONS,
            operation=operation,
            host="h1",
            instance=str(INSTANCE),
            request=document,
            job_id="job-1",
            actor="test",
        )
    except BadRequestError as error:
        return str(error)
    return None


def definition(document: dict[str, Any]) -> etree._Element:
    """The domain that a request that was taken is defined as, without what steps make of disks and interfaces."""
    request = parse(SpawnRequest, document)
    boot = None if request.boot is None else DirectBoot(request.boot.kernel, request.boot.initrd, request.boot.cmdline)
    guest = Guest(
        Identity(INSTANCE, "job-1"),
        request.name,
        request.memory_mib,
        request.vcpus,
        boot=boot,
        hardware=request.hardware,
        platform=Platform("qemu", request.hardware.machine_type),
    )
    return etree.fromstring(domain_xml(guest, HERE))


XML = ["</title><devices/>", "'/><evil x='", "<![CDATA[", "&lt;&amp;&evil;", '"><disk type="block"/>', "<!--", "]]>"]
PATHS = ["../../etc/shadow", "/images/../../etc/shadow", "..", "/", "file:///etc/shadow", "/dev/sda", "nbd:unix:/run/x"]
TEXTS = st.one_of(
    st.sampled_from([*XML, *PATHS, "", " ", "\x00", "a\nb", "\u202e", "\ud800", "ua-root", "-1", "x" * 70_000]),
    st.text(max_size=40),
)
NUMBERS = st.one_of(
    st.sampled_from([-1, 0, 2**31, 2**63, 2**64, 10**30, -(10**30), 0.5, True, 1e308]),
    st.integers(),
    st.floats(allow_nan=True, allow_infinity=True),
)
VALUES = st.one_of(
    TEXTS,
    NUMBERS,
    st.none(),
    st.just([]),
    st.just({}),
    st.lists(NUMBERS, max_size=3),
    st.dictionaries(TEXTS, TEXTS, max_size=2),
)
#: Every place of every request that holds something, and every part that has fields.
PLACES = [
    (operation, whole, path)
    for operation, wholes in WHOLE_REQUESTS.items()
    for whole in wholes
    for path in sorted(paths(whole), key=str)
]
#: What a guest is told under names of the sender's own.
OWN_NAMES = {"metadata", "network_config"}
PARTS = [
    (operation, whole, path)
    for operation, wholes in WHOLE_REQUESTS.items()
    for whole in wholes
    for path in ((), *(path for path in paths(whole) if isinstance(at(whole, path), dict)))
    if not path or path[0] not in OWN_NAMES
]
FIELDS = {str(part) for _, _, path in PLACES for part in path if isinstance(part, str)}


def judge(document: dict[str, Any], path: Path, operation: str = "spawn") -> None:
    """Refused in one sentence that names the field, or made into a document in which all is text."""
    sentence = refusal(document, operation)
    if sentence is None:
        if operation == "spawn":
            domain = definition(document)
            assert not domain.xpath("//evil | //disk")
            assert (domain.findtext("title"), domain.findtext("name")) == (document["name"], str(INSTANCE))
        return
    assert len(sentence) <= SENTENCE_MAX_LENGTH
    assert sentence.endswith(".")
    assert sentence.isprintable()
    field, _, _ = sentence.partition(": ")
    named = {str(part) for part in path if isinstance(part, str)}
    assert field.split(".")[0] in named | {"request"}, sentence
    assert field != "request" or "plain JSON" in sentence or any(name in sentence for name in FIELDS), sentence


def test_the_whole_requests_are_taken() -> None:
    """What is changed below is good to begin with, and there is one of every operation."""
    assert set(WHOLE_REQUESTS) == set(OPERATIONS)
    assert len(PLACES) > 100
    for operation, wholes in WHOLE_REQUESTS.items():
        for whole in wholes:
            assert refusal(whole, operation) is None


#: A value stands in some hundred places.
@settings(max_examples=settings().max_examples * 2 // 3)
@given(VALUES)
def test_a_hostile_value_is_refused_by_its_fields_name_or_harmless(value: object) -> None:
    """Anywhere in any request: each value stands in each place, which makes more than 10,000 such requests."""
    for operation, whole, path in PLACES:
        document = deepcopy(whole)
        at(document, path[:-1])[path[-1]] = value
        judge(document, path, operation)


@settings(max_examples=settings().max_examples // 3)
@given(TEXTS, VALUES)
def test_a_field_that_nobody_knows_is_refused_by_its_name(name: str, value: object) -> None:
    """In any part of any request, whatever it is called; the sentence stays one."""
    shown = "".join(each if each.isprintable() else "?" for each in name)[:60]
    for operation, whole, path in PARTS:
        document = deepcopy(whole)
        part = at(document, path)
        if name in part:
            continue
        part[name] = value
        sentence = refusal(document, operation)
        assert sentence is not None
        assert sentence.isprintable()
        assert len(sentence) <= SENTENCE_MAX_LENGTH
        private = path and path[0] in WITHHELD_FIELDS  # of which nothing that was sent is repeated
        assert (str(path[0]) if private else shown) in sentence or "plain JSON" in sentence or "unicode" in sentence


@pytest.mark.parametrize("text", [*XML, *PATHS])
def test_xml_and_paths_in_a_name_are_its_text(text: str) -> None:
    """The name goes into the title; no path is made of it."""
    judge({**WHOLE, "name": text}, ("name",))
    assert refusal({**WHOLE, "name": text}) is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("interfaces", 0, "bridge"), "../br0"),
        (("interfaces", 0, "id"), "../nic"),
        (("volumes", 0, "id"), "../v1"),
        (("image", "path"), "../../etc/shadow"),
        (("hardware", "machine_type"), "q35'/><evil x='"),
        (("hardware", "cpu_model"), "Nehalem</model><evil/>"),
        (("hardware", "cpu_model_extra_flags", 0), "aes'/><evil x='"),
        (("hardware", "pcie_ports"), -1),
        (("hardware", "quota", "cpu_quota_us"), 10**30),
        (("hardware", "placement", "numa_nodes", 0, "mem_mib"), -(2**63)),
        (("vcpus",), 2**64),
        (("memory_mib",), -512),
        (("disk_gib",), 10**30),
    ],
)
def test_what_would_go_into_a_definition_or_a_path_is_refused_by_its_name(path: Path, value: object) -> None:
    """With every part of the way to it."""
    document = deepcopy(WHOLE)
    at(document, path[:-1])[path[-1]] = value
    sentence = refusal(document)
    assert sentence is not None
    named = ".".join(str(part) for part in path)
    assert sentence.replace("volumes.0.file.", "volumes.0.").startswith(f"{named}: "), sentence


@pytest.mark.parametrize("operation", sorted(WHOLE_REQUESTS))
def test_a_megabyte_is_refused_in_any_request(operation: str) -> None:
    """Before anything reads it, by the field that holds it."""
    for whole in WHOLE_REQUESTS[operation]:
        for name in (*whole, "user_data"):
            sentence = refusal({**whole, name: "x" * 1024**2}, operation)
            assert sentence is not None
            assert sentence.startswith(f"{name}: it is too long")


def test_the_document_is_plain_json() -> None:
    """As it comes in messages."""
    assert json.loads(json.dumps(WHOLE_REQUESTS)) == {name: list(wholes) for name, wholes in WHOLE_REQUESTS.items()}
