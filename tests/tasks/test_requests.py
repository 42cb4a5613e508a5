"""Requests: strict, and each mistake gets one sentence that names its field."""

import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from tasks.catalogue import OPERATIONS
from tasks.operation import Operation
from tasks.requests import BadRequestError, Request, parse
from tasks.requests.destroy import DestroyRequest
from tasks.requests.hardware import Hardware
from tasks.requests.spawn import SpawnRequest

SPAWN = {
    "version": 1,
    "name": "a guest",
    "memory_mib": 512,
    "vcpus": 2,
    "image": {"path": "/images/a.qcow2", "url": None, "format": "qcow2", "sha256": None},
    "disk_gib": 10,
    "root_disk": {"format": "qcow2", "flat": False},
    "ephemerals": [{"size_gib": 1, "guest_format": "ext4"}],
    "swap_mib": 64,
    "preallocate_images": "none",
    "boot": {"kernel": "/images/vmlinuz", "initrd": "/images/initrd", "cmdline": "console=ttyS0"},
    "volumes": [{"id": "v1", "kind": "file", "path": "/volumes/v1", "format": "raw", "read_only": False}],
    "interfaces": [
        {"id": "i1", "mac": None, "bridge": "br0", "network": None, "model": "virtio", "mtu": None, "queues": None},
    ],
    "hardware": Hardware().model_dump(),
    "config_drive": "openstack",
    "hostname": "a-guest.example",
    "user_data": "#cloud-config\n",
    "user_data_base64": None,
    "ssh_keys": ["ssh-ed25519 AAAA somebody"],
    "metadata": {"role": "db"},
    "vendor_data": {"secret": "vendor"},
    "network_config": None,
    "network_data": {"links": []},
    "timeout_s": 60,
}
MISSING = object()
#: What a quantity's name ends with, and a number that has no unit.
UNITS = ("_mib", "_gib", "_kib", "_bytes", "_s", "_ms", "_us", "_s_per_gib", "_bytes_sec", "_iops_sec")
COUNTS = {"version", "vcpus", "attempts", "downtime_steps", "port", "queues", "pcie_ports", "cpu_shares"}
COUNTS |= {"cpu_sockets", "cpu_cores", "cpu_threads", "host_node"}
#: Terms of the field that have one unit everywhere.
TERMS = {"mtu"}


def changed(path: str, value: object) -> dict[str, Any]:
    """The whole request with one field changed or missing."""
    document: dict[str, Any] = {**deepcopy(SPAWN)}
    *parents, last = path.split(".")
    part = document
    for parent in parents:
        part = part[parent]
    if value is MISSING:
        del part[last]
    else:
        part[last] = value
    return document


def refused(document: dict[str, Any]) -> str:
    """The sentence with which a spawn is refused."""
    with pytest.raises(BadRequestError) as error:
        parse(SpawnRequest, document)
    return str(error.value)


def test_a_whole_request_is_read() -> None:
    """Every field of it."""
    assert parse(SpawnRequest, SPAWN).model_dump() == SPAWN


def test_what_may_be_left_out_has_a_default() -> None:
    """The smallest spawn is a name, memory, and something to start from."""
    request = parse(SpawnRequest, {"name": "vm", "memory_mib": 64, "disk_gib": 1})
    assert (request.version, request.vcpus, request.timeout_s, request.image, request.boot) == (1, 1, 300, None, None)
    assert request.has_root_disk
    destroy = parse(DestroyRequest, {})
    assert (destroy.version, destroy.timeout_s) == (1, 0)


NO_NAME_OF_ONE = "{}: string should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]{{0,127}}$'."

