"""The files of the fake host: images as a test put them, disks as the port made them."""

import re
from dataclasses import dataclass, field
from uuid import UUID

from models.states import ErrorClass
from tasks.host import Disk, FetchWatch, FileSystem, HostError, Image, ImageSource, unwatched
from tests.contract.faults import Room, Script, port

STATE = "/fake/instances"
IMAGE_ROOT = "/fake/images"
CACHE = "/fake/image-cache"
FILE_SYSTEMS = frozenset({"ext3", "ext4", "vfat", "swap"})
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_FILE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\.(?P<format>qcow2|raw)")


@dataclass
class Files:
    """What is in an instance's folder."""

    disks: dict[str, Disk] = field(default_factory=dict)
    formatted: dict[str, FileSystem] = field(default_factory=dict)
    preallocated: set[str] = field(default_factory=set)
    halves: set[str] = field(default_factory=set)
    console_log: bool = False

    @property
    def empty(self) -> bool:
        """Whether nothing is."""
        return not (self.disks or self.halves or self.console_log)


@dataclass(frozen=True)
class FakeImage:
    """A file on the fake host, as it really is. ``refers_to`` is another file that it would be read together with."""

    format: str
    virtual_size_bytes: int
    refers_to: str | None = None
    sha256: str | None = None


def _inspected(path: str, image: FakeImage, declared_format: str) -> Image:
    if image.format != declared_format:
        raise HostError(ErrorClass.PERMANENT, f"{path} is declared {declared_format}, but it is {image.format}")
    if image.refers_to:
        raise HostError(ErrorClass.PERMANENT, f"{path} refers to another file")
    return Image(path, image.format, image.virtual_size_bytes)


def _path_of(url: str) -> str:
    return url.removeprefix("file://")


