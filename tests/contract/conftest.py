"""The hosts that the contract is tried on: the fake, the embedded driver, and a libvirtd."""

from collections.abc import Iterator
from contextlib import ExitStack
from uuid import UUID, uuid4

import libvirt
import pytest

from tests.contract.backdoor import Backdoor
from tests.contract.bench import Bench, FakeBench
from tests.contract.embedded_host import embedded_host
from tests.contract.real_bench import HostRooms, Places, RealBench
from tests.lab.hosts import LibvirtHost
from tests.lab.namespaces import configure, network_namespaces
from tests.lab.network import GUESTS_BRIDGE
from tests.lab.places import scratch_folder
from worker.hands import Hands
from worker.host.event_loop import start_event_loop


@pytest.fixture
def fake_bench() -> FakeBench:
    """A new fake host."""
    return FakeBench()


@pytest.fixture(scope="session")
def embedded_bench() -> Iterator[RealBench]:
    """The embedded driver in a process and a network of its own, with a bridge."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder("embed"))
        (network,) = stack.enter_context(network_namespaces("embed"))
        configure(network, f"link add {GUESTS_BRIDGE} type bridge", f"link set {GUESTS_BRIDGE} up")
        places = Places.below(folder)
        host, backdoor = stack.enter_context(embedded_host(folder, network))
        yield RealBench(host, backdoor, places, network)


@pytest.fixture(scope="session")
def libvirtd_bench(libvirt_host: LibvirtHost) -> Iterator[RealBench]:
    """A libvirtd, spoken to from this process."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder("state"))
        places = Places.below(folder)
        host = places.hypervisor(libvirt_host.uri)
        stack.callback(host.close)
        start_event_loop()
        backdoor = Backdoor(libvirt.open(libvirt_host.uri))
        stack.callback(backdoor.clear)
        rooms = HostRooms(
            domains=host.domains,
            devices=host.devices,
            power=host.power,
            images=host.images,
            disks=host.disks,
            config_drives=host.config_drives,
            volumes=host.volumes,
            interfaces=host.interfaces,
            migrations=host.migrations,
            earlier_work=Hands({}),
        )
        yield RealBench(rooms, backdoor, places)


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


@pytest.fixture(params=["fake", pytest.param("embedded", marks=pytest.mark.real)])
def bridged_bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """One of those that have a bridge, `GUESTS_BRIDGE`: a network of their own, where nothing of the machine's is."""
    bench: Bench = request.getfixturevalue(f"{request.param}_bench")
    yield bench
    bench.clear()


@pytest.fixture
def instance() -> UUID:
    """An instance that no other test knows."""
    return uuid4()
