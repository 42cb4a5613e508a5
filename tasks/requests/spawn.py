"""What a spawn asks for, in nova's and libvirt's words."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from tasks.requests.config_drive import ConfigDriveRequest
from tasks.requests.devices import Interface, Volume, refuse_twins
from tasks.requests.disks import Ephemeral, RootDisk
from tasks.requests.hardware import Hardware
from tasks.requests.images import Image
from tasks.requests.parts import HostPath, Part, printable


class Boot(Part):
    """Direct kernel boot: QEMU loads the kernel itself."""

    kernel: HostPath = Field(description="absolute path on the host, below one of its image roots")
    initrd: HostPath | None = Field(default=None, description="absolute path on the host, below one of its image roots")
    cmdline: Annotated[str, StringConstraints(max_length=2048), AfterValidator(printable)] | None = Field(
        default=None, description="the kernel's command line"
    )


class SpawnRequest(ConfigDriveRequest):
    """A guest to be made and started."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(printable)] = Field(
        description="the user's name for the instance; becomes the domain's title"
    )
    memory_mib: int = Field(ge=16, le=16 * 1024 * 1024, description="memory of the guest, in MiB")
    vcpus: int = Field(default=1, ge=1, le=1024, description="virtual CPUs")
    image: Image | None = Field(default=None, description="what the root disk is made from; null: an empty disk")
    disk_gib: int | None = Field(
        default=None,
        ge=1,
        le=64 * 1024,
        description="size of the root disk, in GiB; null: the image's own size, or no disk where there is no image",
    )
    root_disk: RootDisk = Field(default=RootDisk(), description="how the root disk is kept")
    ephemerals: list[Ephemeral] = Field(default=[], max_length=8, description="disks that live as long as the instance")
    swap_mib: int | None = Field(default=None, ge=1, le=1024 * 1024, description="size of a swap disk, in MiB")
    preallocate_images: Literal["none", "space"] = Field(
        default="none", description="space: the host's file system gives these disks the space for all of them at once"
    )
    boot: Boot | None = Field(default=None, description="direct kernel boot; null: from the root disk")
    volumes: list[Volume] = Field(default=[], max_length=16, description="volumes that it starts with")
    interfaces: list[Interface] = Field(default=[], max_length=16, description="network interfaces that it starts with")
    hardware: Hardware = Field(default=Hardware(), description="processors, firmware and devices of the machine")
    timeout_s: int = Field(
        default=300, ge=1, le=3600, description="how long the guest may take to be reported running, in seconds"
    )

    @property
    def has_root_disk(self) -> bool:
        """Whether the guest gets a root disk."""
        return self.image is not None or self.disk_gib is not None

    @property
    def preallocate(self) -> bool:
        """Whether the space for its disks is allocated."""
        return self.preallocate_images == "space"

    @property
    def wanted_volumes(self) -> Mapping[str, Volume]:
        """The volumes that the instance is to have, each by the field that asks for it."""
        return {f"volumes.{number}": volume for number, volume in enumerate(self.volumes)}

    @property
    def wanted_interfaces(self) -> tuple[Interface, ...]:
        """The interfaces that the instance is to have."""
        return tuple(self.interfaces)

    @model_validator(mode="after")
    def _no_twins(self) -> Self:
        refuse_twins("volumes", [volume.id for volume in self.volumes])
        refuse_twins("interfaces", [interface.id for interface in self.interfaces])
        refuse_twins("interfaces", [interface.mac for interface in self.interfaces if interface.mac is not None])
        return self

    @model_validator(mode="after")
    def _bootable(self) -> Self:
        if not self.has_root_disk and self.boot is None:
            raise ValueError("a guest needs something to start from: image, disk_gib or boot")
        return self

    @model_validator(mode="after")
    def _disks_fit(self) -> Self:
        if self.root_disk != RootDisk() and not self.has_root_disk:
            raise ValueError("root_disk needs an image or disk_gib")
        if self.preallocate and not (self.has_root_disk or self.ephemerals or self.swap_mib):
            raise ValueError("preallocate_images needs a disk")
        self.hardware.check_disks(self.has_root_disk + len(self.ephemerals) + (self.swap_mib is not None))
        return self

    @model_validator(mode="after")
    def _machine_fits(self) -> Self:
        self.hardware.check(self.vcpus, self.memory_mib)
        return self
