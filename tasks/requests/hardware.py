"""The hardware of a guest, in the words of nova's flavors and images: their prefixes ``hw:`` and ``hw_`` left out."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from tasks.requests.disks import DiskBus
from tasks.requests.parts import Part
from tasks.requests.placement import Placement
from tasks.requests.quota import Quota

#: Of a guest's ports for PCIe devices to come, unless its request says otherwise. One takes one device.
PCIE_PORTS = 16

#: QEMU's x86 machines with PCIe, and with PCI and IDE, by its own names and those of distributions: ``q35``,
#: ``pc-q35-7.2``, ``pc-q35-jammy``, ``pc``, ``pc-i440fx-7.2``.
MachineType = Annotated[str, StringConstraints(pattern=r"^(q35|pc|pc-(q35|i440fx)-[a-z0-9][a-z0-9.]{0,31})$")]
#: Two on each of the two channels of the machine that has IDE.
IDE_DISKS = 4
CpuModel = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
CpuFlag = Annotated[str, StringConstraints(pattern=r"^[+-]?[a-z0-9][a-z0-9._-]{0,63}$")]
CpuMode = Literal["host-model", "host-passthrough", "maximum", "custom"]
WatchdogAction = Literal["disabled", "none", "pause", "poweroff", "reset"]
VideoModel = Literal["none", "vga", "virtio", "bochs", "cirrus", "qxl"]
#: Video cards of which libvirt lets the memory be chosen.
VIDEO_WITH_MEMORY: frozenset[VideoModel] = frozenset({"vga", "qxl"})


class Cpu(Part):
    """The processors that the guest sees."""

    cpu_mode: CpuMode | None = Field(
        default=None, description="libvirt's CPU mode; null: host-model with KVM, QEMU's own choice in emulation"
    )
    cpu_model: CpuModel | None = Field(default=None, description="the model, with the mode custom and only with it")
    cpu_model_extra_flags: list[CpuFlag] = Field(
        default=[], max_length=64, description="flags it must have, or must not: pcid, +pcid, -vmx; with a cpu_mode"
    )
    cpu_sockets: int | None = Field(default=None, ge=1, le=1024, description="sockets; null: as many as are needed")
    cpu_cores: int | None = Field(default=None, ge=1, le=1024, description="cores of each socket; null: 1")
    cpu_threads: int | None = Field(default=None, ge=1, le=1024, description="threads of each core; null: 1")

    @model_validator(mode="after")
    def _model_fits_mode(self) -> Self:
        if (self.cpu_mode == "custom") != (self.cpu_model is not None):
            raise ValueError("cpu_model goes with the cpu_mode custom, and custom with a cpu_model")
        if self.cpu_model_extra_flags and self.cpu_mode is None:
            raise ValueError("cpu_model_extra_flags need a cpu_mode")
        names = [flag.lstrip("+-") for flag in self.cpu_model_extra_flags]
        if len(set(names)) != len(names):
            raise ValueError("two of cpu_model_extra_flags are of the same flag")
        return self

    def topology(self, vcpus: int) -> tuple[int, int, int] | None:
        """Sockets, cores and threads of that many processors; None where nothing is said of it.

        Raises ValueError when they do not make that number.
        """
        if self.cpu_sockets is self.cpu_cores is self.cpu_threads is None:
            return None
        cores, threads = self.cpu_cores or 1, self.cpu_threads or 1
        sockets = self.cpu_sockets or vcpus // (cores * threads)
        if sockets * cores * threads != vcpus:
            raise ValueError(f"cpu_sockets, cpu_cores and cpu_threads do not make the {vcpus} of vcpus")
        return sockets, cores, threads


class Firmware(Cpu):
    """What the guest starts with. The firmware's file is libvirt's own choice, by what was asked of it."""

    machine_type: MachineType = Field(
        default="q35", description="QEMU's machine; a name without a version is fixed at the spawn"
    )
    firmware_type: Literal["bios", "uefi"] = Field(default="bios", description="bios or uefi")
    secure_boot: bool = Field(default=False, description="whether only signed code is started; uefi only")
    disk_bus: DiskBus = Field(
        default="virtio", description="what the instance's own disks are plugged into; ide needs the machine_type pc"
    )
    tpm_version: Literal["1.2", "2.0"] | None = Field(default=None, description="of an emulated TPM; null: none")
    tpm_model: Literal["tpm-tis", "tpm-crb"] = Field(default="tpm-tis", description="what the guest sees of the TPM")

    @property
    def has_pcie(self) -> bool:
        """Whether the machine is the one with PCIe; the other has PCI and IDE."""
        return "q35" in self.machine_type

    @model_validator(mode="after")
    def _firmware_can(self) -> Self:
        if self.secure_boot and self.firmware_type != "uefi":
            raise ValueError("secure_boot needs the firmware_type uefi")
        if self.secure_boot and not self.has_pcie:
            raise ValueError("secure_boot needs the machine_type q35")
        if self.disk_bus == "ide" and self.has_pcie:
            raise ValueError("the disk_bus ide needs the machine_type pc")
        if self.tpm_model == "tpm-crb" and self.tpm_version != "2.0":
            raise ValueError("the tpm_model tpm-crb needs the tpm_version 2.0")
        return self


class Hardware(Firmware):
    """The hardware of a guest; left out, it is the least that a server needs."""

    os_type: Literal["linux", "windows"] = Field(
        default="linux", description="windows: local time and, with KVM, Hyper-V's features and its timer"
    )
    time_hpet: bool = Field(default=False, description="whether there is an HPET")
    hide_hypervisor_id: bool = Field(default=False, description="whether the guest is not told that it runs on KVM")
    pmu: bool | None = Field(default=None, description="whether the guest may count its events; null: QEMU's choice")
    rng_allowed: bool = Field(default=False, description="whether the guest is given random numbers of the host's")
    rng_rate_bytes: int | None = Field(
        default=None,
        ge=1,
        le=1 << 30,
        description="at most so many bytes of them in rng_rate_period_ms; null: no limit",
    )
    rng_rate_period_ms: int = Field(default=1000, ge=1, le=3_600_000, description="in so many milliseconds")
    watchdog_action: WatchdogAction = Field(
        default="disabled", description="what becomes of a guest that stops serving its watchdog; disabled: it has none"
    )
    mem_balloon: bool = Field(default=True, description="whether there is a memory balloon")
    mem_stats_period_s: int | None = Field(
        default=None, ge=1, le=3600, description="how often the balloon tells of the guest's memory, in seconds"
    )
    video_model: VideoModel | None = Field(default=None, description="null: vga with vnc, none without")
    video_ram_mib: int | None = Field(default=None, ge=1, le=256, description="of vga and qxl, in MiB, a power of 2")
    vnc: bool = Field(default=False, description="whether the screen is served on 127.0.0.1, at a port that is free")
    qemu_guest_agent: bool = Field(default=False, description="whether there is a channel for QEMU's guest agent")
    pcie_ports: int = Field(
        default=PCIE_PORTS,
        ge=0,
        le=64,
        description="ports of a q35 for PCIe devices that are attached later; one takes one",
    )
    quota: Quota | None = Field(default=None, description="what it may use of processors and its own disks")
    placement: Placement | None = Field(default=None, description="where on the host it runs, and its NUMA nodes")

    @property
    def video(self) -> VideoModel:
        """The video card that it gets."""
        return self.video_model or ("vga" if self.vnc else "none")

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.rng_rate_bytes is not None and not self.rng_allowed:
            raise ValueError("rng_rate_bytes needs rng_allowed")
        if self.mem_stats_period_s is not None and not self.mem_balloon:
            raise ValueError("mem_stats_period_s needs mem_balloon")
        if self.vnc and self.video == "none":
            raise ValueError("vnc needs a video_model")
        if self.video_ram_mib is not None:
            if self.video not in VIDEO_WITH_MEMORY:
                raise ValueError("video_ram_mib needs the video_model vga or qxl")
            if self.video_ram_mib & (self.video_ram_mib - 1):
                raise ValueError("video_ram_mib is no power of 2")
        return self

    def check_disks(self, count: int) -> None:
        """Raise ValueError naming the field that does not fit so many disks of the instance's own."""
        if self.disk_bus == "ide" and count > IDE_DISKS:
            raise ValueError(f"the disk_bus ide has room for {IDE_DISKS} disks")

    def check(self, vcpus: int, memory_mib: int) -> None:
        """Raise ValueError naming the field that does not fit a guest of that size."""
        self.topology(vcpus)
        if self.placement is not None:
            self.placement.check(vcpus, memory_mib)
