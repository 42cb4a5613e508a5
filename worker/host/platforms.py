"""What guests are made to run on here: KVM or emulation, and the machine with its version."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from models.states import ErrorClass
from tasks.host import HostError, Platform
from worker.host.facts import HostFacts

KVM: Final = "kvm"
EMULATION: Final = "qemu"
KVM_DEVICE: Final = Path("/dev/kvm")
_WHAT_TO_DO: Final = "repair KVM, or set HOSTLER_VIRT_TYPE=qemu to have guests emulated"


class Platforms:
    """The choice, from what the host offers now and what its operator said.

    ``virt_type`` is the operator's word; without one it is KVM, and with ``may_emulate`` emulation where there is none.
    """

    def __init__(
        self,
        facts: Callable[[], HostFacts],
        virt_type: str | None,
        *,
        may_emulate: bool,
        kvm_device: Path = KVM_DEVICE,
    ) -> None:
        self._facts = facts
        self._virt_type = virt_type
        self._may_emulate = may_emulate
        self._kvm_device = kvm_device

    def choose(self, machine_type: str) -> Platform:
        """What a guest that asks for this machine runs on. Raises HostError(PERMANENT) when there is nothing."""
        machines = self._facts().machines
        if machine_type not in machines:
            newest = machines.get("q35", "none")
            message = f"machine_type: this host has no {machine_type}; its q35 is {newest}"
            raise HostError(ErrorClass.PERMANENT, message)
        virt_type, warning = self._choose_virt_type()
        return Platform(virt_type, machines[machine_type], warning)

    def _choose_virt_type(self) -> tuple[str, str | None]:
        if self._virt_type is not None:
            return self._virt_type, None
        lack = lack_of_kvm(self._facts(), self._kvm_device)
        if lack is None:
            return KVM, None
        if not self._may_emulate:
            raise HostError(ErrorClass.PERMANENT, f"this host cannot run guests with KVM ({lack}): {_WHAT_TO_DO}")
        return EMULATION, f"guests are emulated, many times slower than with KVM ({lack})"


def lack_of_kvm(facts: HostFacts, kvm_device: Path = KVM_DEVICE) -> str | None:
    """What keeps guests from running with KVM here, in a few words; None where nothing does."""
    try:
        os.close(os.open(kvm_device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{kvm_device}: {error.strerror}"
    return None if KVM in facts.domain_types else "libvirt offers no domains of the type kvm"
