"""Two sites with one journal and one broker, on a pair of hosts: between them guests migrate."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import libvirt
import psutil

from tests.lab.host_pair import HostPair
from tests.lab.hosts import LibvirtHost
from tests.lab.site import Site


@dataclass(frozen=True)
class SitePair:
    """The sites ``h1`` and ``h2``; each worker lives in its host's network and reaches the other host over its link."""

    hosts: HostPair
    first: Site
    second: Site

    @property
    def sites(self) -> tuple[Site, Site]:
        """Both."""
        return self.first, self.second

    def start_workers(self) -> None:
        """Start both, and return once they are ready."""
        for site in self.sites:
            site.start_worker(ready=False)
        for site in self.sites:
            site.wait_ready()

    def consoles(self, instance: UUID) -> str:
        """What the guest wrote on its console, on the first host and then on the second."""
        return "".join(site.console(instance) for site in self.sites)

    def running(self, instance: UUID) -> list[str]:
        """The hosts on which libvirt shows the guest running now."""
        return [host for host, state in self.shown(instance).items() if state == "running"]

    def shown(self, instance: UUID) -> dict[str, str]:
        """For each host that knows a domain of the instance, its state."""
        hosts = (self.hosts.first, self.hosts.second)
        states = {site.host: _state(host, instance) for site, host in zip(self.sites, hosts, strict=True)}
        return {host: state for host, state in states.items() if state is not None}

    def qemu_pids(self, instance: UUID) -> list[int]:
        """The pids of the instance's QEMUs on both hosts, whatever libvirt believes."""
        return [
            int(process.info["pid"])
            for process in psutil.process_iter(["pid", "name", "cmdline"])
            if (process.info["name"] or "").startswith("qemu-system")
            and str(instance) in (process.info["cmdline"] or [])
        ]


libvirt.registerErrorHandler(lambda _context, _error: None, None)  # libvirt would print each error that is raised
_STATES = {libvirt.VIR_DOMAIN_RUNNING: "running", libvirt.VIR_DOMAIN_PAUSED: "paused"}


def _state(host: LibvirtHost, instance: UUID) -> str | None:
    with closing(libvirt.open(host.uri)) as connection:
        try:
            state, _ = connection.lookupByUUID(instance.bytes).state()
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise
    return _STATES.get(state, "off")


def end_guests(host: LibvirtHost) -> None:
    """Leave no domain on the host."""
    with closing(libvirt.open(host.uri)) as connection:
        for domain in connection.listAllDomains():
            if domain.isActive():
                with suppress(libvirt.libvirtError):  # it ended by itself
                    domain.destroy()
        for domain in connection.listAllDomains():
            domain.undefine()


@contextmanager
def site_pair(
    hosts: HostPair,
    *,
    database_url: str,
    broker_url: str | None,
    settings: dict[str, str] | None = None,
    worker_command: Sequence[str] = ("-m", "worker.cli", "worker"),
    **options: Any,
) -> Iterator[SitePair]:
    """The sites of a pair, workers not started. The addresses are of UNIX sockets: see `Site`."""
    with ExitStack() as stack:
        sites = [
            stack.enter_context(
                Site(
                    libvirt=host,
                    network_namespace=host.network_namespace,
                    host=name,
                    database_url=database_url,
                    broker_url=broker_url,
                    settings={
                        "PEER_LIBVIRT_URI": host.tcp_uri,
                        "NBD_SERVERS": "*",
                        **(settings or {}),
                    },
                    worker_command=worker_command,
                    **options,
                )
            )
            for name, host in (("h1", hosts.first), ("h2", hosts.second))
        ]
        try:
            yield SitePair(hosts, *sites)
        finally:
            hosts.heal()
            for site in sites:
                site.end_worker()
            for host in (hosts.first, hosts.second):
                if not host.libvirtd.alive:
                    host.start()
                end_guests(host)
