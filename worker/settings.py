"""Settings: the only reader of the environment. Each variable is ``HOSTLER_`` and a field's name in capitals."""

import os
import re
import socket
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.states import JobClass
from tasks.requests.images import plain_url

PREFIX = "HOSTLER_"
#: A DNS label or name, at most 63 characters, so that it can stand in a queue's name and a URI.
HOST_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
#: How often a worker looks for jobs that nobody rings for, and for those whose ring was lost, in seconds.
UNRUNG_SWEEP_S, RUNG_SWEEP_S = 0.5, 5.0
#: Threads that no class limit may take: they record rings while all slots are busy.
RESERVE_THREADS = 4
#: libvirt puts a monitor socket below the root; a socket's path has at most 107 bytes (sockaddr_un).
EMBEDDED_ROOT_MAX_LENGTH = 50


#: How the URL of a RabbitMQ begins, with and without TLS.
AMQP = ("amqp://", "amqps://", "pyamqp://")
#: Celery's result backend that hands each result, by the broker, to whoever sent the task.
RESULTS_BY_BROKER = "rpc://"

_SECRET_PARAMETER = re.compile(r"([?&][^=&]*(?:pass|secret|token)[^=&]*=)[^&]*", re.IGNORECASE)


class ConfigurationError(Exception):
    """The configuration cannot be used; the message is one sentence naming the variable."""


class VirtType(StrEnum):
    """How guests run."""

    AUTO = "auto"
    KVM = "kvm"
    QEMU = "qemu"


def _default_state_dir() -> Path:
    return Path("/var/lib/hostler") if os.geteuid() == 0 else Path.home() / "hostler-state"


def masked(url: str) -> str:
    """The URL with its passwords masked, also those among its parameters, as it may be shown."""
    parts = urlsplit(url)
    if parts.password is not None:
        url = url.replace(f":{parts.password}@", ":***@", 1)
    return _SECRET_PARAMETER.sub(r"\1***", url)


