"""Live migration between two hosts: rounds through Hostler and bare alternate, there and back.

Through Hostler the journal is a PostgreSQL with ``fsync`` on, for two hosts share it.
"""

from contextlib import ExitStack
from uuid import uuid4

from tests.bench.timing import Times
from tests.lab.bare_guest import BareGuest, live_migrate
from tests.lab.guest_console import heartbeats
from tests.lab.guest_image import guest_image
from tests.lab.host_pair import host_pair, pair_network
from tests.lab.orchestrator import RESULT_WITHIN_S, Orchestrator
from tests.lab.postgres import PostgresServer
from tests.lab.redis import RedisServer
from tests.lab.site_pair import site_pair
from tests.lab.waiting import eventually

MEMORY_MIB = 96
BEATS_WITHIN_S = 60.0


def measure_migrations(times: Times, rounds: int) -> None:
    """Two guests without disks, each of which counts: one is Hostler's, one only libvirt's."""
    with ExitStack() as lab:
        hosts = lab.enter_context(host_pair(lab.enter_context(pair_network())))
        redis = lab.enter_context(RedisServer())
        journal = lab.enter_context(PostgresServer()).create_database(socket=True)
        sites = lab.enter_context(site_pair(hosts, database_url=journal, broker_url=redis.socket_url))
        sites.first.hostler("db", "upgrade")
        sites.start_workers()
        orchestrator = Orchestrator(redis.url)
        lab.callback(orchestrator.close)
        image, ours = guest_image(), uuid4()
        boot = {"kernel": str(image.kernel), "initrd": str(image.initrd), "cmdline": image.cmdline}
        request = {"name": "bench", "memory_mib": MEMORY_MIB, "boot": boot}
        orchestrator.send("spawn", ours, request).get(timeout=RESULT_WITHIN_S)
        theirs = BareGuest(image, memory_mib=MEMORY_MIB)
        lab.enter_context(theirs.started(hosts.first, hosts.second))
        eventually(lambda: heartbeats(sites.first.console(ours)), "Hostler's guest counts", BEATS_WITHIN_S)
        eventually(lambda: heartbeats(theirs.console(hosts.first)), "the bare guest counts", BEATS_WITHIN_S)

        for number in range(rounds + 1):
            there = number % 2 == 0
            source, target = (hosts.first, hosts.second) if there else (hosts.second, hosts.first)
            here, destination = ("h1", "h2") if there else ("h2", "h1")
            with theirs.on(source) as domain:
                times.add("migrate", "bare", lambda: live_migrate(domain, target), counts=number > 0)  # noqa: B023
            sent = {"destination": destination}
            times.add(
                "migrate",
                "hostler",
                lambda: orchestrator.send("migrate", ours, sent, host=here).get(timeout=RESULT_WITHIN_S),  # noqa: B023
                counts=number > 0,
            )
