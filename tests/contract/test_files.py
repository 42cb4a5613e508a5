"""The port's `Disks`, `Images` and `EarlierWork`: the same promises on every host."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from uuid import UUID, uuid4

import pytest

from models.states import ErrorClass
from tasks.host import Disk, FileSystem, Guest, GuestDisk, HostError, Identity, ImageSource
from tests.contract.bench import Bench

MIB = 1024**2
SOON_S = 10.0


def create(bench: Bench, instance: UUID, name: str = "root", size_bytes: int = MIB, epoch: int = 1) -> str:
    """Make an empty disk; its path."""
    path = bench.host.disks.path_for(instance, name, "qcow2")
    bench.host.disks.create(instance, path, size_bytes=size_bytes, backing=None, epoch=epoch)
    return path


def refusal(call: Callable[[], object]) -> HostError:
    """The error that the call raises."""
    with pytest.raises(HostError) as caught:
        call()
    return caught.value


# --- disks


def test_naming_a_path_makes_nothing(bench: Bench, instance: UUID) -> None:
    """The name is fixed before anything is made."""
    path = bench.host.disks.path_for(instance, "root", "qcow2")
    assert path == bench.host.disks.path_for(instance, "root", "qcow2")
    assert str(instance) in path
    assert not bench.host.disks.folder_exists(instance)


def test_paths_differ_by_instance_name_and_format(bench: Bench, instance: UUID) -> None:
    """No two disks share a file."""
    paths = {
        bench.host.disks.path_for(each, name, disk_format)
        for each in (instance, uuid4())
        for name in ("root", "data")
        for disk_format in ("qcow2", "raw")
    }
    assert len(paths) == 8


@pytest.mark.parametrize(
    ("name", "disk_format"),
    [("../root", "qcow2"), ("", "qcow2"), ("a/b", "raw"), ("Root", "raw"), ("root", "vmdk"), ("root\n", "raw")],
)
def test_a_disk_that_cannot_be_named_is_refused(bench: Bench, instance: UUID, name: str, disk_format: str) -> None:
    """A name is never a way out of the folder."""
    assert refusal(lambda: bench.host.disks.path_for(instance, name, disk_format)).error_class is ErrorClass.PERMANENT


def test_a_disk_that_was_not_made_is_absent(bench: Bench, instance: UUID) -> None:
    """With and without a folder."""
    path = bench.host.disks.path_for(instance, "root", "qcow2")
    assert bench.host.disks.find(instance, path) is None
    create(bench, instance, "data")
    assert bench.host.disks.find(instance, path) is None


def test_an_empty_disk_has_the_size_that_was_asked_for(bench: Bench, instance: UUID) -> None:
    """It is read from the disk itself."""
    path = create(bench, instance, size_bytes=3 * MIB)
    assert bench.host.disks.find(instance, path) == Disk(path, "qcow2", 3 * MIB, None)


@pytest.mark.parametrize(("size_bytes", "expected"), [(0, 2 * MIB), (MIB, 2 * MIB), (5 * MIB, 5 * MIB)])
@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_an_overlay_is_at_least_as_large_as_its_image(
    bench: Bench, instance: UUID, image_format: str, size_bytes: int, expected: int
) -> None:
    """It names its image, and never truncates it."""
    image = bench.host.images.inspect(bench.image(f"{instance}.img", image_format, 2 * MIB), image_format)
    path = bench.host.disks.path_for(instance, "root", "qcow2")
    bench.host.disks.create(instance, path, size_bytes=size_bytes, backing=image, epoch=1)
    assert bench.host.disks.find(instance, path) == Disk(path, "qcow2", expected, image.path)


@pytest.mark.parametrize("disk_format", ["qcow2", "raw"])
@pytest.mark.parametrize("preallocate", [False, True])
def test_an_empty_disk_has_the_format_of_its_name(
    bench: Bench, instance: UUID, disk_format: str, *, preallocate: bool
) -> None:
    """And the space for all of it, where that is asked for."""
    path = bench.host.disks.path_for(instance, "data", disk_format)
    bench.host.disks.create(instance, path, size_bytes=3 * MIB, backing=None, epoch=1, preallocate=preallocate)
    assert bench.host.disks.find(instance, path) == Disk(path, disk_format, 3 * MIB, None)
    if disk_format == "raw":
        assert bench.is_allocated(path) is preallocate


def test_a_raw_disk_is_no_overlay(bench: Bench, instance: UUID) -> None:
    """It has no place for its image's name."""
    image = bench.host.images.inspect(bench.image(f"{instance}.img", "raw", MIB), "raw")
    path = bench.host.disks.path_for(instance, "root", "raw")
    error = refusal(lambda: bench.host.disks.create(instance, path, size_bytes=MIB, backing=image, epoch=1))
    assert error.error_class is ErrorClass.PERMANENT
    assert not bench.host.disks.folder_exists(instance)


