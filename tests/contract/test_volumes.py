"""The port's `Volumes`: the same promises on every host."""

from functools import partial
from uuid import UUID

import pytest

from models.states import ErrorClass
from tasks.host import Volume
from tests.contract.bench import Bench
from tests.contract.devices import disk, file_volume, given, guest, nbd_volume, refused, refused_class, running


@pytest.mark.parametrize("volume_format", ["raw", "qcow2"])
def test_a_file_that_is_there_is_within_reach(bench: Bench, volume_format: str) -> None:
    """Connecting it makes nothing, and so does letting it go."""
    volume = file_volume(bench.volume("a", volume_format), volume_format=volume_format)
    volumes = bench.host.volumes
    assert volumes.connected(volume)
    volumes.connect(volume)
    assert not volumes.held(volume)
    volumes.disconnect(volume)
    volumes.disconnect(volume)


def test_a_missing_file_is_out_of_reach(bench: Bench) -> None:
    """It may come, but cannot be brought."""
    volume = file_volume(f"{bench.volume('there')}.not")
    assert not bench.host.volumes.connected(volume)
    assert refused_class(lambda: bench.host.volumes.connect(volume)) is ErrorClass.PERMANENT
    bench.host.volumes.disconnect(volume)


@pytest.mark.parametrize("kind", ["file", "block"])
def test_a_path_outside_the_roots_is_refused(bench: Bench, kind: str) -> None:
    """There or not."""
    for path in (bench.volume_outside("outside.raw"), "/nowhere/at/all", "relative"):
        volume = Volume("vol-1", kind, {"path": path, "format": "raw"})
        for call in (bench.host.volumes.connected, bench.host.volumes.connect):
            assert refused_class(partial(call, volume)) is ErrorClass.PERMANENT


def test_a_file_of_another_format_is_refused(bench: Bench) -> None:
    """What it is declared to be decides how it is read."""
    volume = file_volume(bench.volume("b", "raw"), volume_format="qcow2")
    assert refused_class(lambda: bench.host.volumes.connected(volume)) is ErrorClass.PERMANENT
    assert refused_class(lambda: bench.host.volumes.connect(volume)) is ErrorClass.PERMANENT


def test_a_file_is_no_block_device(bench: Bench) -> None:
    """The kind says what must be there."""
    volume = Volume("vol-1", "block", {"path": bench.volume("c")})
    assert refused_class(lambda: bench.host.volumes.connected(volume)) is ErrorClass.PERMANENT


def test_an_unknown_kind_is_refused_by_its_name(bench: Bench) -> None:
    """In every call."""
    volume = Volume("vol-1", "tape", {})
    volumes = bench.host.volumes
    for call in (volumes.connected, volumes.connect, volumes.disconnect):
        error = refused(partial(call, volume))
        assert error.error_class is ErrorClass.PERMANENT
        assert "'tape'" in str(error)


def test_a_permitted_server_that_answers_is_within_reach(bench: Bench) -> None:
    """For as long as it does; then one waits."""
    volume = nbd_volume(bench.nbd_server())
    volumes = bench.host.volumes
    assert volumes.connected(volume)
    volumes.connect(volume)
    volumes.disconnect(volume)
    bench.nbd_server_ends()
    for call in (volumes.connected, volumes.connect):
        assert refused_class(partial(call, volume)) is ErrorClass.TRANSIENT


def test_a_server_that_is_not_permitted_is_not_spoken_to(bench: Bench) -> None:
    """Whoever asks for a job must not choose whom the host connects to."""
    volume = nbd_volume({"host": "192.0.2.1", "port": 10809, "export": ""})
    assert refused_class(lambda: bench.host.volumes.connected(volume)) is ErrorClass.PERMANENT


def test_a_volume_is_not_let_go_while_a_definition_has_it(bench: Bench, instance: UUID) -> None:
    """The next start would miss it."""
    volume = disk(bench)
    bench.host.domains.define(guest(instance, volume))
    assert refused_class(lambda: bench.host.volumes.disconnect(volume.volume)) is ErrorClass.TRANSIENT
    bench.host.volumes.disconnect(file_volume(volume.volume.where["path"], "vol-2"))
    bench.host.devices.remove_from_definition(instance, volume)
    bench.host.volumes.disconnect(volume.volume)


def test_a_volume_is_not_let_go_while_a_guest_has_it(bench: Bench, instance: UUID) -> None:
    """Also when the definition has it no longer."""
    volume = disk(bench)
    running(bench, instance, volume)
    bench.host.devices.remove_from_definition(instance, volume)
    assert refused_class(lambda: bench.host.volumes.disconnect(volume.volume)) is ErrorClass.TRANSIENT
    bench.stop(instance)
    bench.host.volumes.disconnect(volume.volume)


def test_a_volume_is_given_to_a_guest_read_only(bench: Bench, instance: UUID) -> None:
    """As the request says."""
    volume = given(Volume("vol-1", "file", {"path": bench.volume("d"), "format": "raw"}, read_only=True))
    running(bench, instance, volume)
    found = bench.host.devices.shown(instance)
    assert found is not None
    assert found.everywhere(volume)
