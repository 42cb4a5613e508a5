"""A long-lived guest with an operating system that is given devices and loses them, row after row."""

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

import libvirt
from lxml import etree

from tests.crash.moments import Armed, Moment
from tests.crash.verdict import Ledger, job_faults
from tests.crash.witness import Consoles, guest_faults
from tests.lab.guest_console import disks_seen, heartbeats, nics_seen
from tests.lab.guest_image import GuestImage
from tests.lab.hosts import LibvirtHost
from tests.lab.network import GUESTS_BRIDGE
from tests.lab.site import Site
from tests.lab.waiting import NeverHappenedError, eventually

BOOT_WITHIN_S = 60.0
SEEN_WITHIN_S = 20.0
DIES_WITHIN_S = 30.0

KEPT_MAC, MAC = "52:54:00:00:02:01", "52:54:00:00:02:02"


@dataclass(frozen=True)
class Piece:
    """A device that the guest may have: by what it is known in the inventory, in libvirt's XML and in the guest."""

    kind: Literal["volume", "interface"]
    id: str
    mac: str = ""

    @property
    def alias(self) -> str:
        """What libvirt calls it."""
        return f"ua-{self.id}" if self.kind == "volume" else f"ua-nic-{self.id}"

    @property
    def in_guest(self) -> str:
        """What the guest's kernel knows it by."""
        return self.id if self.kind == "volume" else self.mac


KEPT_VOLUME, KEPT_NIC = Piece("volume", "kept"), Piece("interface", "kept", KEPT_MAC)
EXTRA_VOLUME, EXTRA_NIC = Piece("volume", "extra"), Piece("interface", "extra", MAC)


class Furnished:
    """The guest and its site. What it has of earlier jobs, it never loses."""

    def __init__(self, site: Site, journal: str, image: GuestImage, host: LibvirtHost | None) -> None:
        self.site = site
        self.ledger = Ledger(journal)
        self.instance = uuid4()
        self.consoles = Consoles([site], self.instance)
        self._image = image
        self._host = host
        self.kept = [KEPT_VOLUME, KEPT_NIC] if host is not None else [KEPT_VOLUME]

    def furnish(self) -> None:
        """Have it run, with the devices of earlier jobs."""
        image = self._image
        boot = {"kernel": str(image.kernel), "initrd": str(image.initrd), "cmdline": image.cmdline}
        self.done("spawn", {"name": "furnished", "memory_mib": 96, "boot": boot})
        eventually(lambda: heartbeats(self.consoles.text), "the guest counts", BOOT_WITHIN_S)
        for piece in self.kept:
            self.done(*self.attaching(piece))
        assert self.faults(having=self.kept) == []

    def attaching(self, piece: Piece) -> tuple[str, dict[str, Any]]:
        """The job that gives it the device."""
        if piece.kind == "interface":
            return "attach_interface", {"interface": {"id": piece.id, "bridge": GUESTS_BRIDGE, "mac": piece.mac}}
        path = self.site.state / "volumes" / f"{piece.id}.raw"
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            with path.open("wb") as disk:
                disk.truncate(8 * 1024**2)
        return "attach_volume", {"volume": {"id": piece.id, "kind": "file", "path": str(path)}}

    def detaching(self, piece: Piece) -> tuple[str, dict[str, Any]]:
        """The job that takes the device from it."""
        return f"detach_{piece.kind}", {f"{piece.kind}_id": piece.id}

    def done(self, operation: str, request: dict[str, Any]) -> None:
        """The job, ended as it should."""
        job = self.site.settled(self.site.accept(operation, self.instance, request))
        assert job["state"] == "succeeded", job

    def dies_at(self, step: str, moment: Moment) -> None:
        """From now on its worker dies there, once."""
        Armed(self.site.folder, step, moment).arm()

    def worker_dies(self) -> None:
        """Return when it has."""
        eventually(lambda: not self.site.worker.alive, "the worker dies", DIES_WITHIN_S)

    # --- what must be so

    def faults(self, having: list[Piece]) -> list[str]:
        """What is wrong with a guest that is to have these devices, and no others."""
        found = guest_faults(self.consoles.text)
        wanted = Counter((piece.kind, piece.id) for piece in having)
        rows = self.ledger.rows("SELECT kind, key, exclusive FROM devices WHERE instance = :of", of=self.instance.hex)
        if Counter((row["kind"], row["key"]) for row in rows) != wanted:
            found.append(f"the inventory has {rows}")
        aliases = Counter(piece.alias for piece in having)
        for side, document in self._documents().items():
            if _aliases(document) != aliases:
                found.append(f"the {side} has {_aliases(document)}, not {aliases}")
        in_guest = sorted(piece.in_guest for piece in having)
        try:
            eventually(lambda: self.in_guest() == in_guest, "the guest's kernel sees it", SEEN_WITHIN_S)
        except NeverHappenedError:
            found.append(f"the guest sees {self.in_guest()}, not {in_guest}")
        return found + self._lost()

    def in_guest(self) -> list[str]:
        """The serials and MAC addresses that the guest's kernel shows now."""
        said = self.consoles.text
        disks, nics = disks_seen(said), nics_seen(said)
        return sorted([*(disks[-1].values() if disks else []), *(nics[-1].values() if nics else [])])

    def _lost(self) -> list[str]:
        """The devices of earlier jobs that the guest had, and then had not, for a moment."""
        said = self.consoles.text
        found = []
        for piece in self.kept:
            seen = [
                piece.in_guest in each.values() for each in (disks_seen if piece.kind == "volume" else nics_seen)(said)
            ]
            if True in seen and False in seen[seen.index(True) :]:
                found.append(f"the guest lost {piece.kind} {piece.id} of an earlier job")
        return found

    def job_faults(self, job_id: str) -> list[str]:
        """What is wrong with how the journal tells of a job."""
        return job_faults(self.ledger, job_id)

    def _documents(self) -> Mapping[str, etree._Element]:
        """Guest and definition, as libvirt shows them; of the embedded driver, the definition's file."""
        if self._host is None:
            [file] = (self.site.state / "libvirt" / "etc").rglob(f"{self.instance}.xml")
            return {"definition": etree.fromstring(file.read_bytes())}
        with closing(libvirt.open(self._host.uri)) as connection:
            domain = connection.lookupByUUID(self.instance.bytes)
            texts = {"guest": domain.XMLDesc(), "definition": domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)}
        return {side: etree.fromstring(text) for side, text in texts.items()}

    def edit_definition(self, piece: Piece) -> None:
        """Take the device out of the definition behind Hostler's back, as somebody's virsh does."""
        assert self._host is not None
        with closing(libvirt.open(self._host.uri)) as connection:
            domain = connection.lookupByUUID(self.instance.bytes)
            domain.detachDeviceAlias(piece.alias, libvirt.VIR_DOMAIN_AFFECT_CONFIG)

    def close(self) -> None:
        """Let go of its files and its journal."""
        self.consoles.close()
        self.ledger.close()


def _aliases(document: etree._Element) -> Counter[str]:
    found = (element.get("name", "") for element in document.iterfind("devices/*/alias"))
    return Counter(name for name in found if name.startswith("ua-") and name != "ua-root")