class FakeImages(Room):
    """The port's `Images`; ``files`` are those below the image root, and ``outside`` those elsewhere."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.files: dict[str, FakeImage] = {}
        self.outside: dict[str, FakeImage] = {}
        self.cache: dict[str, FakeImage] = {}
        self.fetches: list[str] = []  #: the URLs that were really read

    @port("images.inspect")
    def inspect(self, path: str, declared_format: str) -> Image:
        """The image as put."""
        return _inspected(path, self._file(path), declared_format)

    @port("images.require_file")
    def require_file(self, path: str) -> None:
        """Whether it was put."""
        self._file(path)

    @port("images.identify")
    def identify(self, source: ImageSource) -> str:
        """By SHA-256, or by what the file is now."""
        if source.sha256 is not None:
            self._permit(source.url)
            return f"sha256-{source.sha256}"
        return f"url-{source.url}-{self._file(_path_of(source.url))}"

    @port("images.cached")
    def cached(self, key: str, declared_format: str) -> Image | None:
        """As fetched."""
        with self.script.changed:
            image = self.cache.get(key)
        return None if image is None else _inspected(f"{CACHE}/{key}", image, declared_format)

    @port("images.fetch")
    def fetch(self, source: ImageSource, key: str, watch: FetchWatch) -> None:
        """Note it, once; half of it is told of first."""
        image = self._file(_path_of(source.url))
        with self.script.changed:
            if key in self.cache:
                return
            size = image.virtual_size_bytes
            if not watch(size // 2, size):
                raise HostError(ErrorClass.TRANSIENT, f"fetching {source.url} was ended before it was done")
            if source.sha256 is not None and source.sha256 != image.sha256:
                raise HostError(ErrorClass.PERMANENT, f"what {source.url} gives has the SHA-256 {image.sha256}")
            _inspected(source.url, image, source.format)
            self.cache[key] = image
            self.fetches.append(source.url)
            self.script.changed.notify_all()

    def _permit(self, url: str) -> None:
        if _path_of(url) in self.outside:
            raise HostError(ErrorClass.PERMANENT, f"{_path_of(url)} does not lie below an image root")

    def put(self, name: str, image: FakeImage) -> str:
        """Put a file below the image root; its path."""
        self.files[path := f"{IMAGE_ROOT}/{name}"] = image
        return path

    def _file(self, path: str) -> FakeImage:
        if path in self.outside:
            raise HostError(ErrorClass.PERMANENT, f"{path} does not lie below an image root")
        if path not in self.files:
            raise HostError(ErrorClass.PERMANENT, f"{path} is not a readable file")
        return self.files[path]


class FakeDisks(Room):
    """The port's `Disks`."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.folders: dict[UUID, Files] = {}
        self.aside: set[UUID] = set()
        self.children: set[UUID] = set()  #: the instances for which a child is at work
        self.cache = "none"

    @port("disks.path_for")
    def path_for(self, instance: UUID, name: str, disk_format: str) -> str:
        """A path that is never opened."""
        if not _NAME.fullmatch(name) or disk_format not in {"qcow2", "raw"}:
            raise HostError(ErrorClass.PERMANENT, f"a disk cannot be named {name!r} with the format {disk_format!r}")
        return f"{STATE}/{instance}/{name}.{disk_format}"

    @port("disks.find")
    def find(self, instance: UUID, path: str) -> Disk | None:
        """The disk as made."""
        self._format(instance, path)
        with self.script.changed:
            files = self.folders.get(instance)
            return files.disks.get(path) if files else None

    @port("disks.create")
    def create(  # as the port has it
        self,
        instance: UUID,
        path: str,
        *,
        size_bytes: int,
        backing: Image | None,
        epoch: int,
        preallocate: bool = False,
    ) -> None:
        """Note it."""
        size = max(size_bytes, backing.virtual_size_bytes if backing else 0)
        disk_format = self._format(instance, path)
        if disk_format == "raw" and backing:
            raise HostError(ErrorClass.PERMANENT, f"{path} names a raw disk, which is no overlay of an image")
        disk = Disk(path, disk_format, size, backing.path if backing else None)
        self.make("disks.create", instance, disk, epoch, preallocate=preallocate)

    @port("disks.copy")
    def copy(  # as the port has it
        self,
        instance: UUID,
        path: str,
        *,
        image: Image,
        size_bytes: int,
        epoch: int,
        preallocate: bool = False,
        watch: FetchWatch = unwatched,
    ) -> None:
        """Note it; half of it is told of first."""
        size = max(size_bytes, image.virtual_size_bytes)
        disk = Disk(path, self._format(instance, path), size, None)
        if not watch(image.virtual_size_bytes // 2, image.virtual_size_bytes):
            raise HostError(ErrorClass.TRANSIENT, f"copying {image.path} into {path} was ended before it was done")
        self.make("disks.copy", instance, disk, epoch, preallocate=preallocate)

    @port("disks.format")
    def format(  # as the port has it
        self,
        instance: UUID,
        path: str,
        *,
        size_bytes: int,
        file_system: FileSystem,
        epoch: int,
        preallocate: bool = False,
    ) -> None:
        """Note it, and what it is formatted with."""
        if self._format(instance, path) != "raw" or file_system.kind not in FILE_SYSTEMS:
            raise HostError(ErrorClass.PERMANENT, f"{path} cannot be formatted with {file_system.kind!r}")
        self.make("disks.format", instance, Disk(path, "raw", size_bytes, None), epoch, preallocate=preallocate)
        with self.script.changed:
            self.folders[instance].formatted[path] = file_system

    def make(self, method: str, instance: UUID, disk: Disk, epoch: int, *, preallocate: bool = False) -> None:
        """Note a disk that a method of the port makes; half-way, there is only its half."""
        path = disk.path
        if disk.virtual_size_bytes <= 0:
            raise HostError(ErrorClass.PERMANENT, f"the disk {path} cannot be {disk.virtual_size_bytes} bytes large")
        with self.script.changed:
            files = self.make_folder(instance)
            if path in files.disks:
                raise HostError(ErrorClass.CONFLICT, f"{path} exists already")
            files.halves = {half for half in files.halves if not half.startswith(f"{path}.")}
            files.halves.add(f"{path}.{epoch}.part")
            self.script.trip(method, after=False, halfway=True)
            files.halves.discard(f"{path}.{epoch}.part")
            files.disks[path] = disk
            if preallocate:
                files.preallocated.add(path)
            self.script.did(method, instance)

    @port("disks.cache_mode")
    def cache_mode(self) -> str:
        """As a test says."""
        return self.cache

    @port("disks.remove")
    def remove(self, instance: UUID, path: str) -> None:
        """Forget it and its halves."""
        self._format(instance, path)
        with self.script.changed:
            files = self.folders.get(instance)
            if files is None:
                return
            halves = {half for half in files.halves if half.startswith(f"{path}.")}
            files.halves -= halves
            files.formatted.pop(path, None)
            files.preallocated.discard(path)
            if files.disks.pop(path, None) or halves:
                self.script.did("disks.remove", instance)
            self.drop_folder_if_empty(instance)

    @port("disks.end_children")
    def end_children(self, instance: UUID) -> None:
        """Whatever a test has begun for it ends with an error."""
        with self.script.changed:
            if instance in self.children:
                self.children.discard(instance)
                self.script.did("disks.end_children", instance)

    @port("disks.folder_exists")
    def folder_exists(self, instance: UUID) -> bool:
        """Whether anything is left."""
        with self.script.changed:
            return instance in self.folders or instance in self.aside

    @port("disks.remove_folder")
    def remove_folder(self, instance: UUID) -> None:
        """Forget everything; half-way, it is set aside."""
        with self.script.changed:
            if instance not in self.folders and instance not in self.aside:
                return
            self.folders.pop(instance, None)
            self.aside.add(instance)
            self.script.trip("disks.remove_folder", after=False, halfway=True)
            self.aside.discard(instance)
            self.script.did("disks.remove_folder", instance)

    def make_folder(self, instance: UUID) -> Files:
        """The instance's folder."""
        return self.folders.setdefault(instance, Files())

    def drop_folder_if_empty(self, instance: UUID) -> None:
        """The folder goes with the last file in it."""
        if self.folders[instance].empty:
            del self.folders[instance]

    def _format(self, instance: UUID, path: str) -> str:
        folder, _, name = path.rpartition("/")
        match = _FILE.fullmatch(name)
        if folder != f"{STATE}/{instance}" or match is None:
            raise HostError(ErrorClass.PERMANENT, f"{path!r} is not the path of a disk of the instance {instance}")
        return match["format"]
