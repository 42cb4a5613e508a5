"""The XML of a guest's hardware: processors, firmware, clock, and the devices beside disks and interfaces. Pure."""

from collections.abc import Iterator

from lxml import etree

from tasks.requests.hardware import VIDEO_WITH_MEMORY, Hardware
from tasks.requests.placement import Placement
from tasks.requests.quota import Quota

_KIB_PER_MIB = 1024
#: Windows knows these of Hyper-V's; those that need others are listed with them.
_HYPERV = (
    *("relaxed", "vapic", "spinlocks", "vpindex", "runtime", "synic", "stimer", "reset", "frequencies", "tlbflush"),
    "ipi",
)
#: How often a guest's processor spins before it tells the hypervisor; as Microsoft recommends.
_SPINLOCK_RETRIES = "8191"
_VNC_ADDRESS = "127.0.0.1"
_RANDOM_NUMBERS = "/dev/urandom"
_AGENT_CHANNEL = "org.qemu.guest_agent.0"


def ports_taken(hardware: Hardware) -> int:
    """How many ports for PCIe devices the hardware itself takes; a watchdog's is that of the bridge it is behind."""
    watched = hardware.watchdog_action != "disabled"
    return sum((hardware.mem_balloon, hardware.rng_allowed, hardware.qemu_guest_agent, watched))


def firmware_element(system: etree._Element, hardware: Hardware) -> None:
    """Say in ``<os>`` what is wanted of the firmware; libvirt chooses a file that has it."""
    if hardware.firmware_type == "bios":
        return
    system.set("firmware", "efi")
    firmware = etree.SubElement(system, "firmware")
    wanted = _yes_or_no(hardware.secure_boot)
    etree.SubElement(firmware, "feature", enabled=wanted, name="secure-boot")
    etree.SubElement(firmware, "feature", enabled=wanted, name="enrolled-keys")


def features_element(hardware: Hardware, virt_type: str) -> etree._Element:
    """What the machine can do besides computing. Emulation has nothing of Hyper-V: QEMU ends when asked for it."""
    features = etree.Element("features")
    etree.SubElement(features, "acpi")
    etree.SubElement(features, "apic")
    if hardware.os_type == "windows" and virt_type == "kvm":
        hyperv = etree.SubElement(features, "hyperv")
        for name in _HYPERV:
            etree.SubElement(hyperv, name, state="on")
        hyperv.find("spinlocks").set("retries", _SPINLOCK_RETRIES)  # type: ignore[union-attr]  # made a line above
    if hardware.hide_hypervisor_id:
        etree.SubElement(etree.SubElement(features, "kvm"), "hidden", state="on")
    if hardware.pmu is not None:
        etree.SubElement(features, "pmu", state="on" if hardware.pmu else "off")
    if hardware.secure_boot:
        etree.SubElement(features, "smm", state="on")
    return features


def clock_element(hardware: Hardware, virt_type: str) -> etree._Element:
    """The clock, and what becomes of ticks that a guest missed: nova's choice."""
    windows = hardware.os_type == "windows"
    clock = etree.Element("clock", offset="localtime" if windows else "utc")
    etree.SubElement(clock, "timer", name="pit", tickpolicy="delay")
    etree.SubElement(clock, "timer", name="rtc", tickpolicy="catchup")
    etree.SubElement(clock, "timer", name="hpet", present=_yes_or_no(hardware.time_hpet))
    if windows and virt_type == "kvm":
        etree.SubElement(clock, "timer", name="hypervclock", present="yes")
    return clock


def cpu_element(hardware: Hardware, vcpus: int, virt_type: str, *, virtualized: bool = False) -> etree._Element | None:
    """The processors as the guest sees them, and its NUMA nodes; None leaves both to QEMU."""
    mode: str | None = hardware.cpu_mode or ("host-model" if virt_type == "kvm" else None)
    cpu = etree.Element("cpu", {} if mode is None else {"mode": mode})
    if hardware.cpu_model is not None:
        cpu.set("match", "exact")
        etree.SubElement(cpu, "model", fallback="forbid").text = hardware.cpu_model
    topology = hardware.topology(vcpus)
    if topology is not None:
        sockets, cores, threads = (str(count) for count in topology)
        etree.SubElement(cpu, "topology", sockets=sockets, cores=cores, threads=threads)
    if hardware.cpu_mode is None and mode is not None and virtualized:
        # Measured: KVM in a guest offers this flag, the host-model asks for it, and QEMU aborts when it sets its MSR.
        etree.SubElement(cpu, "feature", policy="disable", name="arch-capabilities")
    for flag in hardware.cpu_model_extra_flags:
        policy = "disable" if flag.startswith("-") else "require"
        etree.SubElement(cpu, "feature", policy=policy, name=flag.lstrip("+-"))
    if hardware.placement is not None and hardware.placement.numa_nodes:
        numa = etree.SubElement(cpu, "numa")
        for number, node in enumerate(hardware.placement.numa_nodes):
            cpus = ",".join(str(each) for each in node.cpus)
            etree.SubElement(numa, "cell", id=str(number), cpus=cpus, memory=str(node.mem_mib), unit="MiB")
    return cpu if len(cpu) or cpu.attrib else None