BAD = [
    ("name", MISSING, "name: field required."),
    ("name", "", "name: string should have at least 1 character."),
    ("name", "x" * 256, "name: string should have at most 255 characters."),
    ("name", 7, "name: input should be a valid string."),
    ("memory_mib", MISSING, "memory_mib: field required."),
    ("memory_mib", 15, "memory_mib: input should be greater than or equal to 16."),
    ("memory_mib", 16 * 1024 * 1024 + 1, "memory_mib: input should be less than or equal to 16777216."),
    ("memory_mib", "512", "memory_mib: input should be a valid integer."),
    ("memory_mib", 512.0, "memory_mib: input should be a valid integer."),
    ("memory_mib", True, "memory_mib: input should be a valid integer."),
    ("memory_mib", None, "memory_mib: input should be a valid integer."),
    ("vcpus", 0, "vcpus: input should be greater than or equal to 1."),
    ("vcpus", 1025, "vcpus: input should be less than or equal to 1024."),
    ("disk_gib", 0, "disk_gib: input should be greater than or equal to 1."),
    ("disk_gib", 64 * 1024 + 1, "disk_gib: input should be less than or equal to 65536."),
    ("timeout_s", 0, "timeout_s: input should be greater than or equal to 1."),
    ("timeout_s", 3601, "timeout_s: input should be less than or equal to 3600."),
    ("version", 2, "version: input should be less than or equal to 1."),
    ("colour", "blue", "colour: extra inputs are not permitted."),
    ("image.colour", "blue", "image.colour: extra inputs are not permitted."),
    ("boot.colour", "blue", "boot.colour: extra inputs are not permitted."),
    ("image.path", MISSING, "image: it needs either path or url."),
    ("image.url", "https://images.example/a", "image: it needs either path or url."),
    ("image.sha256", "0" * 64, "image: sha256 goes with url, not with path."),
    ("image.sha256", "0" * 63, "image.sha256: string should match pattern '^[0-9a-f]{64}$'."),
    ("image.path", "images/a.qcow2", "image.path: path is not absolute."),
    ("image.path", "/", "image.path: string should have at least 2 characters."),
    ("image.path", "/" + "a" * 4096, "image.path: string should have at most 4096 characters."),
    ("image.format", "vdi", "image.format: string should match pattern '^(qcow2|raw|vmdk)$'."),
    ("root_disk.format", "vmdk", "root_disk.format: input should be 'qcow2' or 'raw'."),
    ("root_disk.flat", "yes", "root_disk.flat: input should be a valid boolean."),
    ("ephemerals", [{"size_gib": 0}], "ephemerals.0.size_gib: input should be greater than or equal to 1."),
    (
        "ephemerals",
        [{"size_gib": 1, "guest_format": "ntfs"}],
        "ephemerals.0.guest_format: input should be 'ext3', 'ext4' or 'vfat'.",
    ),
    ("ephemerals", [{"size_gib": 1}] * 9, "ephemerals: list should have at most 8 items after validation, not 9."),
    ("swap_mib", 0, "swap_mib: input should be greater than or equal to 1."),
    ("swap_mib", 2**20 + 1, "swap_mib: input should be less than or equal to 1048576."),
    ("preallocate_images", "full", "preallocate_images: input should be 'none' or 'space'."),
    ("hardware.disk_bus", "ide", "hardware: the disk_bus ide needs the machine_type pc."),
    ("hardware.disk_bus", "fdc", "hardware.disk_bus: input should be 'virtio', 'scsi', 'sata', 'ide' or 'usb'."),
    ("boot.kernel", "vmlinuz", "boot.kernel: path is not absolute."),
    ("boot.initrd", "initrd", "boot.initrd: path is not absolute."),
    ("boot.cmdline", "x" * 2049, "boot.cmdline: string should have at most 2048 characters."),
    ("config_drive", "vfat", "config_drive: input should be 'nocloud', 'openstack' or 'none'."),
    ("config_drive", "none", "request: user_data needs a config drive, and config_drive is none."),
    ("config_drive", "nocloud", "request: network_data goes with config_drive openstack; nocloud has network_config."),
    (
        "network_config",
        {"version": 2},
        "request: network_config goes with config_drive nocloud; openstack has network_data.",
    ),
    ("network_config", {"version": [1]}, "network_config: value needs its version, 1 or 2."),
    ("network_config", {}, "network_config: value needs its version, 1 or 2."),
    ("network_data", [], "network_data: input should be a valid dictionary."),
    (
        "hostname",
        "a_guest",
        "hostname: value is no host name: labels of letters, digits and dashes, separated by dots.",
    ),
    (
        "hostname",
        "a." * 127,
        "hostname: value is no host name: labels of letters, digits and dashes, separated by dots.",
    ),
    ("user_data", "ä" * 32769, "user_data.text: value has 65538 bytes, more than 65536."),
    ("user_data", "a\0b", "user_data.text: value has a NUL; send binary data as base64."),
    ("user_data", "\ud800", "user_data.text: value is no text: it has half of a surrogate pair."),
    ("user_data", {"passw0rd": 1}, 'user_data: value is neither text nor {"secret": NAME}.'),
    ("user_data", 7, 'user_data: value is neither text nor {"secret": NAME}.'),
    ("user_data", {"secret": "../passwd"}, NO_NAME_OF_ONE.format("user_data.secret.secret")),
    ("vendor_data", {"secret": ""}, NO_NAME_OF_ONE.format("vendor_data.secret.secret")),
    ("vendor_data", {"secret": None}, "vendor_data.secret.secret: input should be a valid string."),
    ("user_data_base64", "aGk", "user_data_base64: value is not base64."),
    ("user_data_base64", "a" * 87384, "user_data_base64: value has 65538 bytes once decoded, more than 65536."),
    (
        "user_data_base64",
        "aGk=",
        "request: user_data and user_data_base64 are two ways to say one thing: give one of them.",
    ),
    ("ssh_keys", ["a\nb"], "ssh_keys.0: value has a control character."),
    ("ssh_keys", ["ssh-rsa AAAA"] * 65, "ssh_keys: list should have at most 64 items after validation, not 65."),
    ("metadata", {"a": "x" * 256}, "metadata.a: string should have at most 255 characters."),
    ("metadata", {"a": 1}, "metadata.a: input should be a valid string."),
]


