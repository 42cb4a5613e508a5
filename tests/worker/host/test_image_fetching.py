"""Images that are fetched: from files and by HTTP, once, whole, within their limits, and from nowhere else."""

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest

from models.states import ErrorClass
from tasks.host import HostError, ImageSource
from tests.lab.image_server import ImageServer
from tests.worker.host.image_scene import MIB, Scene, go_on, qcow2, sha256
from worker.host.images.cache import PART

CONTENT = b"\0" * 512 + os.urandom(3 * MIB)


@pytest.fixture
def server() -> Iterator[ImageServer]:
    """A server with one raw image."""
    with ImageServer() as server:
        server.files["/images/a"] = CONTENT
        yield server


@pytest.fixture
def scene(tmp_path: Path, server: ImageServer) -> Scene:
    """A host that may fetch from what is below /images/ there."""
    return Scene(tmp_path, urls=(f"{server.url}/images/",))


def wanted(server: ImageServer, name: str = "a", checksum: str = sha256(CONTENT)) -> ImageSource:
    """The server's image, with its checksum."""
    return ImageSource(f"{server.url}/images/{name}", "raw", checksum)


def test_an_image_is_fetched_once_and_never_written_again(scene: Scene, server: ImageServer) -> None:
    """The second time it is there; whoever runs QEMU reads it, and nobody writes."""
    image = scene.fetch(wanted(server))
    assert scene.fetch(wanted(server)) == image
    assert Path(image.path).read_bytes() == CONTENT
    assert Path(image.path).stat().st_mode & 0o777 == 0o444
    assert Path(image.path).parent.stat().st_mode & 0o777 == 0o711
    assert scene.cached == [f"sha256-{sha256(CONTENT)}"]
    assert server.gets == 1


def test_a_file_is_fetched_like_any_other(scene: Scene) -> None:
    """And again once it has changed."""
    source = scene.file("a", CONTENT)
    first = scene.fetch(source)
    assert scene.fetch(source) == first
    changed = scene.fetch(scene.file("a", CONTENT[:MIB]))
    assert (Path(first.path).read_bytes(), Path(changed.path).read_bytes()) == (CONTENT, CONTENT[:MIB])


def test_thirty_jobs_want_one_image_at_once(scene: Scene, server: ImageServer) -> None:
    """One download, one base, thirty overlays; the base stays until the last of them is gone."""
    together = Barrier(30)
    told: list[int] = []

    def spawn(_number: int) -> str:
        together.wait(10)
        source = wanted(server)
        key = scene.images.identify(source)
        scene.images.fetch(source, key, lambda _done, total: told.append(total) or True)  # type: ignore[func-returns-value]
        image = scene.images.cached(key, "raw")
        assert image is not None
        return str(scene.overlay(image))

    with ThreadPoolExecutor(30) as pool:
        instances = list(pool.map(spawn, range(30)))

    assert server.gets == 1
    assert len(scene.cached) == 1
    assert len(told) >= 30
    [entry] = scene.images.cache.entries()
    assert sorted(entry.held_by) == sorted(instances)
    for path in Path(scene.folders.all).iterdir():
        assert scene.images.cache.prune().images == ()
        shutil.rmtree(path)
    assert [gone.key for gone in scene.images.cache.prune().images] == [entry.key]
    assert scene.cached == []


def test_a_broken_download_goes_on_where_it_was(scene: Scene, server: ImageServer) -> None:
    """No byte is asked for twice."""
    server.breaks_after = MIB
    assert "broke" in scene.refused(wanted(server), ErrorClass.TRANSIENT)
    assert Path(scene.fetch(wanted(server)).path).read_bytes() == CONTENT
    assert [span for _, _, span in server.asked] == [None, f"bytes={MIB}-"]


