"""Guests of one image that their host fetches: what is asked for, and what is seen of it in the host's cache."""

import json
from typing import Any
from uuid import UUID

from tests.lab.site import Site
from worker.host.headers import qcow2_header

#: Many at once, on a machine that has other things to do.
WITHIN_S = 120.0


def tiny(**image: str) -> dict[str, Any]:
    """A guest of the image that comes no further than its firmware, in the least memory."""
    return {"name": "tiny", "memory_mib": 16, "image": image, "hardware": {"pcie_ports": 0}}


def bases(site: Site) -> list[str]:
    """What is in the host's cache, halves included."""
    return [str(path) for path in (site.state / "image-cache").iterdir() if path.name != "lock"]


def base_of(site: Site, instance: UUID) -> str | None:
    """What the instance's root disk is an overlay of."""
    with (site.state / "instances" / str(instance) / "root.qcow2").open("rb") as disk:
        header = qcow2_header(disk.fileno())
    assert header is not None
    return header.backing_path


def pruned(site: Site) -> list[str]:
    """What a prune on the host removes."""
    told = site.hostler("images", "prune", "--json")
    assert told.returncode == 0, told.stderr
    return [entry["path"] for entry in json.loads(told.stdout)["images"]]


def destroyed(site: Site, instances: list[UUID]) -> None:
    """They are gone."""
    for job in [site.accept("destroy", instance, {}) for instance in instances]:
        assert site.settled(job, WITHIN_S)["state"] == "succeeded"
