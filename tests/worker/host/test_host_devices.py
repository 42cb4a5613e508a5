"""Devices where libvirt's answers do not match what happened: races that a real host shows once in a hundred."""

from uuid import uuid4

import pytest

from models.states import ErrorClass
from tests.worker.host.device_scene import CONFIG, DISK_XML, LIVE, NIC, OTHER_XML, VOLUME, Scene, raising, refusal
from tests.worker.host.doubles import DeviceDomainDouble
from worker.host.devices import ATTACH_ROUNDS


@pytest.fixture
def scene() -> Scene:
    """A running guest without devices."""
    return Scene()


def test_a_guest_that_stops_before_it_is_given_the_device_is_given_it_for_its_next_start(scene: Scene) -> None:
    """The flags are chosen again."""
    scene.on("attach", raising("OPERATION_INVALID", scene.stops, domain="DOMAIN"), lambda: None)
    scene.devices.attach(scene.instance, VOLUME)
    assert scene.domain.flags == [LIVE | CONFIG, CONFIG]
    assert (len(scene.domain.live), len(scene.domain.persistent)) == (0, 1)


def test_a_guest_that_starts_and_stops_all_the_time_is_not_followed_for_ever(scene: Scene) -> None:
    """The rounds are bounded, and the job waits."""
    stop = raising("OPERATION_INVALID", scene.stops)
    scene.on("attach", stop, raising("OPERATION_INVALID", scene.starts), stop)
    error = refusal(lambda: scene.devices.attach(scene.instance, VOLUME))
    assert error.error_class is ErrorClass.TRANSIENT
    assert len(scene.domain.flags) == ATTACH_ROUNDS


@pytest.mark.parametrize(
    ("code", "domain", "expected"),
    [
        ("OPERATION_INVALID", "QEMU", ErrorClass.TRANSIENT),
        ("INTERNAL_ERROR", "DOMAIN", ErrorClass.PERMANENT),
        ("OPERATION_TIMEOUT", "QEMU", ErrorClass.TRANSIENT),
        ("SYSTEM_ERROR", "STORAGE", ErrorClass.UNKNOWN),
    ],
)
def test_a_failed_attach_is_looked_behind_and_not_repeated(
    scene: Scene, code: str, domain: str, expected: ErrorClass
) -> None:
    """Nothing has changed, so the error is the answer."""
    scene.on("attach", raising(code, domain=domain))
    error = refusal(lambda: scene.devices.attach(scene.instance, VOLUME))
    assert (error.error_class, error.record.code) == (expected, code)
    assert len(scene.domain.flags) == 1


def test_an_attach_whose_answer_was_an_error_although_it_was_done_is_done(scene: Scene) -> None:
    """Somebody was faster, or the answer was wrong."""

    def done() -> None:
        scene.domain.live, scene.domain.persistent = [DISK_XML], [DISK_XML]

    scene.on("attach", raising("XML_ERROR", done, domain="DOMAIN"))
    scene.devices.attach(scene.instance, VOLUME)
    assert len(scene.domain.flags) == 1


def test_a_target_that_is_taken_meanwhile_is_a_conflict(scene: Scene) -> None:
    """Libvirt's code is of no use; the look behind it is."""

    def taken() -> None:
        scene.domain.live = [OTHER_XML.replace("vdc", "vdb")]

    scene.on("attach", raising("OPERATION_INVALID", taken))
    assert refusal(lambda: scene.devices.attach(scene.instance, VOLUME)).error_class is ErrorClass.CONFLICT


def test_an_attach_whose_answer_is_lost_is_for_the_caller_to_look_behind(scene: Scene) -> None:
    """It may still be under way."""
    scene.on("attach", raising("INTERNAL_ERROR", domain="RPC"))
    assert refusal(lambda: scene.devices.attach(scene.instance, VOLUME)).error_class is ErrorClass.UNKNOWN
    assert scene.domain.called.count("XMLDesc") == 2


def test_a_domain_without_a_definition_is_given_the_device_for_this_run(scene: Scene) -> None:
    """There is no more to give it to."""
    scene.domain.defined = False
    scene.devices.attach(scene.instance, NIC)
    assert scene.domain.flags == [LIVE]
    found = scene.devices.shown(scene.instance)
    assert found is not None
    assert (found.persistent, found.everywhere(NIC)) == (None, True)


def test_a_domain_that_vanishes_is_no_domain(scene: Scene) -> None:
    """Between two questions."""
    scene.on("XMLDesc", raising("NO_DOMAIN"))
    assert scene.devices.shown(scene.instance) is None
    assert refusal(lambda: scene.devices.attach(scene.instance, VOLUME)).error_class is ErrorClass.PERMANENT


# --- the definition


@pytest.mark.parametrize("code", ["DEVICE_MISSING", "NO_DOMAIN", "OPERATION_INVALID"])
def test_a_device_that_is_gone_from_the_definition_meanwhile_is_gone(scene: Scene, code: str) -> None:
    """Whoever took it."""
    scene.domain.persistent = [DISK_XML]
    scene.on("detach", raising(code, scene.domain.persistent.clear))
    scene.devices.remove_from_definition(scene.instance, VOLUME)
    assert scene.domain.flags == [CONFIG]


def test_a_device_that_stays_in_the_definition_is_an_error(scene: Scene) -> None:
    """A look says so, and libvirt's reason is told."""
    scene.domain.persistent = [DISK_XML]
    scene.on("detach", raising("DEVICE_MISSING"))
    error = refusal(lambda: scene.devices.remove_from_definition(scene.instance, VOLUME))
    assert error.record.code == "DEVICE_MISSING"
    assert scene.domain.flags == [CONFIG]


# --- letting a volume go


def test_a_domain_that_vanishes_while_it_is_looked_through_has_no_volume(scene: Scene) -> None:
    """The list was older than the look."""
    other = DeviceDomainDouble(uuid4())
    other.verbs["XMLDesc"] = raising("NO_DOMAIN")
    scene.connections.listed = [other, scene.domain]
    scene.volumes.disconnect(VOLUME.volume)
    scene.domain.persistent = [DISK_XML]
    error = refusal(lambda: scene.volumes.disconnect(VOLUME.volume))
    assert error.error_class is ErrorClass.TRANSIENT
    assert str(scene.instance) in str(error)


def test_a_volume_is_not_mistaken_for_one_with_a_longer_name(scene: Scene) -> None:
    """Its alias and its serial decide, not a part of them."""
    scene.domain.persistent = [DISK_XML.replace("vol-1", "vol-11")]
    scene.volumes.disconnect(VOLUME.volume)


def test_a_libvirt_that_does_not_answer_lets_no_volume_go(scene: Scene) -> None:
    """Silence is no proof that nobody has it."""
    scene.on("XMLDesc", raising("OPERATION_TIMEOUT"))
    assert refusal(lambda: scene.volumes.disconnect(VOLUME.volume)).error_class is ErrorClass.TRANSIENT