def test_what_an_earlier_download_left_is_not_trusted(scene: Scene, server: ImageServer) -> None:
    """A power cut may have made it anything: it is removed, and the next download is whole."""
    key = scene.images.identify(wanted(server))
    for left in (b"x" * MIB, b"x" * (len(CONTENT) + 1), b"x" * len(CONTENT)):
        with scene.images.cache.part(key) as part:
            assert part is not None
            os.write(part, left)
        scene.refused(wanted(server), ErrorClass.TRANSIENT)
        assert scene.cached == []
    with scene.images.cache.part(key) as part:
        assert part is not None
        os.write(part, CONTENT)
    assert Path(scene.fetch(wanted(server)).path).read_bytes() == CONTENT


def test_without_a_checksum_nothing_is_gone_on_with(scene: Scene) -> None:
    """Nothing would tell what a power cut made of it."""
    source = scene.file("a", CONTENT)
    key = scene.images.identify(source)
    with scene.images.cache.part(key) as part:
        assert part is not None
        os.write(part, b"x" * MIB)
    assert Path(scene.fetch(source).path).read_bytes() == CONTENT


def test_a_wrong_checksum_is_for_good(scene: Scene, server: ImageServer) -> None:
    """And both are named."""
    sentence = scene.refused(wanted(server, checksum="0" * 64))
    assert sha256(CONTENT) in sentence
    assert "0" * 64 in sentence
    assert scene.cached == []


@pytest.mark.parametrize(
    ("status", "error_class"), [(404, ErrorClass.PERMANENT), (403, ErrorClass.PERMANENT), (503, ErrorClass.TRANSIENT)]
)
def test_what_a_server_says_instead(scene: Scene, server: ImageServer, status: int, error_class: ErrorClass) -> None:
    """Of the image, for good; of itself, it may pass."""
    server.status = status
    assert str(status) in scene.refused(wanted(server), error_class)


def test_a_server_that_is_not_there_may_come(tmp_path: Path) -> None:
    """Its job waits."""
    with ImageServer() as gone:
        source = wanted(gone)
    assert "could not reach" in Scene(tmp_path, urls=(gone.url,)).refused(source, ErrorClass.TRANSIENT)


def test_without_a_length_or_with_an_encoding_nothing_is_taken(scene: Scene, server: ImageServer) -> None:
    """Nothing could be reserved, or compared."""
    server.headers = {"Content-Length": ""}
    assert "how long" in scene.refused(wanted(server))
    server.headers = {"Content-Encoding": "gzip"}
    assert "gzip" in scene.refused(wanted(server))


def test_an_image_that_is_too_large_is_not_begun(tmp_path: Path, server: ImageServer) -> None:
    """Its length is told first."""
    scene = Scene(tmp_path, urls=(server.url,), max_gib=1)
    server.headers = {"Content-Length": str(1024**3 + 1)}
    assert "HOSTLER_IMAGE_MAX_GIB" in scene.refused(wanted(server))


def test_a_fetch_has_a_deadline(tmp_path: Path, server: ImageServer) -> None:
    """The sentence says which."""
    scene = Scene(tmp_path, urls=(server.url,), timeout_s=0.0)
    assert "HOSTLER_IMAGE_TIMEOUT_S" in scene.refused(wanted(server))


def test_a_fetch_ends_when_its_watch_says_so_and_another_goes_on(scene: Scene, server: ImageServer) -> None:
    """A cancelled job's half is the next one's."""
    key = scene.images.identify(wanted(server))
    with pytest.raises(HostError, match="was ended before it was done"):
        scene.images.fetch(wanted(server), key, lambda _done, _total: False)
    assert scene.images.cached(key, "raw") is None
    assert scene.fetch(wanted(server))


def test_what_a_watch_raises_leaves_the_fetch_and_frees_its_turn(scene: Scene, server: ImageServer) -> None:
    """A superseded job holds nobody up."""

    def overtaken(_done: int, _total: int) -> bool:
        raise LookupError("overtaken")

    with pytest.raises(LookupError):
        scene.images.fetch(wanted(server), scene.images.identify(wanted(server)), overtaken)
    assert scene.fetch(wanted(server))


def test_an_image_of_another_format_is_refused_before_it_has_its_name(scene: Scene, server: ImageServer) -> None:
    """And nothing of it stays."""
    source = replace(wanted(server), format="qcow2")
    assert "declared qcow2, but it is raw" in scene.refused(source)
    assert scene.cached == []


