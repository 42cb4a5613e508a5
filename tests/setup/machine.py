"""A developer's machine with servers of its own, on which `make setup` and a lab session then run.

The machine is a set of namespaces (processes, mounts, network, host name) of which this program is the first process.
It has a Redis on the standard port with a key in it, and a libvirtd at the standard paths with a running guest.
What can be seen of them before and after goes to standard output, as JSON.
"""

import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import libvirt
import redis

from tests.lab.hosts import LibvirtHost
from tests.lab.places import CHECKOUT, program, scratch_folder
from tests.lab.redis import RedisServer
from tests.setup.lab_session import GUEST

STANDARD_REDIS_PORT = 6379
GUEST_OF_THE_MACHINE = UUID("5ca1ab1e-0000-4000-8000-000000000001")
TOUCHED_BY_APT = (Path("/usr/sbin/policy-rc.d"), Path("/etc/postgresql-common/createcluster.conf"))


def main() -> None:
    """Start what the machine has, run the set-up and the lab, and say what was seen."""
    subprocess.run([program("ip"), "link", "set", "lo", "up"], check=True)
    with (
        RedisServer(port=STANDARD_REDIS_PORT) as own_redis,
        LibvirtHost("machine") as own_libvirt,
        scratch_folder("tmp") as scratch,
    ):
        keeper = redis.Redis.from_url(own_redis.url, decode_responses=True)
        keeper.set("mine", "precious")
        connection = libvirt.open(own_libvirt.uri)
        connection.createXML(GUEST.format(GUEST_OF_THE_MACHINE))

        def seen() -> dict[str, Any]:
            return {
                "redis": {
                    "pid": own_redis.process.alive and own_redis.process.pid,
                    "data": {key: keeper.get(key) for key in keeper.scan_iter()},
                    "connections": keeper.info("stats")["total_connections_received"],
                },
                "libvirt": {
                    "pid": own_libvirt.libvirtd.alive and own_libvirt.libvirtd.pid,
                    "domains": {domain.UUIDString(): domain.info()[0] for domain in connection.listAllDomains()},
                    "qemu pids": own_libvirt.qemu_pids(),
                    "starts": own_libvirt.boots(GUEST_OF_THE_MACHINE),
                },
                "links": _output("ip", "-json", "link"),
                "firewall": _output("nft", "list", "ruleset") if shutil.which("nft") else "",
                "processes": _programs(),
                "mounts": _output("cat", "/proc/self/mountinfo"),
                "files of apt's hooks": {str(path): _identity(path) for path in TOUCHED_BY_APT},
                "scratch folder": sorted(path.name for path in scratch.iterdir()),
            }

        namespace = f"/proc/{own_libvirt.libvirtd.pid}"
        inside = [program("nsenter"), f"--mount={namespace}/ns/mnt", f"--root={namespace}/root", "--"]
        inside += [program("env"), f"--chdir={CHECKOUT}", f"TMPDIR={scratch}"]
        # A machine in use has the packages; its libvirtd is asked at the socket that everyone asks.
        assert _run([*inside, "test", "-S", "/run/libvirt/libvirt-sock"])["status"] == 0
        before = seen()
        set_up = [*inside, program("make"), "--no-print-directory", "setup"]
        runs = {
            "first set-up": _run(set_up),
            "second set-up": _run(set_up),
            "session": _run([*inside, sys.executable, "-m", "tests.setup.lab_session"]),
        }
        after = seen()
        connection.close()
    json.dump({"before": before, "after": after, **runs}, sys.stdout)


def _run(argv: list[str]) -> dict[str, Any]:
    began = time.monotonic()
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=120)
    return {"status": done.returncode, "said": done.stdout + done.stderr, "seconds": time.monotonic() - began}


def _output(name: str, *arguments: str) -> str:
    return subprocess.run([program(name), *arguments], check=True, capture_output=True, text=True).stdout


def _programs() -> list[str]:
    """Who runs here, this program and its own questions left out."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        words = command.read_text(errors="replace").split("\0")
        if words[0] and "tests.setup.machine" not in words:
            found.append(" ".join(words).strip())
    return sorted(found)


def _identity(path: Path) -> list[Any] | None:
    """What tells that a file is the same one, and untouched."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return [status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, path.read_text()]


if __name__ == "__main__":
    socket.setdefaulttimeout(30.0)
    main()