@pytest.mark.parametrize(("size_bytes", "expected"), [(0, 2 * MIB), (5 * MIB, 5 * MIB)])
@pytest.mark.parametrize("disk_format", ["qcow2", "raw"])
@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_a_copy_needs_no_other_file_and_is_as_large_as_asked(
    bench: Bench, instance: UUID, image_format: str, disk_format: str, size_bytes: int, expected: int
) -> None:
    """From each format to each."""
    image = bench.host.images.inspect(bench.image(f"{instance}.img", image_format, 2 * MIB), image_format)
    path = bench.host.disks.path_for(instance, "root", disk_format)
    bench.host.disks.copy(instance, path, image=image, size_bytes=size_bytes, epoch=1)
    assert bench.host.disks.find(instance, path) == Disk(path, disk_format, expected, None)
    error = refusal(lambda: bench.host.disks.copy(instance, path, image=image, size_bytes=0, epoch=2))
    assert error.error_class is ErrorClass.CONFLICT


@pytest.mark.parametrize("kind", ["ext3", "ext4", "vfat", "swap"])
@pytest.mark.parametrize("preallocate", [False, True])
def test_a_formatted_disk_has_its_label(bench: Bench, instance: UUID, kind: str, *, preallocate: bool) -> None:
    """FAT's in capitals; formatting gives nothing back of what was to be allocated."""
    disks = bench.host.disks
    path = disks.path_for(instance, f"data-{kind}", "raw")
    file_system = FileSystem(kind, "ephemeral0")
    disks.format(instance, path, size_bytes=8 * MIB, file_system=file_system, epoch=1, preallocate=preallocate)
    assert disks.find(instance, path) == Disk(path, "raw", 8 * MIB, None)
    assert bench.label_of(path) == ("EPHEMERAL0" if kind == "vfat" else "ephemeral0")
    assert bench.is_allocated(path) is preallocate


@pytest.mark.parametrize(("kind", "disk_format"), [("zfs", "raw"), ("ext4", "qcow2")])
def test_what_cannot_be_formatted_is_refused(bench: Bench, instance: UUID, kind: str, disk_format: str) -> None:
    """Nothing is left of it."""
    path = bench.host.disks.path_for(instance, "data", disk_format)
    file_system = FileSystem(kind, "data")
    error = refusal(lambda: bench.host.disks.format(instance, path, size_bytes=MIB, file_system=file_system, epoch=1))
    assert error.error_class is ErrorClass.PERMANENT
    bench.host.disks.remove(instance, path)
    assert not bench.host.disks.folder_exists(instance)


def test_a_disk_that_is_there_is_never_written(bench: Bench, instance: UUID) -> None:
    """Creating it again is a conflict, in any epoch."""
    path = create(bench, instance, size_bytes=MIB)
    error = refusal(lambda: create(bench, instance, size_bytes=2 * MIB, epoch=2))
    assert error.error_class is ErrorClass.CONFLICT
    found = bench.host.disks.find(instance, path)
    assert found is not None
    assert found.virtual_size_bytes == MIB


