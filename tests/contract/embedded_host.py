"""A host on libvirt's embedded driver, in a process of its own: there can be only one such driver per process.

The process answers calls of the port, and of the back door, over a UNIX socket; here they look like the objects.
"""

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, cast

import libvirt

from models.states import ErrorClass
from tasks.host import Host, HostError
from tests.contract.backdoor import Backdoor
from tests.contract.real_bench import Places
from tests.lab.enclosure import enclosed, qemu_account
from tests.lab.mount_points import ensure_mount_points
from tests.lab.places import CACHE
from tests.lab.processes import Process
from worker.hands import Hands
from worker.host.event_loop import start_event_loop

READY_WITHIN_S = 20.0
END_WITHIN_S = 20.0


@contextmanager
def embedded_host(folder: Path, network_namespace: str) -> Iterator[tuple[Host, Backdoor]]:
    """The host with its root and its places in the folder, and the back door beside it, for as long as the context."""
    capabilities = folder / "root/cache/qemu/capabilities"
    capabilities.mkdir(parents=True)
    for known in (CACHE / "capabilities").glob("*.xml"):  # or the first look at QEMU takes 8 s
        shutil.copy2(known, capabilities)
    (folder / "run").mkdir()
    ensure_mount_points()
    covers = qemu_account(folder) | {Path("/run/libvirt"): folder / "run"}
    command = enclosed([sys.executable, "-m", __name__, folder], covers, network_namespace=network_namespace)
    with Process(command, log=folder / "embedded.log", cwd=Path(__file__).parents[2]) as process:
        process.wait_ready((folder / "ready").exists, "the embedded host is ready", READY_WITHIN_S)
        remote = _Remote(str(folder / "socket"))
        try:
            yield cast("Host", remote), cast("Backdoor", _RemoteRoom(remote, "backdoor"))
        finally:
            remote.call("backdoor", "clear", (), {})
            remote.close()
            process.terminate(END_WITHIN_S)


class _Remote:
    """The host at the other end; each thread has a connection of its own, as each has a turn of its own there."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._of_thread = threading.local()
        self._lock = threading.Lock()
        self._connections: list[Connection[Any, Any]] = []

    def __getattr__(self, room: str) -> "_RemoteRoom":
        return _RemoteRoom(self, room)

    def call(self, room: str, method: str, arguments: tuple[object, ...], named: dict[str, object]) -> object:
        if not hasattr(self._of_thread, "connection"):
            self._of_thread.connection = Client(self._address)
            with self._lock:
                self._connections.append(self._of_thread.connection)
        self._of_thread.connection.send((room, method, arguments, named))
        result, failure = self._of_thread.connection.recv()
        if failure is not None:
            raise _raisable(failure)
        return result

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


class _RemoteRoom:
    def __init__(self, remote: _Remote, room: str) -> None:
        self._remote = remote
        self._room = room

    def __getattr__(self, method: str) -> Any:
        return lambda *arguments, **named: self._remote.call(self._room, method, arguments, named)


def _raisable(failure: dict[str, Any]) -> HostError:
    return HostError(
        ErrorClass(failure["class"]),
        failure["message"],
        code=failure["code"],
        domain=failure["domain"],
        errno=failure["errno"],
    )


def _serve(folder: Path) -> None:
    start_event_loop()
    uri = f"qemu:///embed?root={folder / 'root'}"
    host = Places.below(folder).hypervisor(uri)
    host.facts()
    rooms: dict[str, Any] = {
        "domains": host.domains,
        "devices": host.devices,
        "power": host.power,
        "images": host.images,
        "disks": host.disks,
        "config_drives": host.config_drives,
        "volumes": host.volumes,
        "interfaces": host.interfaces,
        "migrations": host.migrations,
        "earlier_work": Hands({}),
    }
    rooms["backdoor"] = Backdoor(libvirt.open(uri))
    with Listener(str(folder / "socket")) as listener:
        (folder / "ready").touch()
        while True:  # until it is told to end
            threading.Thread(target=_answer, args=(listener.accept(), rooms), daemon=True).start()


def _answer(connection: "Connection[Any, Any]", rooms: dict[str, Any]) -> None:
    with connection:
        while True:  # until the caller has gone
            try:
                room, method, arguments, named = connection.recv()
            except EOFError:
                return
            try:
                connection.send((getattr(rooms[room], method)(*arguments, **named), None))
            except HostError as error:
                connection.send((None, error.record.as_json()))
            except libvirt.libvirtError as error:
                internal = {"class": "internal", "code": None, "domain": None, "errno": None}
                connection.send((None, internal | {"message": f"back door: {error}"}))


if __name__ == "__main__":
    os.umask(0o022)
    _serve(Path(sys.argv[1]))
