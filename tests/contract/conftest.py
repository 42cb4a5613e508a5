"""The hosts that the contract is tried on: the fake, the embedded driver, and a libvirtd."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID, uuid4

import libvirt
import pytest

from tests.contract.backdoor import Backdoor
from tests.contract.bench import Bench, FakeBench, HostRooms, RealBench
from tests.contract.embedded_host import embedded_host
from tests.lab.hosts import LibvirtHost
from tests.lab.places import scratch_folder
from worker.hands import Hands
from worker.host.event_loop import start_event_loop
from worker.host.hypervisor import Hypervisor


@pytest.fixture
def fake_bench() -> FakeBench:
    """A new fake host."""
    return FakeBench()


@pytest.fixture(scope="session")
def embedded_bench() -> Iterator[RealBench]:
    """The embedded driver in a process of its own."""
    with scratch_folder("embed") as folder:
        images, elsewhere = _folders(folder)
        with embedded_host(folder, images) as (host, backdoor):
            yield RealBench(host, backdoor, images, elsewhere)


@pytest.fixture(scope="session")
def libvirtd_bench(libvirt_host: LibvirtHost) -> Iterator[RealBench]:
    """A libvirtd, spoken to from this process."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder("state"))
        images, elsewhere = _folders(folder)
        state = str(folder / "state")
        host = Hypervisor(uri=libvirt_host.uri, state_folder=state, image_roots=(str(images),), virt_type="qemu")
        stack.callback(host.close)
        start_event_loop()
        backdoor = Backdoor(libvirt.open(libvirt_host.uri))
        stack.callback(backdoor.clear)
        rooms = HostRooms(host.domains, host.images, host.disks, Hands({}))
        yield RealBench(rooms, backdoor, images, elsewhere)


@pytest.fixture(
    params=[
        "fake",
        pytest.param("embedded", marks=pytest.mark.real),
        pytest.param("libvirtd", marks=pytest.mark.real),
    ]
)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A host under test, with what is around it; the next test meets none of this one's domains."""
    bench: Bench = request.getfixturevalue(f"{request.param}_bench")
    yield bench
    bench.clear()


@pytest.fixture
def instance() -> UUID:
    """An instance that no other test knows."""
    return uuid4()


def _folders(folder: Path) -> tuple[Path, Path]:
    images, elsewhere = folder / "images", folder / "elsewhere"
    images.mkdir()
    elsewhere.mkdir()
    return images, elsewhere
