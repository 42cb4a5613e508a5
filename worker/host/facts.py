"""What a host says of itself, read once from libvirt's capabilities."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from lxml import etree

from models.states import ErrorClass
from tasks.host import HostError
from worker.host.connections import ConnectionClass, Connections
from worker.host.errors import Call


@dataclass(frozen=True)
class HostFacts:
    """The hypervisor as libvirt describes it. Versions are (major, minor, release)."""

    host_uuid: UUID
    libvirt_version: tuple[int, int, int]
    qemu_version: tuple[int, int, int]
    architecture: str
    domain_types: frozenset[str]  #: of guests of the host's own architecture: ``kvm``, ``qemu``
    machines: Mapping[str, str]  #: of that architecture: the name with its version, by every name of it
    security_models: frozenset[str] = frozenset()  #: that keep guests apart: ``dac``, ``apparmor``, ``selinux``
    qemu_user: tuple[int, int] | None = None  #: uid and gid of QEMU's processes; None: libvirt does not say
    virtualized: bool = False  #: the host is itself a guest

    @property
    def document(self) -> dict[str, object]:
        """The facts as JSON; versions are dotted."""
        return {
            "libvirt_version": ".".join(map(str, self.libvirt_version)),
            "qemu_version": ".".join(map(str, self.qemu_version)),
            "architecture": self.architecture,
            "domain_types": sorted(self.domain_types),
            "machines": dict(self.machines),
            "security_models": sorted(self.security_models),
            "qemu_user": self.qemu_user,
            "virtualized": self.virtualized,
        }

    @classmethod
    def of_document(cls, host_uuid: UUID, document: Mapping[str, Any]) -> "HostFacts":
        """The facts of a `document`, which names no host. Raises KeyError or ValueError if it is none."""
        user = document["qemu_user"]
        return cls(
            host_uuid,
            _undotted(document["libvirt_version"]),
            _undotted(document["qemu_version"]),
            document["architecture"],
            frozenset(document["domain_types"]),
            document["machines"],
            security_models=frozenset(document["security_models"]),
            qemu_user=None if user is None else (user[0], user[1]),
            virtualized=document.get("virtualized", False),
        )


def read_facts(connections: Connections) -> HostFacts:
    """The facts as they are now; the first reading on a new host takes seconds, for libvirt asks every QEMU then."""
    with connections.calling(ConnectionClass.LOOK, Call.LOOK) as connection:
        capabilities = connection.getCapabilities()
        libvirt_version, qemu_version = connection.getLibVersion(), connection.getVersion()
    return facts_from(capabilities, libvirt_version, qemu_version)


def facts_from(capabilities: str, libvirt_version: int, qemu_version: int) -> HostFacts:
    """The facts in a capabilities document and libvirt's two version numbers."""
    document = etree.fromstring(capabilities.encode())
    host_uuid, architecture = document.findtext("host/uuid"), document.findtext("host/cpu/arch")
    if host_uuid is None or architecture is None:
        raise HostError(ErrorClass.PERMANENT, "libvirt's capabilities name no host UUID or no architecture")
    guests = [arch for arch in document.findall("guest/arch") if arch.get("name") == architecture]
    types = frozenset(domain.get("type", "") for arch in guests for domain in arch.findall("domain"))
    machines = {
        machine.text or "": machine.get("canonical", machine.text or "")
        for arch in guests
        for machine in arch.iterfind("machine")
    }
    return HostFacts(
        UUID(host_uuid),
        _parts(libvirt_version),
        _parts(qemu_version),
        architecture,
        types,
        machines,
        security_models=frozenset(model.text or "" for model in document.findall("host/secmodel/model")) - {"", "none"},
        qemu_user=_qemu_user(document),
        virtualized=document.find("host/cpu/feature[@name='hypervisor']") is not None,
    )


def _qemu_user(document: etree._Element) -> tuple[int, int] | None:
    """The label of the model ``dac`` is ``+UID:+GID``."""
    for model in document.findall("host/secmodel"):
        if model.findtext("model") == "dac":
            label = re.fullmatch(r"\+(\d+):\+(\d+)", model.findtext("baselabel") or "")
            return None if label is None else (int(label[1]), int(label[2]))
    return None


def host_uuid_in(capabilities: str) -> UUID | None:
    """The host UUID in a capabilities document; None where it names none."""
    found = etree.fromstring(capabilities.encode()).findtext("host/uuid")
    return None if found is None else UUID(found)


def _undotted(version: str) -> tuple[int, int, int]:
    major, minor, release = version.split(".")
    return int(major), int(minor), int(release)


def _parts(version: int) -> tuple[int, int, int]:
    return version // 1_000_000, version // 1_000 % 1_000, version % 1_000
