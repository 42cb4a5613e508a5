"""For each operation a request that says something of every kind."""

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
    "root_disk": {"format": "raw", "flat": True},
    "ephemerals": [{"size_gib": 1, "guest_format": "vfat"}],
    "swap_mib": 64,
    "preallocate_images": "space",
    "boot": {"kernel": "/images/vmlinuz", "initrd": "/images/initrd", "cmdline": "console=ttyS0"},
    "volumes": [{"id": "v1", "kind": "file", "path": "/volumes/v1", "format": "raw"}],
    "interfaces": [{"id": "i1", "bridge": "br0", "mac": "52:54:00:00:00:01", "mtu": 1500, "queues": 2}],
    "hardware": {
        "cpu_mode": "custom",
        "cpu_model": "Nehalem",
        "cpu_model_extra_flags": ["aes"],
        "cpu_sockets": 2,
        "machine_type": "q35",
        "disk_bus": "scsi",
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
    "config_drive": "nocloud",
    "hostname": "a-guest",
    "user_data": {"secret": "user"},
    "ssh_keys": ["ssh-ed25519 AAAA somebody"],
    "metadata": {"role": "db"},
    "vendor_data": {"secret": "vendor"},
    "network_config": {"version": 2, "ethernets": {"eth0": {"dhcp4": True}}},
    "timeout_s": 60,
}

_INTERFACE = {
    "id": "i1",
    "bridge": "br0",
    "mac": "52:54:00:00:00:01",
    "model": "virtio",
    "mtu": 1500,
    "queues": 2,
}
#: An attach's two other kinds of volume stand under names of their own.
WHOLE_REQUESTS: dict[str, tuple[dict[str, Any], ...]] = {
    "spawn": (WHOLE,),
    "destroy": ({"version": 1},),
    "attach_volume": (
        {"volume": {"id": "v1", "kind": "file", "path": "/volumes/v1", "format": "qcow2", "read_only": True}},
        {"volume": {"id": "v1", "kind": "block", "path": "/dev/vg/v1", "read_only": False}},
        {"volume": {"id": "v1", "kind": "nbd", "host": "storage", "port": 10809, "export": "v1", "read_only": True}},
        {"volume": {"id": "v1", "kind": "nbd", "socket": "/volumes/v1.sock", "export": "v1"}},
    ),
    "detach_volume": ({"volume_id": "v1", "attempts": 8, "timeout_s": 20.0},),
    "attach_interface": ({"interface": _INTERFACE},),
    "detach_interface": ({"interface_id": "i1", "attempts": 8, "timeout_s": 20.0},),
    "migrate": (
        {
            "destination": "h2",
            "bandwidth_mib_s": 100,
            "post_copy": True,
            "auto_converge": True,
            "completion_timeout_s_per_gib": 800,
            "on_timeout": "abort",
            "downtime_ms": 500,
            "downtime_steps": 10,
            "downtime_delay_s_per_gib": 75,
        },
    ),
    "start": ({"timeout_s": 60.0},),
    "stop": ({"timeout_s": 60.0},),
    "reboot": ({"type": "soft", "timeout_s": 60.0},),
    "pause": ({"version": 1},),
    "unpause": ({"version": 1},),
    "suspend": ({"timeout_s": 60.0},),
    "resume": ({"timeout_s": 60.0},),
    "adopt": ({"name": "a guest"},),
    "release": ({"version": 1},),
}
