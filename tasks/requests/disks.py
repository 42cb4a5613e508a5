"""Disks of an instance's own, in the words of nova's flavors, images and block devices."""

from typing import Literal

from pydantic import Field

from tasks.requests.parts import Part

DiskBus = Literal["virtio", "scsi", "sata", "ide", "usb"]


class RootDisk(Part):
    """How the root disk is kept on the host."""

    format: Literal["qcow2", "raw"] = Field(default="qcow2", description="qcow2 or raw; a raw disk is flat")
    flat: bool = Field(
        default=False, description="whether the image is copied into the disk; else the disk is an overlay of the image"
    )

    @property
    def is_copy(self) -> bool:
        """Whether what it is made from is copied into it."""
        return self.flat or self.format == "raw"


class Ephemeral(Part):
    """An empty disk that is the instance's for as long as it lives, kept as a raw file."""

    size_gib: int = Field(ge=1, le=16 * 1024, description="size, in GiB")
    guest_format: Literal["ext3", "ext4", "vfat"] | None = Field(
        default="ext4", description="its file system, labelled ephemeral0, ephemeral1 and so on; null: none"
    )
