"""Images: the files that a guest is made from."""

from models.records import NOTHING, Change, Json, Progress
from models.states import ErrorClass
from tasks.host import Host, HostError, Image, ImageSource, Wish
from tasks.operation import Absent, NotNeeded, Sight, There, Work
from tasks.requests.images import Image as WantedImage
from tasks.requests.spawn import SpawnRequest
from tasks.steps.fields import asked_by

_KEY = "key"
_PATH, _URL = "image.path", "image.url"


class ImagesCached:
    """Every file that the guest is made from is on this host, where it may be used, and is what it is said to be."""

    name = "ImagesCached"

    def plan(self, work: Work[SpawnRequest], host: Host) -> Json:
        """Where the cache keeps what is fetched; a local file has no identity of our making."""
        source = _source(work.request)
        if source is None:
            return NOTHING
        with asked_by(_URL):
            return {_KEY: host.images.identify(source)}

    def look(self, work: Work[SpawnRequest], host: Host) -> Sight:
        """Inspects the image; a local file that is missing or not what it is said to be is an error for good."""
        request = work.request
        if request.image is None and request.boot is None:
            return NotNeeded()
        if request.boot is not None:
            with asked_by("boot.kernel"):
                host.images.require_file(request.boot.kernel)
            if request.boot.initrd is not None:
                with asked_by("boot.initrd"):
                    host.images.require_file(request.boot.initrd)
        if request.image is None:
            return There()
        return Absent() if _found(work, request.image, host) is None else There()

    def do(self, work: Work[SpawnRequest], host: Host) -> None:
        """Fetches the image; a local file is there, or its look raises."""
        source = _source(work.request)
        if source is None:
            return

        def watch(done_bytes: int, total_bytes: int) -> bool:
            return work.report(Progress("downloading", done_bytes, total_bytes)) is not Wish.CANCEL

        with asked_by(_URL):
            host.images.fetch(source, work.intent[_KEY], watch)

    def undo(self, work: Work[SpawnRequest], host: Host) -> None:
        """What many jobs share is not one job's to remove."""

    def undone(self, work: Work[SpawnRequest], host: Host) -> bool:
        """Always: what this job fetched is the cache's."""
        return True

    def changes(self, work: Work[SpawnRequest]) -> tuple[Change, ...]:
        """The inventory does not know of images."""
        return ()


def image_of(work: Work[SpawnRequest], host: Host) -> Image | None:
    """The image that the request names, inspected anew; None where it names none.

    Raises HostError(TRANSIENT) when the cache let it go meanwhile: the job's next look has it fetched again.
    """
    wanted = work.request.image
    if wanted is None:
        return None
    image = _found(work, wanted, host)
    if image is None:
        raise HostError(ErrorClass.TRANSIENT, "the image is no longer in the cache; it will be fetched again")
    return image


def _found(work: Work[SpawnRequest], wanted: WantedImage, host: Host) -> Image | None:
    """The image where it lies, or in the cache; None while it must be fetched."""
    if wanted.path is not None:
        with asked_by(_PATH):
            return host.images.inspect(wanted.path, wanted.format)
    with asked_by(_URL):
        key = _key(work, host)
        return None if key is None else host.images.cached(key, wanted.format)


def _source(request: SpawnRequest) -> ImageSource | None:
    image = request.image
    if image is None or image.url is None:
        return None
    return ImageSource(image.url, image.format, image.sha256)


def _key(work: Work[SpawnRequest], host: Host) -> str | None:
    """The image's key as this job fixed it, or as its SHA-256 does; None while its source must be asked."""
    fixed = work.intent.get(_KEY) or work.earlier.get(ImagesCached.name, NOTHING).get(_KEY)
    if fixed is not None:
        return str(fixed)
    source = _source(work.request)
    return None if source is None or source.sha256 is None else host.images.identify(source)