def placement_elements(hardware: Hardware) -> Iterator[etree._Element]:
    """Where on the host the guest runs, and what it may use of the processors."""
    placement = hardware.placement or Placement()
    if placement.mem_page_size_kib is not None:
        backing = etree.Element("memoryBacking")
        pages = etree.SubElement(backing, "hugepages")
        etree.SubElement(pages, "page", size=str(placement.mem_page_size_kib), unit="KiB")
        yield backing
    tuning = _cpu_tuning(hardware.quota or Quota(), placement)
    if len(tuning):
        yield tuning
    host_nodes = [node.host_node for node in placement.numa_nodes if node.host_node is not None]
    if host_nodes:
        numa = etree.Element("numatune")
        nodes = ",".join(str(node) for node in sorted(set(host_nodes)))
        etree.SubElement(numa, "memory", mode="strict", nodeset=nodes)
        for number, node in enumerate(host_nodes):
            etree.SubElement(numa, "memnode", cellid=str(number), mode="strict", nodeset=str(node))
        yield numa


def limit_disk(disk: etree._Element, hardware: Hardware) -> None:
    """Say in a disk of the guest's own how much it may read and write."""
    limits = (hardware.quota or Quota()).of_disks
    if limits:
        tuning = etree.SubElement(disk, "iotune")
        for name, limit in limits.items():
            etree.SubElement(tuning, name).text = str(limit)


def device_elements(hardware: Hardware) -> Iterator[etree._Element]:
    """The devices of the machine itself."""
    if hardware.qemu_guest_agent:
        channel = etree.Element("channel", type="unix")
        etree.SubElement(channel, "target", type="virtio", name=_AGENT_CHANNEL)
        yield channel
    if hardware.tpm_version is not None:
        tpm = etree.Element("tpm", model=hardware.tpm_model)
        etree.SubElement(tpm, "backend", type="emulator", version=hardware.tpm_version)
        yield tpm
    if hardware.vnc:
        graphics = etree.Element("graphics", type="vnc", port="-1", autoport="yes", listen=_VNC_ADDRESS)
        etree.SubElement(graphics, "listen", type="address", address=_VNC_ADDRESS)
        yield graphics
    yield _video(hardware)
    if hardware.watchdog_action != "disabled":
        yield etree.Element("watchdog", model="i6300esb", action=hardware.watchdog_action)
    balloon = etree.Element("memballoon", model="virtio" if hardware.mem_balloon else "none")
    if hardware.mem_stats_period_s is not None:
        etree.SubElement(balloon, "stats", period=str(hardware.mem_stats_period_s))
    yield balloon
    if hardware.rng_allowed:
        yield _random_numbers(hardware)


def _video(hardware: Hardware) -> etree._Element:
    video = etree.Element("video")
    model = etree.SubElement(video, "model", type=hardware.video)
    if hardware.video in VIDEO_WITH_MEMORY and hardware.video_ram_mib is not None:
        model.set("vram", str(hardware.video_ram_mib * _KIB_PER_MIB))
    return video


def _random_numbers(hardware: Hardware) -> etree._Element:
    rng = etree.Element("rng", model="virtio")
    if hardware.rng_rate_bytes is not None:
        period = str(hardware.rng_rate_period_ms)
        etree.SubElement(rng, "rate", bytes=str(hardware.rng_rate_bytes), period=period)
    etree.SubElement(rng, "backend", model="random").text = _RANDOM_NUMBERS
    return rng


def _cpu_tuning(quota: Quota, placement: Placement) -> etree._Element:
    tuning = etree.Element("cputune")
    for name, value in (("shares", quota.cpu_shares), ("period", quota.cpu_period_us), ("quota", quota.cpu_quota_us)):
        if value is not None:
            etree.SubElement(tuning, name).text = str(value)
    for number, cpu in enumerate(placement.dedicated_cpus):
        etree.SubElement(tuning, "vcpupin", vcpu=str(number), cpuset=str(cpu))
    if placement.dedicated_cpus:
        cpus = ",".join(str(cpu) for cpu in sorted(placement.dedicated_cpus))
        etree.SubElement(tuning, "emulatorpin", cpuset=cpus)
    return tuning


def _yes_or_no(wanted: bool) -> str:  # noqa: FBT001  # libvirt's words for it
    return "yes" if wanted else "no"
