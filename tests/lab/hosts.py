"""Hosts: each a libvirtd of its own, in mount and UTS namespaces of its own, with real QEMU below it.

    sub-reaper -> (ip netns exec NS ->) unshare -m -u -> private folders over libvirt's -> libvirtd

Nothing of the machine's own libvirt is seen, used or changed; several hosts run side by side.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID, uuid4

from typing_extensions import override

from tests.lab import qemu_log
from tests.lab.enclosure import enclosed, qemu_account
from tests.lab.mount_points import MOUNT_POINTS, ensure_mount_points
from tests.lab.opening import Opened
from tests.lab.places import CACHE, program, scratch_folder
from tests.lab.processes import Process, ProcessEndedError, accepts_connections, free_port

READY_WITHIN_S = 20.0
CAPABILITIES_WITHIN_S = 90.0  #: the first look at QEMU takes 8 s on an idle machine; afterwards it is cached
LIBVIRT_PORT = 16509  #: libvirt's own port for TCP; free in a network namespace that a host has to itself
STARTS_TRIED = 3  #: a port that was free a moment ago may be taken when libvirtd asks for it

LIBVIRTD_CONF = """
host_uuid = "{uuid}"
unix_sock_dir = "/run/libvirt"
unix_sock_rw_perms = "0700"
auth_unix_rw = "none"
listen_tls = 0
listen_tcp = {listen_tcp}
listen_addr = "{address}"
tcp_port = "{port}"
auth_tcp = "none"
"""

QEMU_CONF = """
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
dynamic_ownership = 0
remember_owner = 0
"""

#: A broken link between the hosts of a migration is noticed after interval x (count + 1): by the source after 4 s,
#: and by the target after 6 s, which then forgets the guest that was coming.
QEMU_CONF_IN_NETWORK = """
keepalive_interval = 1
keepalive_count = 3
"""
LIBVIRTD_CONF_IN_NETWORK = """
keepalive_interval = 1
keepalive_count = 5
"""


class LibvirtHost(Opened):
    """A host. `stop` and `kill` end its libvirtd and leave its guests running; leaving the context ends all of it.

    With a `listen_address` (of the loopback interface, or of its network namespace) it can be migrated to; whoever
    reaches that address may then command it, so it is not given by default.
    """

    def __init__(
        self,
        name: str = "lab-a",
        *,
        network_namespace: str | None = None,
        listen_address: str | None = None,
        qemu_conf: str = "",
    ) -> None:
        super().__init__()
        self.name = name
        self.uuid = uuid4()
        self.network_namespace = network_namespace
        self._listen_address = listen_address
        self._qemu_conf = qemu_conf
        self._libvirtds: list[Process] = []  # ended ones too, while they are the reapers of guests

    @override
    def _open(self) -> None:
        self.folder = self._cleanups.enter_context(scratch_folder("host"))
        self._cleanups.callback(self._end_processes)
        self._lay_out()
        self.start()
        self._learn_capabilities()

    @property
    def socket(self) -> Path:
        """The UNIX socket of its libvirtd, reachable from outside the namespaces."""
        return self.folder / "run/libvirt/libvirt-sock"

    @property
    def uri(self) -> str:
        """For callers on this machine."""
        return f"qemu+unix:///system?socket={self.socket}"

    @property
    def tcp_uri(self) -> str:
        """For callers that migrate to it."""
        return f"qemu+tcp://{self.address}:{self.port}/system"

    @property
    def migration_uri(self) -> str:
        """Where a guest's memory is sent when it migrates to this host."""
        return f"tcp:{self.address}"

    @property
    def address(self) -> str:
        """Where other hosts reach it."""
        if self._listen_address is None:
            raise RuntimeError(f"{self.name} was made without a listen_address")
        return self._listen_address

    @property
    def libvirtd(self) -> Process:
        """The running, or last, libvirtd; its survivors are guests."""
        return self._libvirtds[-1]

    def start(self) -> None:
        """Start libvirtd, which finds the guests of the one before it, and return when it accepts connections."""
        for tried in range(1, STARTS_TRIED + 1):
            self._configure()
            process = Process(self._command(), log=self.folder / "libvirtd.log", env=self._environment())
            process.start()
            self._libvirtds.append(process)
            try:
                process.wait_ready(self._accepts, f"{self.name} is ready", READY_WITHIN_S)
            except ProcessEndedError:
                if self._listen_address is None or tried == STARTS_TRIED:
                    raise
            else:
                return

    def stop(self) -> None:
        """End libvirtd as an upgrade of its package would; the guests run on."""
        self.libvirtd.terminate(READY_WITHIN_S)

    def kill(self) -> None:
        """Kill libvirtd in the middle of whatever it does; the guests run on."""
        self.libvirtd.kill()

    def restart(self) -> None:
        """End libvirtd and start it again."""
        self.stop()
        self.start()

    def reboot(self) -> None:
        """Lose power, and come up again: no process is left, and nothing of what lay below /run."""
        self.kill()
        for process in self._libvirtds:
            process.end()
        self._libvirtds.clear()
        for point in (self.folder / "run").iterdir():
            shutil.rmtree(point)
            point.mkdir()
        self.start()

    def freeze(self) -> None:
        """Make libvirtd silent without closing anything, as a paused VM or a stalled disk does."""
        self.libvirtd.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen libvirtd go on."""
        self.libvirtd.signal(signal.SIGCONT)

    def private(self, path: Path | str) -> Path:
        """Where what libvirt and QEMU see at this path below libvirt's own folders lies; each host has its own."""
        return self.folder / Path(path).relative_to("/")

    def qemu_log(self, guest: UUID | str) -> str:
        """All that QEMU wrote for this guest on this host."""
        return "".join(qemu_log.starts(self._qemu_logs, guest))

    def boots(self, guest: UUID | str) -> int:
        """How often a QEMU was started for this guest on this host."""
        return len(qemu_log.starts(self._qemu_logs, guest))

    def qemu_pids(self) -> list[int]:
        """The pids of its QEMUs, whatever libvirt believes."""
        return [pid for process in self._libvirtds for pid in process.survivors() if _is_qemu(pid)]

    @property
    def _qemu_logs(self) -> Path:
        return self.folder / "var/log/libvirt/qemu"

    def _command(self) -> list[str]:
        covers = {point: self.folder / point.relative_to("/") for point in MOUNT_POINTS}
        return enclosed(
            [program("libvirtd"), "--listen", "-p", self.folder / "libvirtd.pid"],
            covers | qemu_account(self.folder),
            hostname=self.name,
            network_namespace=self.network_namespace,
        )

    def _environment(self) -> dict[str, str]:
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.folder), "LC_ALL": "C"}

    def _lay_out(self) -> None:
        ensure_mount_points()
        for point in MOUNT_POINTS:
            (self.folder / point.relative_to("/")).mkdir(parents=True)
        self._qemu_logs.mkdir()
        defaults = QEMU_CONF if self.network_namespace is None else QEMU_CONF + QEMU_CONF_IN_NETWORK
        # Of a setting that is given twice, libvirt takes the first.
        (self.folder / "etc/libvirt/qemu.conf").write_text(f"{self._qemu_conf}\n{defaults}")
        self._capabilities.mkdir(parents=True)
        for known in (CACHE / "capabilities").glob("*.xml"):
            shutil.copy2(known, self._capabilities)

    def _configure(self) -> None:
        self.port = 0
        if self._listen_address:
            self.port = LIBVIRT_PORT if self.network_namespace else free_port()
        text = LIBVIRTD_CONF.format(
            uuid=self.uuid,
            listen_tcp=1 if self._listen_address else 0,
            address=self._listen_address or "127.0.0.1",
            port=self.port,
        )
        if self.network_namespace is not None:
            text += LIBVIRTD_CONF_IN_NETWORK
        (self.folder / "etc/libvirt/libvirtd.conf").write_text(text)

    @property
    def _capabilities(self) -> Path:
        return self.folder / "var/cache/libvirt/qemu/capabilities"

    def _learn_capabilities(self) -> None:
        """Make the first guest as quick as the second: libvirt examines QEMU now, and later hosts inherit the result.

        libvirt itself drops what it inherits when QEMU, libvirt or the kernel have changed since.
        """
        before = _contents(self._capabilities)
        asking = "import libvirt, sys; libvirt.open(sys.argv[1]).getCapabilities()"
        asked = subprocess.run(
            [sys.executable, "-c", asking, self.uri], check=False, timeout=CAPABILITIES_WITHIN_S, capture_output=True
        )
        if asked.returncode:
            raise ProcessEndedError(f"{self.name} does not answer: {asked.stderr.decode()}\n{self.libvirtd.log}")
        after = _contents(self._capabilities)
        if after != before:
            saved = CACHE / "capabilities"
            saved.mkdir(parents=True, exist_ok=True)
            for name in after:
                unfinished = saved / f"{name}.{os.getpid()}"
                shutil.copy2(self._capabilities / name, unfinished)
                unfinished.replace(saved / name)

    def _accepts(self) -> bool:
        return accepts_connections(self.socket)

    def _end_processes(self) -> None:
        if self._libvirtds and self.libvirtd.alive:
            with contextlib.suppress(AssertionError):
                self.thaw()
                self.libvirtd.terminate(5.0)
        for process in self._libvirtds:
            process.end()


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.xml")}


def _is_qemu(pid: int) -> bool:
    try:
        return "qemu-system" in Path(f"/proc/{pid}/exe").readlink().name
    except OSError:
        return False