class Settings(BaseSettings):
    """What this process was told. Everything has a default: one machine, no service to install or run."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    state_dir: Path = Field(
        default_factory=_default_state_dir,
        description="folder of everything this host keeps: `/var/lib/hostler` for root, `~/hostler-state` otherwise",
    )
    host: str = Field(
        default_factory=lambda: socket.gethostname().lower(),
        description="this host's name, and its queue's: `host.NAME`; the machine's host name by default",
    )
    database_url: str | None = Field(
        default=None,
        description="the journal: `sqlite:///FILE` (default: `journal.db` in the state folder) or `postgresql+psycopg://…`",
    )
    broker_url: str | None = Field(default=None, description="the doorbell: `redis://…` or `amqp://…`; none by default")
    result_url: str | None = Field(
        default=None,
        description="where Celery results go; by default the broker: Redis keeps them, RabbitMQ (`rpc://`) hands each "
        "to the client that sent the job",
    )
    libvirt_uri: str | None = Field(
        default=None,
        description="the hypervisor: `qemu:///system`; by default the driver embedded in the worker, with its root "
        "in the state folder",
    )
    image_roots: str | None = Field(
        default=None,
        description="folders that images, kernels and initrds may be read from, separated by `:`; `images` in the "
        "state folder by default",
    )
    image_urls: str = Field(
        default="",
        description="prefixes of `http://` and `https://` URLs that images may be fetched from, separated by commas; "
        "loopback and link-local addresses only where a prefix names the address itself; none by default",
    )
    image_cache_max_gib: int = Field(
        default=100, ge=1, le=1024 * 1024, description="how large the cache of fetched images may become, in GiB"
    )
    image_max_gib: int = Field(
        default=1024, ge=1, le=64 * 1024, description="how large an image's file, and its virtual disk, may be, in GiB"
    )
    image_timeout_s: float = Field(
        default=3600, ge=1, le=7 * 86400, description="how long the fetch of one image may take, in seconds"
    )
    volume_roots: str | None = Field(
        default=None,
        description="folders that volumes of the kind `file`, and NBD sockets, may be in, separated by `:`; `volumes` "
        "in the state folder by default",
    )
    volume_devices: str = Field(
        default="",
        description="block devices that volumes of the kind `block` may be, by their full names, separated by commas; "
        "`*` stands for a part of a name (`/dev/vg0/volume-*`); none by default",
    )
    nbd_servers: str = Field(
        default="",
        description="NBD servers that volumes may be on, `HOST` or `HOST:PORT`, separated by commas; `*`: any; none by "
        "default",
    )
    secrets_dir: Path | None = Field(
        default=None,
        description="folder of the secrets that requests name, each a file of mode 0600; `secrets` in the state folder "
        "by default",
    )
    peer_libvirt_uri: str | None = Field(
        default=None,
        description="how other hosts reach this host's libvirtd, to migrate guests to it: `qemu+tls://HOST/system`; by "
        "default they do not",
    )
    migration_address: str | None = Field(
        default=None,
        description="where other hosts send their guests' memory and disks: the name or address in "
        "`HOSTLER_PEER_LIBVIRT_URI` by default",
    )
    virt_type: VirtType = Field(
        default=VirtType.AUTO,
        description="`kvm`, `qemu` (emulation), or `auto`: kvm where `/dev/kvm` opens; without it the embedded driver "
        "emulates, with a warning, and `qemu:///system` refuses spawns",
    )
    console_log_max_mib: int = Field(
        default=2,
        ge=1,
        le=1024,
        description="how long a guest's console log may become, in MiB, and an older one beside it; virtlogd, where it "
        "writes them, keeps bounds of its own",
    )
    threads: int = Field(default=32, ge=2, le=512, description="threads that take messages")
    spawn_limit: int = Field(default=4, ge=1, le=256, description="spawns that run at once")
    destroy_limit: int = Field(default=8, ge=1, le=256, description="destroys that run at once")
    attach_limit: int = Field(
        default=4, ge=1, le=256, description="attaches and detaches, of volumes and interfaces, that run at once"
    )
    migrate_limit: int = Field(default=2, ge=1, le=256, description="migrations, in and out, that run at once")
    power_limit: int = Field(
        default=8, ge=1, le=256, description="starts, stops, reboots, pauses and suspends that run at once"
    )
    drift_interval_s: float = Field(
        default=60.0, ge=0.1, le=3600.0, description="how often host and journal are compared, in seconds"
    )
    start_after_boot: bool = Field(
        default=False,
        description="`true`: guests that ran when their host went down are started, by jobs, after it has booted",
    )
    sweep_interval_s: float | None = Field(
        default=None,
        ge=0.05,
        le=60,
        description="how often the worker looks for jobs that could be claimed, in seconds; 0.5 without a broker, 5 "
        "with one, which rings",
    )
    lock_dir: Path = Field(
        default=Path("/run/hostler"),
        description="local folder of the lock that one worker per libvirt driver holds; the embedded driver's is in "
        "its root",
    )
    allow_sqlite_with_broker: bool = Field(
        default=False, description="`true`: a broker with SQLite is meant (one host, one worker)"
    )
    retention_days: int | None = Field(
        default=None,
        ge=1,
        le=36_500,
        description="days after its end that a job's request, steps and history are kept; what it came to always is; "
        "for ever by default",
    )
    log_level: str = Field(
        default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="least severe line that is logged"
    )

    @property
    def journal_url(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.state_dir / 'journal.db'}"

    @property
    def hypervisor_uri(self) -> str:
        """The libvirt URI."""
        return self.libvirt_uri or f"qemu:///embed?root={self.state_dir / 'libvirt'}"

    @property
    def embedded_root(self) -> Path | None:
        """The root of the embedded driver; None for a daemon's."""
        parts = urlsplit(self.hypervisor_uri)
        root = dict(part.split("=", 1) for part in parts.query.split("&") if "=" in part).get("root")
        return Path(root) if parts.path == "/embed" and root else None

    @property
    def results_url(self) -> str | None:
        """Where Celery results go, if anywhere."""
        if self.result_url is not None or self.broker_url is None:
            return self.result_url
        if self.broker_url.startswith("redis"):
            return self.broker_url
        return RESULTS_BY_BROKER if self.broker_url.startswith(AMQP) else None

    @property
    def roots_of_images(self) -> tuple[Path, ...]:
        """The folders that images may be read from."""
        if self.image_roots is None:
            return (self.state_dir / "images",)
        return tuple(Path(root) for root in self.image_roots.split(":") if root)

    @property
    def permitted_image_urls(self) -> tuple[str, ...]:
        """The prefixes of URLs that images may be fetched from; raises ConfigurationError when one cannot be one."""
        prefixes = tuple(prefix.strip() for prefix in self.image_urls.split(",") if prefix.strip())
        for prefix in prefixes:
            try:
                parts = urlsplit(plain_url(prefix))
            except ValueError as error:
                raise ConfigurationError(f"HOSTLER_IMAGE_URLS: {prefix!r} cannot be a prefix: {error}.") from None
            if parts.scheme == "file" or parts.query:
                raise ConfigurationError(f"HOSTLER_IMAGE_URLS: {prefix!r} is not http(s)://SERVER[:PORT]/[PATH].")
        return prefixes

    @property
    def roots_of_volumes(self) -> tuple[Path, ...]:
        """The folders that volumes may be in."""
        if self.volume_roots is None:
            return (self.state_dir / "volumes",)
        return tuple(Path(root) for root in self.volume_roots.split(":") if root)

    @property
    def folder_of_secrets(self) -> Path:
        """The folder that secrets are read from."""
        return self.secrets_dir or self.state_dir / "secrets"

    @property
    def permitted_volume_devices(self) -> tuple[str, ...]:
        """The block devices that volumes may be; raises ConfigurationError when a name cannot be one."""
        names = tuple(name.strip() for name in self.volume_devices.split(",") if name.strip())
        for name in names:
            if not name.startswith("/") or os.path.normpath(name) != name:
                raise ConfigurationError(f"HOSTLER_VOLUME_DEVICES: {name!r} is no full name of a device.")
        return names

    @property
    def permitted_nbd_servers(self) -> tuple[str, ...]:
        """The NBD servers that volumes may be on."""
        return tuple(server.strip() for server in self.nbd_servers.split(",") if server.strip())

    @property
    def address_for_migrations(self) -> str | None:
        """Where other hosts send their guests' memory; None: nowhere."""
        if self.migration_address is not None or self.peer_libvirt_uri is None:
            return self.migration_address
        return urlsplit(self.peer_libvirt_uri).hostname

    @property
    def sweeps_every_s(self) -> float:
        """How often the worker looks for jobs, in seconds."""
        if self.sweep_interval_s is not None:
            return self.sweep_interval_s
        return UNRUNG_SWEEP_S if self.broker_url is None else RUNG_SWEEP_S

    @property
    def retention(self) -> timedelta | None:
        """How long jobs are kept whole after their end; None: for ever."""
        return None if self.retention_days is None else timedelta(days=self.retention_days)

    @property
    def limits(self) -> dict[JobClass, int]:
        """How many jobs of each class run at once."""
        return {
            JobClass.SPAWN: self.spawn_limit,
            JobClass.DESTROY: self.destroy_limit,
            JobClass.ATTACH: self.attach_limit,
            JobClass.MIGRATE: self.migrate_limit,
            JobClass.POWER: self.power_limit,
        }

    def summary(self) -> str:
        """What the worker's first line says: journal, doorbell, results and hypervisor, passwords masked."""
        return (
            f"host {self.host}: journal {masked(self.journal_url)}, "
            f"doorbell {masked(self.broker_url) if self.broker_url else 'none (the sweeper finds jobs)'}, "
            f"results {masked(self.results_url) if self.results_url else 'none'}, "
            f"hypervisor {self.hypervisor_uri}"
        )


