"""Images that this host has fetched: listed with who needs them, and pruned."""

from typing import TYPE_CHECKING

import click

from worker.cli.exits import OK
from worker.cli.group import JSON_OPTION, console, hostler, print_json, settings

if TYPE_CHECKING:
    from worker.host.images.cache import ImageCache


@hostler.group()
def images() -> None:
    """Images that this host keeps in its cache; run it there, with the worker's settings."""


@images.command("list")
@JSON_OPTION
def list_images(as_json: bool) -> int:
    """List the images in the cache, oldest first, with the instances whose disks need them."""
    from worker.cli import tables
    from worker.cli.documents import image_document

    found = _cache().entries()
    if as_json:
        print_json([image_document(entry) for entry in found])
    else:
        console().print(tables.images(found) if found else "the image cache is empty")
    return OK


@images.command("prune")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@JSON_OPTION
def prune_images(dry_run: bool, as_json: bool) -> int:
    """Remove the images that no disk of this host needs, and fetches that nobody goes on with."""
    from worker.cli.documents import image_document

    removed = _cache().prune(dry_run=dry_run)
    if as_json:
        print_json({"images": [image_document(entry) for entry in removed.images], "parts": list(removed.parts)})
        return OK
    freed_mib = sum(entry.size_bytes for entry in removed.images) / 1024**2
    would = "would be removed" if dry_run else "removed"
    click.echo(f"images {would}: {len(removed.images)}, {freed_mib:.0f} MiB; broken-off fetches: {len(removed.parts)}")
    return OK


def _cache() -> "ImageCache":
    from worker.wiring import build_hypervisor

    return build_hypervisor(settings()).images.cache
