"""Images: the files that a guest is made from."""

from models.records import NOTHING, Change, Json
from tasks.host import Host
from tasks.operation import NotNeeded, Sight, There, Work
from tasks.requests.spawn import SpawnRequest


class ImagesCached:
    """Every file that the guest is made from is on this host, below an image root, and is what it is said to be."""

    name = "ImagesCached"

    def plan(self, work: Work[SpawnRequest], host: Host) -> Json:
        """Local files have no identity of our making."""
        return NOTHING

    def look(self, work: Work[SpawnRequest], host: Host) -> Sight:
        """Inspects the image; a file that is missing or not what it is said to be is an error for good."""
        request = work.request
        if request.image is None and request.boot is None:
            return NotNeeded()
        if request.image is not None:
            host.images.inspect(request.image.path, request.image.format)
        if request.boot is not None:
            host.images.require_file(request.boot.kernel)
            if request.boot.initrd is not None:
                host.images.require_file(request.boot.initrd)
        return There()

    def do(self, work: Work[SpawnRequest], host: Host) -> None:
        """Never asked for: a local file is there, or its look raises."""

    def undo(self, work: Work[SpawnRequest], host: Host) -> None:
        """What many jobs share is not one job's to remove."""

    def changes(self, work: Work[SpawnRequest]) -> tuple[Change, ...]:
        """The inventory does not know of images."""
        return ()
