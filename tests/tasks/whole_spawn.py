"""A spawn request that says something of every kind."""

from typing import Any
from uuid import UUID

INSTANCE = UUID("6f0c7f9e-0d5c-4b6e-9d52-0a4ad6a3a1d7")
WHOLE: dict[str, Any] = {
    "version": 1,
    "name": "a guest",
    "memory_mib": 512,
    "vcpus": 2,
    "image": {"path": "/images/a.qcow2", "format": "qcow2"},
    "disk_gib": 10,
    "boot": {"kernel": "/images/vmlinuz", "initrd": "/images/initrd", "cmdline": "console=ttyS0"},
    "volumes": [{"id": "v1", "kind": "file", "path": "/volumes/v1", "format": "raw"}],
    "interfaces": [{"id": "i1", "bridge": "br0", "mac": "52:54:00:00:00:01", "mtu": 1500, "queues": 2}],
    "hardware": {
        "cpu_mode": "custom",
        "cpu_model": "Nehalem",
        "cpu_model_extra_flags": ["aes"],
        "cpu_sockets": 2,
        "machine_type": "q35",
        "rng_allowed": True,
        "rng_rate_bytes": 1024,
        "watchdog_action": "reset",
        "pcie_ports": 4,
        "quota": {"cpu_shares": 1024, "cpu_quota_us": 10_000, "disk_read_iops_sec": 100},
        "placement": {
            "cpu_policy": "dedicated",
            "dedicated_cpus": [0, 1],
            "numa_nodes": [{"cpus": [0, 1], "mem_mib": 512, "host_node": 0}],
        },
    },
    "timeout_s": 60,
}
