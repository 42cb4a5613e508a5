"""One image that many guests wait for, and a worker that is killed while it fetches it."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.end_to_end.fetched import WITHIN_S, base_of, bases, destroyed, pruned, tiny
from tests.lab.image_server import ImageServer
from tests.lab.site import Site
from tests.lab.waiting import eventually
from tests.worker.host.hostile_images import written
from tests.worker.host.image_scene import MIB, sha256

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

SPAWNS = 30


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ImageServer]:
    """A server with the image."""
    with ImageServer() as server:
        server.files["/images/a"] = written(tmp_path / "image", "qcow2", size=8 * MIB).read_bytes()
        yield server


@pytest.fixture
def site(server: ImageServer) -> Iterator[Site]:
    """A host that does as much at once."""
    settings = {"IMAGE_URLS": f"{server.url}/images/", "SPAWN_LIMIT": str(SPAWNS), "THREADS": "100"}
    with Site(settings=settings) as site:
        yield site


@pytest.mark.beyond_slice
def test_thirty_guests_of_one_image_are_spawned_at_once(site: Site, server: ImageServer) -> None:
    """One download, whose broken-off half is gone on with; one base, kept until the last of thirty overlays is gone."""
    site.start_worker()
    wanted = tiny(url=f"{server.url}/images/a", sha256=sha256(server.files["/images/a"]))
    instances = [uuid4() for _ in range(SPAWNS)]
    jobs: list[str] = []

    def all_wait() -> bool:
        return len(jobs) == SPAWNS and all(site.state_of(job) == "running" for job in jobs)

    def killed_half_way() -> None:
        eventually(all_wait, "all wait for the one download", WITHIN_S)
        eventually(lambda: half(site) > MIB, "half of it has come", WITHIN_S)
        site.kill_worker()

    server.meanwhile = killed_half_way
    jobs += [site.accept("spawn", instance, wanted) for instance in instances]
    eventually(lambda: not site.worker.alive, "the worker is killed", WITHIN_S)
    site.start_worker()
    for job in jobs:
        settled = site.settled(job, WITHIN_S)
        assert settled["state"] == "succeeded", settled

    first, second = (span for method, _, span in server.asked if method == "GET")
    assert first is None
    assert second is not None
    assert second != "bytes=0-"
    [base] = bases(site)
    assert {base_of(site, instance) for instance in instances} == {base}
    assert pruned(site) == []
    *others, last = instances
    destroyed(site, others)
    assert pruned(site) == []
    destroyed(site, [last])
    assert pruned(site) == [base]
    assert bases(site) == []


def half(site: Site) -> int:
    """How much of the image has come, in bytes."""
    return sum(Path(path).stat().st_size for path in bases(site) if path.endswith(".part"))
