"""The hosts' network is real, can be broken, and is nobody else's."""

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.lab.host_pair import FIRST, SECOND
from tests.lab.namespaces import call, network_namespaces, remove_leftovers
from tests.lab.network import Network
from tests.lab.places import CHECKOUT
from tests.lab.waiting import eventually

pytestmark = pytest.mark.real

#: Makes a namespace, says its name, and waits to be killed.
KILLED_SESSION = """
import sys
from tests.lab.namespaces import network_namespaces
with network_namespaces("leftover") as [name]:
    sys.stdout.write(name + "\\n"); sys.stdout.flush()
    sys.stdin.read()
"""


@pytest.fixture
def whole_network(network: Network) -> Iterator[Network]:
    """The shared network, whose links the test may leave broken."""
    eventually(lambda: network.reaches(FIRST, network.address(SECOND)), "the hosts reach each other")
    yield network
    network.heal(SECOND)


def uplink(network: Network) -> str:
    """How the second host sees its link."""
    return call("ip", "-n", network.namespace(SECOND), "link", "show", "dev", "uplink")


@pytest.mark.parametrize(("broken", "carrier"), [(Network.cut, False), (Network.drop, True)])
def test_a_broken_link_parts_one_host_and_is_healed(
    whole_network: Network, broken: Callable[[Network, str], None], *, carrier: bool
) -> None:
    """The others stay together; the host itself sees only a cut."""
    broken(whole_network, SECOND)

    assert not whole_network.reaches(FIRST, whole_network.address(SECOND))
    assert not whole_network.reaches(SECOND, whole_network.switch_address)
    assert whole_network.reaches(FIRST, whole_network.switch_address)
    eventually(lambda: ("NO-CARRIER" in uplink(whole_network)) is not carrier, "the host sees its link")

    whole_network.heal(SECOND)
    eventually(lambda: whole_network.reaches(SECOND, whole_network.address(FIRST)), "the hosts are together again")


def test_the_machines_own_network_is_not_touched() -> None:
    """Neither its links nor its addresses, while the lab's exist and afterwards."""

    def own() -> list[str]:
        return [
            call("ip", "-json", "link"),
            call("ip", "-brief", "address"),
            call("ip", "route", "show", "table", "all"),
        ]

    before = own()
    with Network("a", "b") as network:
        assert own() == before
        assert network.namespace("a") in call("ip", "netns", "list")
    assert own() == before
    assert network.namespace("a") not in call("ip", "netns", "list")


def test_what_a_killed_session_left_is_removed_and_a_living_ones_is_not() -> None:
    """By whoever starts next."""
    with (
        network_namespaces("kept") as [kept],
        subprocess.Popen(
            [sys.executable, "-c", KILLED_SESSION], cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as session,
    ):
        assert session.stdout is not None
        leftover = session.stdout.readline().decode().strip()
        remove_leftovers()
        assert leftover in call("ip", "netns", "list")
        session.kill()
        session.wait(10.0)
        remove_leftovers()
        assert leftover not in call("ip", "netns", "list")
        assert kept in call("ip", "netns", "list")