@pytest.mark.parametrize(
    ("field", "value", "sentence"), BAD, ids=[f"{number}-{field}" for number, (field, _, _) in enumerate(BAD)]
)
def test_a_bad_field_gets_one_sentence_that_names_it(field: str, value: object, sentence: str) -> None:
    """Nothing is coerced, nothing unknown is overlooked."""
    assert refused(changed(field, value)) == sentence


@pytest.mark.parametrize(
    "url",
    [
        "https://images.example/debian.qcow2",
        "https://images.example:8443/debian.qcow2?key=1",
        "https://[2001:db8::1]/a",
        "file:///images/debian%20.qcow2",
    ],
)
def test_an_image_may_be_fetched(url: str) -> None:
    """From a server, or from a file of the host."""
    image = parse(SpawnRequest, {"name": "vm", "memory_mib": 64, "image": {"url": url}}).image
    assert image is not None
    assert (image.url, image.path) == (url, None)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://images.example/a", "begins with none of"),
        ("nbd:unix:/run/secret", "begins with none of"),
        ("/etc/shadow", "begins with none of"),
        ("https:///a/b/c", "names no server"),
        ("https://user@images.example/a", "user or a password"),
        ("https://images.example/a#b", "fragment"),
        ("https://images.example/a/../b", "lead elsewhere"),
        ("https://images.example/a/%2e%2e/b", "lead elsewhere"),
        ("https://images.example/a%2fb", "lead elsewhere"),
        ("https://images.example/a\\b", "lead elsewhere"),
        ("https://images.example/a b", "must be percent-encoded"),
        ("https://images.example/\u00e4", "must be percent-encoded"),
        ("https://images.example:port/a", "cannot be read"),
        ("https://images.example:99999/a", "cannot be read"),
        ("https://[::1/a", "cannot be read"),
        ("file://other/images/a", "not file:///PATH"),
        ("file:images/a", "not file:///PATH"),
        ("file:///images/a?b", "not file:///PATH"),
        ("file:///images/../../etc/shadow", "lead elsewhere"),
        ("https://images.example/" + "a" * 2048, "at most 2048 characters"),
    ],
)
def test_a_url_that_names_something_else_is_refused(url: str, why: str) -> None:
    """Before anything is asked for, and the sentence names the field."""
    sentence = refused({"name": "vm", "memory_mib": 64, "image": {"url": url}})
    assert sentence.startswith("image.url: ")
    assert why in sentence


def test_plain_http_needs_a_checksum() -> None:
    """Anybody on the way could put another image there."""
    image = {"url": "http://images.example/a"}
    assert refused({"name": "vm", "memory_mib": 64, "image": image}) == "image: a plain http url needs sha256."
    parse(SpawnRequest, {"name": "vm", "memory_mib": 64, "image": {**image, "sha256": "0" * 64}})


@pytest.mark.parametrize("field", ["image", "boot"])
@pytest.mark.parametrize("value", ["text", [], 7], ids=["text", "list", "number"])
def test_a_part_is_an_object(field: str, value: object) -> None:
    """The sentence names the part."""
    assert re.fullmatch(rf"{field}: input should be a valid dictionary[^\n]*\.", refused(changed(field, value)))


@pytest.mark.parametrize("field", ["name", "boot.cmdline", "boot.kernel", "boot.initrd", "image.path"])
@pytest.mark.parametrize(
    "character",
    ["\x00", "\n", "\t", "\x1b", "\x7f", "\ufffe", "\uffff"],
    ids=["NUL", "newline", "tab", "escape", "delete", "FFFE", "FFFF"],
)
def test_a_control_character_is_refused_wherever_text_goes_into_a_definition(field: str, character: str) -> None:
    """At its beginning, within it and at its end."""
    for text in (f"{character}/a", f"/a{character}b", f"/a{character}"):
        assert refused(changed(field, text)) == f"{field}: value has a control character."