@dataclass(frozen=True)
class Supervisor:
    """What a supervisor such as systemd told this process; see sd_notify(3) and sd_watchdog_enabled(3)."""

    notify_socket: str | None = None
    watchdog_s: float | None = None  #: how long it waits for a sign of life; None: it does not


def supervisor() -> Supervisor:
    """The supervisor of this very process; what was meant for a parent of it does not count."""
    told, whom = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    mine = not whom or whom == str(os.getpid())
    watchdog_s = int(told) / 1e6 if told.isdigit() and int(told) > 0 and mine else None
    return Supervisor(os.environ.get("NOTIFY_SOCKET") or None, watchdog_s)


def load() -> Settings:
    """The settings in the environment; raises ConfigurationError with one sentence naming the variable."""
    for name in sorted(os.environ):
        if name.startswith("CELERY_"):
            raise ConfigurationError(f"{name}: Celery would silently obey it; unset it and use {PREFIX} variables.")
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            raise ConfigurationError(f"{name}: there is no such setting.")
    try:
        settings = Settings()
    except ValidationError as error:
        first: Any = error.errors(include_url=False)[0]
        raise ConfigurationError(f"{PREFIX}{str(first['loc'][0]).upper()}: {first['msg']}.") from None
    if not HOST_NAME.fullmatch(settings.host):
        raise ConfigurationError(
            f"HOSTLER_HOST: {settings.host!r} is no host name: lower-case letters, digits, dots and dashes, at most 63."
        )
    if not settings.state_dir.is_absolute():
        raise ConfigurationError("HOSTLER_STATE_DIR: the path is not absolute.")
    if not settings.folder_of_secrets.is_absolute():
        raise ConfigurationError("HOSTLER_SECRETS_DIR: the path is not absolute.")
    return settings


def refuse_half_a_worker(settings: Settings) -> None:
    """Raise ConfigurationError with one sentence if a worker could not serve its host whole with these settings."""
    _ = settings.permitted_image_urls, settings.permitted_volume_devices  # reading them checks them
    if settings.broker_url and settings.journal_url.startswith("sqlite") and not settings.allow_sqlite_with_broker:
        raise ConfigurationError(
            "HOSTLER_DATABASE_URL: a broker is set but the journal is SQLite, which only this machine can read; "
            "set a PostgreSQL URL, or HOSTLER_ALLOW_SQLITE_WITH_BROKER=true if one host is all there is."
        )
    reserved = sum(settings.limits.values()) + RESERVE_THREADS
    if settings.threads < reserved:
        raise ConfigurationError(
            f"HOSTLER_THREADS: {settings.threads} threads are fewer than all limits together and {RESERVE_THREADS} "
            f"more to take messages with ({reserved})."
        )
    root = settings.embedded_root
    if root is not None and len(str(root)) > EMBEDDED_ROOT_MAX_LENGTH:
        raise ConfigurationError(
            f"HOSTLER_STATE_DIR: libvirt's sockets need a shorter path than {root} "
            f"(at most {EMBEDDED_ROOT_MAX_LENGTH} characters)."
        )