# --- without a checksum


def test_a_file_that_changed_since_the_job_began_is_another(scene: Scene) -> None:
    """The job was accepted for what was there."""
    source = scene.file("a", CONTENT)
    key = scene.images.identify(source)
    scene.file("a", CONTENT + b"more")
    with pytest.raises(HostError, match="has changed since the job began"):
        scene.images.fetch(source, key, go_on)
    assert scene.images.cached(key, "raw") is None


# --- where it may be fetched from


def test_a_file_outside_the_image_roots_is_refused(scene: Scene, tmp_path: Path) -> None:
    """Directly, and by a link."""
    (scene.root / "link").symlink_to("/etc/shadow")
    for path in ("/etc/shadow", f"{scene.root}/link", f"{tmp_path}/outside"):
        assert "does not lie below an image root" in scene.refused(ImageSource(f"file://{path}", "raw"))


def test_only_what_is_below_a_prefix_is_asked_for(scene: Scene, server: ImageServer) -> None:
    """Another path, port, scheme or name of the same server is another place."""
    port = server.url.rpartition(":")[2]
    for url in (
        f"{server.url}/other/a",
        f"{server.url}/images-of-others/a",
        f"{server.url}/images/../other/a",
        f"{server.url}/images/%2e%2e/other/a",
        f"{server.url}@images.example/images/a",
        f"https://127.0.0.1:{port}/images/a",
        f"http://localhost:{port}/images/a",
        f"http://2130706433:{port}/images/a",
        "http://127.0.0.1/images/a",
        "http://169.254.169.254/latest/meta-data",
    ):
        scene.refused(ImageSource(url, "raw", "0" * 64))
    assert server.asked == []


def test_a_redirect_within_the_prefixes_is_followed(scene: Scene, server: ImageServer) -> None:
    """Also one without a server's name."""
    server.redirects = {"/images/moved": "/images/further", "/images/further": f"{server.url}/images/a"}
    assert Path(scene.fetch(wanted(server, "moved")).path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "location",
    [
        "/secret",
        "http://127.0.0.2/images/a",
        "file:///etc/shadow",
        "http://[::1]/a",
        "//0.0.0.0/a",
        "ftp://x/y",
        "/images/../a",
    ],
)
def test_a_redirect_out_of_the_prefixes_is_refused(scene: Scene, server: ImageServer, location: str) -> None:
    """Nothing is asked there."""
    server.redirects = {"/images/moved": location}
    server.files["/secret"] = CONTENT
    scene.refused(wanted(server, "moved"))
    assert [path for _, path, _ in server.asked] == ["/images/moved"]


def test_a_redirect_that_leads_round_and_round_ends(scene: Scene, server: ImageServer) -> None:
    """After a few."""
    server.redirects = {"/images/moved": "/images/moved"}
    assert "more than 5 times" in scene.refused(wanted(server, "moved"))