@pytest.mark.parametrize("field", ["name", "boot.cmdline", "boot.kernel"])
def test_half_a_character_is_refused(field: str) -> None:
    """A lone surrogate is no text; JSON can carry one all the same."""
    assert refused(changed(field, "/a\ud800")).startswith(f"{field}: ")


@pytest.mark.parametrize("name", ["Bücher & <Söhne>", "虚拟机", "\N{GRINNING FACE}", "a  b"])
def test_any_printable_name_is_taken(name: str) -> None:
    """Escaping it is the definition's task."""
    assert parse(SpawnRequest, changed("name", name)).name == name


def test_a_guest_needs_something_to_start_from() -> None:
    """An image, an empty disk or a kernel."""
    sentence = refused({"name": "vm", "memory_mib": 64})
    assert sentence.endswith("request: a guest needs something to start from: image, disk_gib or boot.")
    for start in ({"image": {"path": "/a"}}, {"disk_gib": 1}, {"boot": {"kernel": "/a"}}):
        parse(SpawnRequest, {"name": "vm", "memory_mib": 64, **start})


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"root_disk": {"format": "raw"}}, "root_disk needs an image or disk_gib"),
        ({"preallocate_images": "space"}, "preallocate_images needs a disk"),
        (
            {"disk_gib": 1, "ephemerals": [{"size_gib": 1}] * 4, "hardware": {"disk_bus": "ide", "machine_type": "pc"}},
            "the disk_bus ide has room for 4 disks",
        ),
        (
            {"hardware": {"machine_type": "pc-i440fx-7.2", "firmware_type": "uefi", "secure_boot": True}},
            "secure_boot needs the machine_type q35",
        ),
    ],
)
def test_disks_that_do_not_fit_are_refused(asked: dict[str, Any], sentence: str) -> None:
    """Before anything is made."""
    assert sentence in refused({"name": "vm", "memory_mib": 64, "boot": {"kernel": "/a"}, **asked})


def test_the_first_of_many_mistakes_is_named() -> None:
    """One sentence, not a list."""
    sentence = refused({"name": 7, "memory_mib": 1, "nonsense": []})
    assert sentence.startswith("name: ")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    "document", [{"force": True}, {"version": 0}, {"timeout_s": -1}, {"timeout_s": 1801}, {"timeout_s": "60"}]
)
def test_a_destroy_has_no_field_but_its_version_and_the_guests_time(document: dict[str, Any]) -> None:
    """There is nothing else about it to choose."""
    with pytest.raises(BadRequestError, match=rf"^{next(iter(document))}: [^\n]+\.$"):
        parse(DestroyRequest, document)


def test_a_request_does_not_change() -> None:
    """Steps share it."""
    request: Any = parse(DestroyRequest, {})
    with pytest.raises(ValueError, match=r"frozen"):
        request.version = 2


# --- devices


def wrong(operation: str, **document: Any) -> str:
    """The sentence with which the operation's request is refused."""
    with pytest.raises(BadRequestError) as error:
        parse(OPERATIONS[operation].request, document)
    return str(error.value)


FILE = {"id": "v1", "kind": "file", "path": "/volumes/v1"}
NBD = {"id": "v1", "kind": "nbd", "host": "storage"}
NIC = {"id": "i1", "bridge": "br0"}


@pytest.mark.parametrize(
    ("volume", "sentence"),
    [
        ({**FILE, "kind": "iscsi"}, "volume: input tag 'iscsi' found using 'kind' does not match any of the expected"),
        ({**FILE, "path": "volumes/v1"}, "volume.file.path: path is not absolute."),
        ({**FILE, "id": "root"}, "volume.file.id: value root is the name of a disk that instances have."),
        ({**FILE, "id": "a/b"}, "volume.file.id: value is not 1 to 64 letters, digits, _ and -"),
        ({**FILE, "host": "storage"}, "volume.file.host: extra inputs are not permitted."),
        ({**NBD, "port": 0}, "volume.nbd.port: input should be greater than or equal to 1."),
        ({**NBD, "socket": "/run/nbd"}, "volume.nbd: an nbd volume is reached by host or by socket, and by one"),
        ({"id": "v1", "kind": "nbd"}, "volume.nbd: an nbd volume is reached by host or by socket, and by one"),
        ({**NBD, "export": "a\nb"}, "volume.nbd.export: value has a control character."),
    ],
)
def test_a_volume_that_cannot_be_is_refused_by_the_name_of_its_field(volume: dict[str, Any], sentence: str) -> None:
    """An unknown kind by the kind's own name."""
    assert wrong("attach_volume", volume=volume).startswith(sentence)


