"""What one host really has: asked of libvirt, the kernel and the file system, without Hostler's code."""

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import libvirt
import psutil
from lxml import etree

from tests.lab.hosts import LibvirtHost
from tests.lab.namespaces import call

OURS = "{urn:hostler:domain:1}domain"
_STATES = {
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTOFF: "stopped",
    libvirt.VIR_DOMAIN_CRASHED: "stopped",
}


@dataclass(frozen=True)
class Domain:
    """A domain as libvirt shows it."""

    state: str  #: in the inventory's words
    persistent: bool
    owner: str | None  #: the instance that its definition names
    aliases: frozenset[str]  #: of our devices, in the definition
    live_aliases: frozenset[str] | None  #: in the running guest
    taps: frozenset[str]

    @property
    def active(self) -> bool:
        """Whether a process is to run for it."""
        return self.live_aliases is not None


@dataclass
class Picture:
    """The host at one moment."""

    domains: dict[UUID, Domain] = field(default_factory=dict)
    qemus: dict[UUID, list[int]] = field(default_factory=dict)
    files: dict[str, list[str]] = field(default_factory=dict)  #: by the folder of an instance
    taps: frozenset[str] = frozenset()


def picture(host: LibvirtHost, state_folder: Path) -> Picture:
    """Look at everything once."""
    found = Picture()
    with closing(libvirt.open(host.uri)) as connection:
        for domain in connection.listAllDomains():
            found.domains[UUID(bytes=domain.UUID())] = _domain(domain)
    found.qemus = qemus()
    folder = state_folder / "instances"
    for path in sorted(folder.rglob("*")) if folder.exists() else []:
        parts = path.relative_to(folder).parts
        found.files.setdefault(parts[0], []).extend(parts[1:])
    if host.network_namespace is not None:
        lines = call("ip", "-n", host.network_namespace, "-brief", "link", "show", "type", "tun").splitlines()
        found.taps = frozenset(line.split()[0].partition("@")[0] for line in lines)
    return found


def qemus() -> dict[UUID, list[int]]:
    """The QEMUs that run on this machine, by the UUID of their domain: also those of other hosts and other tests."""
    found: dict[UUID, dict[int, int]] = {}
    for process in psutil.process_iter(["pid", "ppid", "name", "cmdline", "status"]):
        command = process.info["cmdline"] or []
        if process.info["status"] == psutil.STATUS_ZOMBIE or "-uuid" not in command:
            continue
        if (process.info["name"] or "").startswith("qemu-system"):
            uuid = UUID(command[command.index("-uuid") + 1])
            found.setdefault(uuid, {})[process.info["pid"]] = process.info["ppid"]
    # One that starts is two processes, for a moment: it daemonizes.
    return {uuid: [pid for pid, parent in pids.items() if parent not in pids] for uuid, pids in found.items()}


def _domain(domain: libvirt.virDomain) -> Domain:
    inactive = etree.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    live = etree.fromstring(domain.XMLDesc()) if domain.isActive() else None
    owners = [element.get("instance") for element in inactive.iterfind(f"metadata/{OURS}")]
    state = _STATES.get(domain.state()[0], "other")
    return Domain(
        state="suspended" if state == "stopped" and domain.hasManagedSaveImage() else state,
        persistent=bool(domain.isPersistent()),
        owner=owners[0] if owners else None,
        aliases=_aliases(inactive),
        live_aliases=None if live is None else _aliases(live),
        taps=frozenset() if live is None else frozenset(_taps(live)),
    )


def _aliases(document: etree._Element) -> frozenset[str]:
    names = (element.get("name", "") for element in document.iterfind("devices/*/alias"))
    return frozenset(name for name in names if name.startswith("ua-"))


def _taps(document: etree._Element) -> list[str]:
    return [element.get("dev", "") for element in document.iterfind("devices/interface/target")]