def test_a_disk_of_no_size_is_refused(bench: Bench, instance: UUID) -> None:
    """Nothing is made of it."""
    assert refusal(lambda: create(bench, instance, size_bytes=0)).error_class is ErrorClass.PERMANENT
    assert not bench.host.disks.folder_exists(instance)


def test_only_paths_of_the_instance_are_served(bench: Bench, instance: UUID) -> None:
    """Another's disk, a path out of the folder, a file that is no disk."""
    disks, mine = bench.host.disks, create(bench, instance)
    folder = mine.rpartition("/")[0]
    for path in (
        disks.path_for(uuid4(), "root", "qcow2"),
        f"{folder}/../x/root.qcow2",
        f"{folder}/console.log",
        f"{folder}/root.qcow2.1.part",
        "root.qcow2",
        "",
    ):
        for call in (
            partial(disks.find, instance, path),
            partial(disks.remove, instance, path),
            partial(disks.create, instance, path, size_bytes=MIB, backing=None, epoch=1),
        ):
            assert refusal(call).error_class is ErrorClass.PERMANENT
    assert disks.find(instance, mine) is not None


def test_a_removed_disk_is_absent_and_others_stay(bench: Bench, instance: UUID) -> None:
    """One disk is one file."""
    root, data = create(bench, instance, "root"), create(bench, instance, "data")
    bench.host.disks.remove(instance, root)
    assert bench.host.disks.find(instance, root) is None
    assert bench.host.disks.find(instance, data) is not None


def test_removing_the_last_disk_leaves_nothing(bench: Bench, instance: UUID) -> None:
    """What making it made goes with it."""
    bench.host.disks.remove(instance, create(bench, instance))
    assert not bench.host.disks.folder_exists(instance)


def test_removing_an_absent_disk_is_no_error(bench: Bench, instance: UUID) -> None:
    """With and without a folder."""
    path = bench.host.disks.path_for(instance, "root", "qcow2")
    bench.host.disks.remove(instance, path)
    create(bench, instance, "data")
    bench.host.disks.remove(instance, path)


def test_a_removed_folder_takes_everything(bench: Bench, instance: UUID) -> None:
    """Disks, console log, and whatever else."""
    root = create(bench, instance)
    bench.host.domains.define(Guest(Identity(instance, "job-1"), "guest", memory_mib=32, vcpus=1))
    assert bench.host.disks.folder_exists(instance)
    bench.host.disks.remove_folder(instance)
    assert not bench.host.disks.folder_exists(instance)
    assert bench.host.disks.find(instance, root) is None
    bench.host.domains.undefine(instance)


def test_ending_children_where_none_are_at_work_is_no_error(bench: Bench, instance: UUID) -> None:
    """There may be no folder either."""
    bench.host.disks.end_children(instance)
    path = bench.host.disks.path_for(instance, "root", "qcow2")
    bench.host.disks.create(instance, path, size_bytes=1024**2, backing=None, epoch=1)
    bench.host.disks.end_children(instance)
    assert bench.host.disks.find(instance, path) is not None


def test_removing_an_absent_folder_is_no_error(bench: Bench, instance: UUID) -> None:
    """A replay removes what is gone."""
    bench.host.disks.remove_folder(instance)
    assert not bench.host.disks.folder_exists(instance)


def test_a_disk_can_be_made_again_after_it_was_removed(bench: Bench, instance: UUID) -> None:
    """An undone job leaves nothing that a later one trips over."""
    path = create(bench, instance)
    bench.host.disks.remove_folder(instance)
    assert create(bench, instance, epoch=2) == path
    assert bench.host.disks.find(instance, path) is not None


def test_a_cache_mode_is_one_that_qemu_takes_here(bench: Bench) -> None:
    """Past the host's cache, or with it."""
    assert bench.host.disks.cache_mode() in {"none", "writeback"}