@pytest.mark.parametrize(
    ("interface", "sentence"),
    [
        ({**NIC, "mac": "52:54:00:00:00"}, "interface.mac: value is no MAC address"),
        ({**NIC, "mac": "01:00:5e:00:00:01"}, "interface.mac: value is a multicast address"),
        ({**NIC, "network": "default"}, "interface: an interface is plugged into a bridge or a network, and into one"),
        ({"id": "i1"}, "interface: an interface is plugged into a bridge or a network, and into one"),
        ({**NIC, "bridge": "a-name-of-16-byte"}, "interface.bridge: string should match pattern"),
        ({**NIC, "mtu": 67}, "interface.mtu: input should be greater than or equal to 68."),
    ],
)
def test_an_interface_that_cannot_be_is_refused(interface: dict[str, Any], sentence: str) -> None:
    """Before anything is plugged."""
    assert wrong("attach_interface", interface=interface).startswith(sentence)


def test_a_mac_is_the_same_however_it_is_written() -> None:
    """The journal compares it."""
    request: Any = parse(OPERATIONS["attach_interface"].request, {"interface": {**NIC, "mac": "52:54:00:AB:CD:EF"}})
    assert request.interface.mac == "52:54:00:ab:cd:ef"


@pytest.mark.parametrize(
    ("field", "twins"),
    [
        ("volumes", [FILE, {**NBD}]),
        ("interfaces", [NIC, {**NIC, "bridge": "br1"}]),
        ("interfaces", [{**NIC, "mac": "52:54:00:00:00:01"}, {**NIC, "id": "i2", "mac": "52:54:00:00:00:01"}]),
    ],
)
def test_a_spawn_names_each_device_once(field: str, twins: list[dict[str, Any]]) -> None:
    """Their ids, and their MACs."""
    assert wrong("spawn", name="vm", memory_mib=64, disk_gib=1, **{field: twins}).endswith(
        f"two of {field} are the same."
    )


@pytest.mark.parametrize("attempts", [0, 101, 1.5])
def test_a_guest_is_asked_a_bounded_number_of_times(attempts: object) -> None:
    """And at least once."""
    assert wrong("detach_volume", volume_id="v1", attempts=attempts).startswith("attempts: ")


@pytest.mark.parametrize("destination", ["", "H2", "h2/..", "h2?x=y", None])
def test_a_destination_is_a_hosts_name(destination: object) -> None:
    """It is looked up; no URI is made of it."""
    assert wrong("migrate", destination=destination).startswith("destination: ")


def test_a_migrations_defaults_are_novas() -> None:
    """800 s per GiB, then it is given up; the pause at the switch grows to 500 ms in 10 steps, 75 s per GiB apart."""
    request: Any = parse(OPERATIONS["migrate"].request, {"destination": "h2"})
    assert (request.completion_timeout_s_per_gib, request.on_timeout) == (800, "abort")
    assert (request.downtime_ms, request.downtime_steps, request.downtime_delay_s_per_gib) == (500, 10, 75)
    assert not request.post_copy


# --- the schema


def _properties(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for part in (schema, *schema.get("$defs", {}).values()):
        yield from part.get("properties", {}).items()


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.name)
def test_the_schema_describes_every_field(operation: Operation[Any]) -> None:
    """Whoever writes an orchestrator reads it instead of the code; unknown fields are ruled out there too."""
    schema = operation.request.model_json_schema()
    assert [name for name, part in _properties(schema) if not part.get("description")] == []
    for part in (schema, *schema.get("$defs", {}).values()):
        assert part["description"]
        assert part["type"] != "object" or part["additionalProperties"] is False


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.name)
def test_a_quantity_has_its_unit_in_its_name(operation: Operation[Any]) -> None:
    """A number without a unit is a count."""
    for name, part in _properties(operation.request.model_json_schema()):
        kinds = {part.get("type"), *(one.get("type") for one in part.get("anyOf", ()))}
        if kinds & {"integer", "number"}:
            assert name in COUNTS | TERMS or name.endswith(UNITS)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.name)
def test_every_request_is_strict(operation: Operation[Any]) -> None:
    """Frozen, nothing coerced, nothing unknown."""
    assert issubclass(operation.request, Request)
    assert {key: operation.request.model_config.get(key) for key in ("strict", "frozen", "extra")} == {
        "strict": True,
        "frozen": True,
        "extra": "forbid",
    }