def test_a_name_that_resolves_to_this_host_is_refused(
    tmp_path: Path, server: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listed or not: the operator listed a name, and whoever answers for it chose the address."""
    port = int(server.url.rpartition(":")[2])
    for address in (
        "127.0.0.1",
        "::1",
        "169.254.169.254",
        "fe80::1%lo",
        "0.0.0.0",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
    ):
        answer = [(2, 1, 6, "", (address, port))]
        monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: answer)  # noqa: B023  # asked within this round
        scene = Scene(tmp_path, urls=(f"http://images.example:{port}/",))
        source = ImageSource(f"http://images.example:{port}/images/a", "raw", sha256(CONTENT))
        assert f"has the address {address}" in scene.refused(source)
    assert server.asked == []


def test_the_address_that_was_checked_is_the_one_that_is_used(
    tmp_path: Path, server: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that resolves differently the second time gains nothing: it is resolved once."""
    port = int(server.url.rpartition(":")[2])
    asked: list[str] = []

    def resolve(name: str, *_: object, **__: object) -> list[object]:
        asked.append(name)
        return [(2, 1, 6, "", (name if name[0].isdigit() else "192.0.2.1", port))]

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    scene = Scene(tmp_path, urls=(f"{server.url}/", f"http://images.example:{port}/"))
    server.redirects = {"/images/moved": f"http://images.example:{port}/images/a"}
    monkeypatch.setattr("worker.host.images.sources.CONNECT_TIMEOUT_S", 0.05)
    assert "could not reach" in scene.refused(wanted(server, "moved"), ErrorClass.TRANSIENT)
    assert asked.count("images.example") == 1


# --- limits of the host


def test_the_cache_gives_up_what_no_overlay_needs(tmp_path: Path) -> None:
    """Oldest first; what is needed stays, and then the newcomer is refused."""
    scene = Scene(tmp_path)
    scene.images.cache._max_bytes = 5 * MIB
    first, second = (scene.fetch(scene.file(name, os.urandom(2 * MIB))) for name in "ab")
    scene.overlay(first)
    third = scene.fetch(scene.file("c", os.urandom(2 * MIB)))
    assert set(scene.cached) == {Path(image.path).name for image in (first, third)}
    assert not Path(second.path).exists()
    scene.overlay(third)
    assert "HOSTLER_IMAGE_CACHE_MAX_GIB" in scene.refused(scene.file("d", os.urandom(2 * MIB)), ErrorClass.RESOURCE)
    assert {Path(first.path).name, Path(third.path).name} <= set(scene.cached)


def test_space_is_reserved_before_anything_is_written(tmp_path: Path) -> None:
    """Two that would fit alone do not both begin."""
    scene = Scene(tmp_path)
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    with scene.space.reserved(str(tmp_path), free - MIB, "keep it"):
        sentence = scene.refused(scene.file("a", CONTENT), ErrorClass.RESOURCE)
        assert "could not fetch" in sentence
        assert "free some space there" in sentence
    assert scene.fetch(scene.file("a", CONTENT))


def test_what_was_fetched_by_halves_goes_with_a_prune(scene: Scene, server: ImageServer) -> None:
    """Unless somebody is at it."""
    key = scene.images.identify(wanted(server))
    with scene.images.cache.part(key) as part:
        assert part is not None
        assert scene.images.cache.prune().parts == ()
    assert scene.images.cache.prune(dry_run=True).parts == (key + PART,)
    assert scene.images.cache.prune().parts == (key + PART,)
    assert scene.cached == []


def test_an_image_is_not_removed_while_a_disk_is_made_from_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prune waits for that, and then finds the overlay."""
    image = scene.fetch(scene.file("a", CONTENT))
    monkeypatch.setattr("worker.host.images.cache.LOCK_DEADLINE_S", 0.05)
    with scene.images.held(image), pytest.raises(HostError, match="has been locked"):
        scene.images.cache.prune()
    scene.overlay(image)
    assert scene.images.cache.prune().images == ()


def test_an_image_that_went_or_changed_is_not_made_a_disk_of(scene: Scene) -> None:
    """It was inspected as another one."""
    image = scene.fetch(scene.file("a", CONTENT))
    local = scene.images.inspect(str(qcow2(scene.root / "local")), "qcow2")
    scene.images.cache.prune()
    qcow2(scene.root / "local", size="2M")
    for gone in (image, local):
        with pytest.raises(HostError, match="changed while a disk was to be made") as caught:
            scene.overlay(gone)
        assert caught.value.error_class is ErrorClass.TRANSIENT


def test_an_overlay_that_cannot_be_read_keeps_every_image(scene: Scene) -> None:
    """What cannot be told whole is told as an error, and nothing is removed."""
    image = scene.fetch(scene.file("a", CONTENT))
    folder = Path(scene.folders.all) / "x"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "root.qcow2")
    qcow2(folder / "a.qcow2", "-b", "b.qcow2", "-F", "qcow2", "-u")
    qcow2(folder / "b.qcow2", "-b", "a.qcow2", "-F", "qcow2", "-u")
    with pytest.raises(HostError, match="does not end"):
        scene.images.cache.prune()
    assert Path(image.path).exists()