def test_a_guest_has_disks_on_each_bus(bench: Bench, instance: UUID) -> None:
    """In both formats, opened as the host can."""
    host, disks = bench.host, []
    targets = {"virtio": "vda", "scsi": "sda", "sata": "sdb", "usb": "sdc", "ide": "hda"}
    for number, (bus, target) in enumerate(targets.items()):
        disk_format = "raw" if number % 2 else "qcow2"
        path = host.disks.path_for(instance, bus, disk_format)
        host.disks.create(instance, path, size_bytes=MIB, backing=None, epoch=1)
        disks.append(GuestDisk(path, disk_format, target, f"ua-_{bus}", f"disk.{bus}", bus, host.disks.cache_mode()))
    guest = Guest(Identity(instance, "job-1"), "guest", memory_mib=32, vcpus=1, disks=tuple(disks))
    host.domains.define(replace(guest, platform=host.domains.platform("pc")))
    host.domains.start(instance)
    host.domains.wait_running(instance, SOON_S)
    shown = host.devices.shown(instance)
    assert shown is not None
    assert {each.target for each in shown.live or ()} == set(targets.values())
    host.domains.kill(instance)
    host.domains.undefine(instance)
    host.disks.remove_folder(instance)


# --- images


@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_an_image_is_described_as_it_is(bench: Bench, instance: UUID, image_format: str) -> None:
    """Path, format and size, as inspected."""
    path = bench.image(f"{instance}.img", image_format, 2 * MIB)
    image = bench.host.images.inspect(path, image_format)
    assert (image.path, image.format, image.virtual_size_bytes) == (path, image_format, 2 * MIB)


@pytest.mark.parametrize(("real", "declared"), [("qcow2", "raw"), ("raw", "qcow2"), ("qcow2", "vmdk")])
def test_an_image_of_another_format_is_refused(bench: Bench, instance: UUID, real: str, declared: str) -> None:
    """A guest could have written any header into a raw disk."""
    path = bench.image(f"{instance}.img", real, MIB)
    error = refusal(lambda: bench.host.images.inspect(path, declared))
    assert error.error_class is ErrorClass.PERMANENT
    assert path in str(error)


def test_an_image_that_refers_to_another_file_is_refused(bench: Bench, instance: UUID) -> None:
    """It could show the guest any file of the host."""
    for path in (bench.image_with_backing(f"{instance}.a"), bench.image_with_data_file(f"{instance}.b")):
        error = refusal(partial(bench.host.images.inspect, path, "qcow2"))
        assert error.error_class is ErrorClass.PERMANENT
        assert path in str(error)


def test_a_missing_image_is_refused(bench: Bench, instance: UUID) -> None:
    """Inspected or only required."""
    path = bench.image(f"{instance}.img", "raw", MIB) + ".missing"
    for call in (lambda: bench.host.images.inspect(path, "raw"), lambda: bench.host.images.require_file(path)):
        error = refusal(call)
        assert error.error_class is ErrorClass.PERMANENT
        assert path in str(error)


def test_a_file_outside_the_image_roots_is_refused(bench: Bench, instance: UUID) -> None:
    """Inspected or only required."""
    path = bench.image_outside(f"{instance}.img")
    for call in (lambda: bench.host.images.inspect(path, "raw"), lambda: bench.host.images.require_file(path)):
        error = refusal(call)
        assert error.error_class is ErrorClass.PERMANENT
        assert path in str(error)


def test_a_required_file_may_be_of_any_format(bench: Bench, instance: UUID) -> None:
    """A kernel is no image."""
    bench.host.images.require_file(bench.image(f"{instance}.img", "raw", MIB))


# --- images that are fetched


def source_of(path: str, image_format: str = "raw", sha256: str | None = None) -> ImageSource:
    """A file of the host, to be fetched."""
    return ImageSource(f"file://{path}", image_format, sha256)


def go_on(_done: int, _total: int) -> bool:
    """A watch that never ends a fetch."""
    return True


