"""A whole lab, started and ended: a host with a guest, a network, a Redis and a PostgreSQL that are used."""

import sys
from uuid import uuid4

import libvirt

from tests.lab.hosts import LibvirtHost
from tests.lab.network import Network
from tests.lab.postgres import PostgresServer
from tests.lab.redis import RedisServer

GUEST = """
<domain type='qemu'><name>{0}</name><uuid>{0}</uuid><memory unit='MiB'>40</memory><os><type>hvm</type></os></domain>
"""


def main() -> None:
    """Use each part of the lab once."""
    with LibvirtHost() as host, RedisServer() as redis, PostgresServer(durable=False) as postgres:
        connection = libvirt.open(host.uri)
        try:
            guest = connection.createXML(GUEST.format(uuid4()))
            assert [domain.UUIDString() for domain in connection.listAllDomains()] == [guest.UUIDString()]
        finally:
            connection.close()
        redis.flush()
        postgres.create_database()
        with Network("lab-1", "lab-2") as network:
            assert network.reaches("lab-1", network.address("lab-2"))
    sys.stdout.write("the lab was there\n")


if __name__ == "__main__":
    main()
