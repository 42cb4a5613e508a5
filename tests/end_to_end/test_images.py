"""An image that is fetched, by a real worker and for real guests."""

from pathlib import Path
from uuid import UUID

import pytest

from tests.end_to_end.fetched import base_of, bases, destroyed, pruned, tiny
from tests.lab.authority import Authority
from tests.lab.image_server import ImageServer
from tests.lab.site import Site
from tests.worker.host.hostile_images import as_stream, written
from tests.worker.host.image_scene import MIB

pytestmark = pytest.mark.real


def test_a_guest_is_spawned_from_what_a_server_has(instance: UUID, tmp_path: Path) -> None:
    """A disk as it is exported, by https from a server that the host trusts; the base is kept while a disk needs it."""
    exported = written(tmp_path / "exported", "vmdk", "-o", "subformat=streamOptimized", size=4 * MIB)
    authority = Authority(tmp_path)
    with ImageServer(certificate=authority.certify("127.0.0.1", "IP")) as server:
        server.files["/images/a.vmdk"] = as_stream(exported).read_bytes()
        settings, trust = {"IMAGE_URLS": f"{server.url}/images/"}, {"SSL_CERT_FILE": str(authority.certificate)}
        with Site(settings=settings, surroundings=trust) as site:
            site.start_worker()
            wanted = tiny(url=f"{server.url}/images/a.vmdk", format="vmdk")
            job = site.settled(site.accept("spawn", instance, wanted))
            assert job["state"] == "succeeded", job
            assert {step["name"]: step["state"] for step in job["steps"]}["ImagesCached"] == "done"
            assert len(site.qemu_pids(instance)) == 1

            [base] = bases(site)
            assert (server.gets, base_of(site, instance)) == (1, base)
            assert pruned(site) == []

            destroyed(site, [instance])
            assert bases(site) == [base]
            assert pruned(site) == [base]
            assert bases(site) == []
