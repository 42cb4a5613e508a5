"""What a spawn asks for, in nova's and libvirt's words."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from tasks.requests import Request

#: XML 1.0 has no place for control characters, and a title is one line.
_NO_CONTROL_CHARACTERS = re.compile(r"[^\x00-\x1f\x7f\ufffe\uffff\ud800-\udfff]*")


def _printable(text: str) -> str:
    if not _NO_CONTROL_CHARACTERS.fullmatch(text):
        raise ValueError("Value has a control character")
    return text


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("Path is not absolute")
    return path


HostPath = Annotated[
    str, StringConstraints(min_length=2, max_length=4096), AfterValidator(_printable), AfterValidator(_absolute)
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Image(_Part):
    """A file to make the root disk from."""

    path: HostPath = Field(description="absolute path on the host, below one of its image roots")
    format: Annotated[str, StringConstraints(pattern="^(qcow2|raw)$")] = Field(
        default="qcow2", description="qcow2 or raw; must be what the file is"
    )


class Boot(_Part):
    """Direct kernel boot: QEMU loads the kernel itself."""

    kernel: HostPath = Field(description="absolute path on the host, below one of its image roots")
    initrd: HostPath | None = Field(default=None, description="absolute path on the host, below one of its image roots")
    cmdline: Annotated[str, StringConstraints(max_length=2048), AfterValidator(_printable)] | None = Field(
        default=None, description="the kernel's command line"
    )


class SpawnRequest(Request):
    """A guest to be made and started."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_printable)] = Field(
        description="the user's name for the instance; becomes the domain's title"
    )
    memory_mib: int = Field(ge=16, le=16 * 1024 * 1024, description="memory of the guest, in MiB")
    vcpus: int = Field(default=1, ge=1, le=1024, description="virtual CPUs")
    image: Image | None = Field(default=None, description="what the root disk is an overlay of; null: an empty disk")
    disk_gib: int | None = Field(
        default=None,
        ge=1,
        le=64 * 1024,
        description="size of the root disk, in GiB; null: the image's own size, or no disk where there is no image",
    )
    boot: Boot | None = Field(default=None, description="direct kernel boot; null: from the root disk")
    timeout_s: int = Field(
        default=300, ge=1, le=3600, description="how long the guest may take to be reported running, in seconds"
    )

    @property
    def has_root_disk(self) -> bool:
        """Whether the guest gets a root disk."""
        return self.image is not None or self.disk_gib is not None

    @model_validator(mode="after")
    def _bootable(self) -> Self:
        if not self.has_root_disk and self.boot is None:
            raise ValueError("a guest needs something to start from: image, disk_gib or boot")
        return self