def test_a_fetched_image_is_in_the_cache_as_it_is(bench: Bench, instance: UUID) -> None:
    """Not before; and a second fetch finds it there."""
    images = bench.host.images
    path = bench.image(f"{instance}.img", "qcow2", 2 * MIB)
    source = source_of(path, "qcow2")
    key = images.identify(source)
    assert images.cached(key, "qcow2") is None
    for _ in range(2):
        images.fetch(source, key, go_on)
        found = images.cached(key, "qcow2")
        assert found is not None
        assert (found.format, found.virtual_size_bytes) == ("qcow2", 2 * MIB)
        assert found.path != path
    assert images.identify(source) == key


def test_a_disk_is_made_from_a_fetched_image(bench: Bench, instance: UUID) -> None:
    """As from any other."""
    images, disks = bench.host.images, bench.host.disks
    source = source_of(bench.image(f"{instance}.img", "raw", 2 * MIB))
    key = images.identify(source)
    images.fetch(source, key, go_on)
    image = images.cached(key, "raw")
    assert image is not None
    path = disks.path_for(instance, "root", "qcow2")
    disks.create(instance, path, size_bytes=0, backing=image, epoch=1)
    assert disks.find(instance, path) == Disk(path, "qcow2", 2 * MIB, image.path)


def test_an_image_with_another_checksum_is_not_taken(bench: Bench, instance: UUID) -> None:
    """For good, and the cache does not have it."""
    images = bench.host.images
    source = source_of(bench.image(f"{instance}.img", "raw", MIB), sha256="0" * 63 + "1")
    key = images.identify(source)
    assert refusal(lambda: images.fetch(source, key, go_on)).error_class is ErrorClass.PERMANENT
    assert images.cached(key, "raw") is None


def test_an_image_that_is_not_fit_is_not_taken(bench: Bench, instance: UUID) -> None:
    """Of another format, or referring to another file."""
    images = bench.host.images
    for source in (
        source_of(bench.image(f"{instance}.a", "qcow2", MIB), "raw"),
        source_of(bench.image_with_backing(f"{instance}.b"), "qcow2"),
    ):
        key = images.identify(source)
        assert refusal(partial(images.fetch, source, key, go_on)).error_class is ErrorClass.PERMANENT
        assert images.cached(key, source.format) is None


def test_an_image_is_not_fetched_from_outside_the_roots(bench: Bench, instance: UUID) -> None:
    """With and without a checksum."""
    path = bench.image_outside(f"{instance}.img")
    for sha256 in (None, "0" * 64):
        error = refusal(partial(bench.host.images.identify, source_of(path, sha256=sha256)))
        assert error.error_class is ErrorClass.PERMANENT
        assert path in str(error)


# --- earlier work, and everything together


def test_nothing_is_going_on_where_nobody_works(bench: Bench, instance: UUID) -> None:
    """Nobody is waited for."""
    assert bench.host.earlier_work.going_on(instance, "job-1") == ()
    bench.host.earlier_work.wait_ended(instance, "job-1", SOON_S)


def test_a_guest_made_and_removed_leaves_nothing(bench: Bench, instance: UUID) -> None:
    """The calls of a spawn and of a destroy, in their order."""
    host = bench.host
    image = host.images.inspect(bench.image(f"{instance}.img", "qcow2", MIB), "qcow2")
    path = host.disks.path_for(instance, "root", "qcow2")
    host.disks.create(instance, path, size_bytes=0, backing=image, epoch=1)
    disk = GuestDisk(path, "qcow2", "vda", "ua-root", "root")
    host.domains.define(Guest(Identity(instance, "job-1"), "guest", memory_mib=32, vcpus=1, disks=(disk,)))
    host.domains.start(instance)
    host.domains.wait_running(instance, SOON_S)
    host.domains.kill(instance)
    host.domains.undefine(instance)
    host.disks.remove_folder(instance)
    assert host.domains.find(instance) is None
    assert not host.disks.folder_exists(instance)
