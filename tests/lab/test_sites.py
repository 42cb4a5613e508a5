"""Sites of the lab serve their hosts from wherever those live."""

from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from tests.lab.host_pair import HostPair
from tests.lab.namespaces import FOLDER
from tests.lab.orchestrator import RESULT_WITHIN_S, Orchestrator
from tests.lab.postgres import PostgresServer
from tests.lab.redis import RedisServer
from tests.lab.site import Site

pytestmark = pytest.mark.real


def test_a_worker_serves_its_host_from_within_the_hosts_network(
    host_pair: HostPair, postgres_server: PostgresServer, redis_server: RedisServer
) -> None:
    """Journal, doorbell and results are reached by UNIX sockets; the pid is the worker's own."""
    host, journal = host_pair.first, postgres_server.create_database(socket=True)
    assert host.network_namespace is not None
    redis_server.flush()
    with (
        Site(
            libvirt=host,
            network_namespace=host.network_namespace,
            database_url=journal,
            broker_url=redis_server.socket_url,
        ) as site,
        closing(Orchestrator(redis_server.socket_url)) as orchestrator,
    ):
        upgraded = site.hostler("db", "upgrade")
        assert upgraded.returncode == 0, upgraded.stderr
        worker = site.start_worker()
        assert f"pid={worker.pid} " in site.log
        assert Path(f"/proc/{worker.pid}/ns/net").stat().st_ino == (FOLDER / host.network_namespace).stat().st_ino

        instance = uuid4()
        for operation, request in (("spawn", {"name": "small", "memory_mib": 40, "disk_gib": 1}), ("destroy", {})):
            outcome = orchestrator.send(operation, instance, request).get(timeout=RESULT_WITHIN_S)
            assert (outcome["operation"], outcome["state"]) == (operation, "succeeded")
    postgres_server.drop_database(journal)
