"""Where on its host a guest runs, as whoever places guests decided, and the NUMA nodes that it sees."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.requests.parts import Part

#: libvirt counts host processors below this.
CpuNumber = Annotated[int, Field(ge=0, le=16_383)]
NodeNumber = Annotated[int, Field(ge=0, le=1023)]


class NumaNode(Part):
    """A NUMA node of the guest."""

    cpus: list[CpuNumber] = Field(min_length=1, max_length=1024, description="its processors, of the guest's, from 0")
    mem_mib: int = Field(ge=1, le=16 * 1024 * 1024, description="its memory, in MiB")
    host_node: NodeNumber | None = Field(default=None, description="the host's node that its memory is from; null: any")


class Placement(Part):
    """Processors, nodes and pages of the host. They are taken as they are told: nothing is chosen here."""

    cpu_policy: Literal["shared", "dedicated"] = Field(
        default="shared", description="dedicated: each processor of the guest runs on the one of dedicated_cpus"
    )
    dedicated_cpus: list[CpuNumber] = Field(
        default=[], max_length=1024, description="processors of the host, one for each of the guest, in order"
    )
    mem_page_size_kib: Literal[2048, 1_048_576] | None = Field(
        default=None, description="size of the huge pages that its memory is made of, in KiB; null: ordinary pages"
    )
    numa_nodes: list[NumaNode] = Field(default=[], max_length=64, description="the NUMA nodes that the guest sees")

    def check(self, vcpus: int, memory_mib: int) -> None:
        """Raise ValueError naming the field that does not fit a guest of that size."""
        if (self.cpu_policy == "dedicated") != bool(self.dedicated_cpus):
            raise ValueError("dedicated_cpus go with the cpu_policy dedicated, and dedicated with dedicated_cpus")
        if self.dedicated_cpus and len(self.dedicated_cpus) != vcpus:
            raise ValueError(f"dedicated_cpus has {len(self.dedicated_cpus)} processors for the {vcpus} of vcpus")
        if len(set(self.dedicated_cpus)) != len(self.dedicated_cpus):
            raise ValueError("two of dedicated_cpus are the same")
        if self.mem_page_size_kib is not None and memory_mib * 1024 % self.mem_page_size_kib:
            raise ValueError(f"memory_mib {memory_mib} is not made of pages of mem_page_size_kib")
        if self.numa_nodes:
            self._check_nodes(vcpus, memory_mib)

    def _check_nodes(self, vcpus: int, memory_mib: int) -> None:
        placed = sorted(cpu for node in self.numa_nodes for cpu in node.cpus)
        if placed != list(range(vcpus)):
            raise ValueError(f"the cpus of numa_nodes are not each of 0 to {vcpus - 1}, once")
        if sum(node.mem_mib for node in self.numa_nodes) != memory_mib:
            raise ValueError(f"the mem_mib of numa_nodes do not make the {memory_mib} of memory_mib")
        if len({node.host_node is None for node in self.numa_nodes}) != 1:
            raise ValueError("either each of numa_nodes has a host_node, or none")
        pages_kib = self.mem_page_size_kib
        if pages_kib is not None and any(node.mem_mib * 1024 % pages_kib for node in self.numa_nodes):
            raise ValueError("the mem_mib of one of numa_nodes is not made of pages of mem_page_size_kib")
