"""Settings: every default, every refusal with its sentence, and nothing secret shown."""

import os
import re
import socket
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.states import JobClass
from worker.settings import ConfigurationError, Settings, VirtType, load, masked, refuse_half_a_worker

README = Path(__file__).parents[2] / "README.md"
LONG_FOLDER = "/" + "a" * 50
TOO_LONG = (
    f"HOSTLER_STATE_DIR: libvirt's sockets need a shorter path than {LONG_FOLDER}/libvirt (at most 50 characters)."
)
SQLITE_WITH_BROKER = (
    "HOSTLER_DATABASE_URL: a broker is set but the journal is SQLite, which only this machine can read; "
    "set a PostgreSQL URL, or HOSTLER_ALLOW_SQLITE_WITH_BROKER=true if one host is all there is."
)
_ROW = re.compile(r"^\| `(HOSTLER_[A-Z_]+)` \|", re.MULTILINE)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which nothing is set, on a machine with a short name."""
    for name in list(os.environ):
        if name.upper().startswith(("HOSTLER_", "CELERY_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(socket, "gethostname", lambda: "Node-7.example")


def loaded(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    """The settings with these variables in the environment, named without their prefix."""
    for name, value in variables.items():
        monkeypatch.setenv(f"HOSTLER_{name}", value)
    return load()


def refused(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """The sentence with which these variables are refused."""
    with pytest.raises(ConfigurationError) as error:
        refuse_half_a_worker(loaded(monkeypatch, **variables))
    sentence = str(error.value)
    assert re.fullmatch(r"[A-Z][A-Z_]+: [^\n]+[.)]", sentence)
    return sentence


# --- defaults


def test_everything_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """One machine, no service to install or run, nothing to set."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    settings = load()
    assert settings.model_dump() == {
        "state_dir": Path("/var/lib/hostler"),
        "host": "node-7.example",
        "database_url": None,
        "broker_url": None,
        "result_url": None,
        "libvirt_uri": None,
        "image_roots": None,
        "image_urls": "",
        "image_cache_max_gib": 100,
        "image_max_gib": 1024,
        "image_timeout_s": 3600,
        "virt_type": VirtType.AUTO,
        "console_log_max_mib": 2,
        "volume_roots": None,
        "volume_devices": "",
        "nbd_servers": "",
        "secrets_dir": None,
        "peer_libvirt_uri": None,
        "migration_address": None,
        "threads": 32,
        "attach_limit": 4,
        "migrate_limit": 2,
        "power_limit": 8,
        "drift_interval_s": 60.0,
        "spawn_limit": 4,
        "destroy_limit": 8,
        "sweep_interval_s": None,
        "lock_dir": Path("/run/hostler"),
        "start_after_boot": False,
        "allow_sqlite_with_broker": False,
        "retention_days": None,
        "log_level": "INFO",
    }
    assert settings.journal_url == "sqlite:////var/lib/hostler/journal.db"
    assert settings.hypervisor_uri == "qemu:///embed?root=/var/lib/hostler/libvirt"
    assert settings.embedded_root == Path("/var/lib/hostler/libvirt")
    assert settings.results_url is None
    assert settings.roots_of_images == (Path("/var/lib/hostler/images"),)
    assert settings.limits == {
        JobClass.SPAWN: 4,
        JobClass.DESTROY: 8,
        JobClass.ATTACH: 4,
        JobClass.MIGRATE: 2,
        JobClass.POWER: 8,
    }
    assert settings.roots_of_volumes == (Path("/var/lib/hostler/volumes"),)
    assert settings.permitted_nbd_servers == ()
    assert settings.folder_of_secrets == settings.state_dir / "secrets"
    assert settings.address_for_migrations is None


def test_the_address_for_migrations_is_the_peer_uris_unless_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory may go over a network of its own."""
    uri = "qemu+tls://h1.example:16514/system"
    assert loaded(monkeypatch, PEER_LIBVIRT_URI=uri).address_for_migrations == "h1.example"
    apart = loaded(monkeypatch, PEER_LIBVIRT_URI=uri, MIGRATION_ADDRESS="10.1.0.1")
    assert apart.address_for_migrations == "10.1.0.1"


def test_servers_and_roots_are_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blanks and empty parts mean nothing."""
    told = loaded(monkeypatch, NBD_SERVERS="a:10809, b,,", VOLUME_ROOTS="/srv/volumes:/dev/mapper")
    assert told.permitted_nbd_servers == ("a:10809", "b")
    assert told.roots_of_volumes == (Path("/srv/volumes"), Path("/dev/mapper"))


def test_a_user_keeps_everything_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root's rights the state folder is the user's own."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/jo"))
    assert load().state_dir == Path("/home/jo/hostler-state")


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a compose file leaves them."""
    assert loaded(monkeypatch, BROKER_URL="", THREADS="").broker_url is None


def test_settings_do_not_change() -> None:
    """They are read once."""
    settings = load()
    with pytest.raises(ValidationError):
        settings.threads = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("variables", "results"),
    [
        ({"BROKER_URL": "redis://r/0"}, "redis://r/0"),
        ({"BROKER_URL": "rediss://r/0"}, "rediss://r/0"),
        ({"BROKER_URL": "amqp://a//"}, "rpc://"),
        ({"BROKER_URL": "sqs://"}, None),
        ({"BROKER_URL": "amqp://a//", "RESULT_URL": "redis://r/1"}, "redis://r/1"),
        ({"BROKER_URL": "redis://r/0", "RESULT_URL": "redis://r/1"}, "redis://r/1"),
    ],
    ids=["redis", "redis with TLS", "rabbit alone", "another", "rabbit and redis", "two redis"],
)
def test_results_go_to_the_broker_where_it_can_hand_them_on(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], results: str | None
) -> None:
    """Unless they are sent elsewhere."""
    settings = loaded(monkeypatch, DATABASE_URL="postgresql+psycopg://h/d", **variables)
    assert settings.results_url == results


def test_devices_for_volumes_are_listed_by_their_full_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else is started with."""
    names = loaded(monkeypatch, VOLUME_DEVICES="/dev/vg0/volume-*, /dev/disk/by-path/pci-0000:00,")
    assert names.permitted_volume_devices == ("/dev/vg0/volume-*", "/dev/disk/by-path/pci-0000:00")
    for name in ("sda", "/dev/../sda", "/dev//sda", "/dev/"):
        with pytest.raises(ConfigurationError, match=r"^HOSTLER_VOLUME_DEVICES: "):
            refuse_half_a_worker(loaded(monkeypatch, VOLUME_DEVICES=name))


def test_prefixes_of_image_urls_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """None by default."""
    assert loaded(monkeypatch).permitted_image_urls == ()
    urls = loaded(monkeypatch, IMAGE_URLS="https://a/b/, http://10.0.0.1:80,").permitted_image_urls
    assert urls == ("https://a/b/", "http://10.0.0.1:80")


@pytest.mark.parametrize("prefix", ["images.example", "file:///images", "https://a/?b", "https://", "https://u@a/"])
def test_a_worker_with_a_wrong_prefix_refuses_to_start(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    """And names the variable."""
    with pytest.raises(ConfigurationError, match=r"^HOSTLER_IMAGE_URLS: "):
        refuse_half_a_worker(loaded(monkeypatch, IMAGE_URLS=prefix))


def test_image_roots_are_separated_by_colons(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in PATH."""
    assert loaded(monkeypatch, IMAGE_ROOTS="/a:/b:").roots_of_images == (Path("/a"), Path("/b"))


@pytest.mark.parametrize("uri", ["qemu:///system", "qemu:///embed", "test:///default?root=/a"])
def test_only_the_embedded_driver_has_a_root(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    """A daemon's state is its own."""
    assert loaded(monkeypatch, LIBVIRT_URI=uri).embedded_root is None


# --- refusals


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"NOSUCH": "1"}, "HOSTLER_NOSUCH: there is no such setting."),
        ({"STATE_DIR": "here"}, "HOSTLER_STATE_DIR: the path is not absolute."),
        (
            {"HOST": "Not A Host"},
            "HOSTLER_HOST: 'Not A Host' is no host name: lower-case letters, digits, dots and dashes, at most 63.",
        ),
        (
            {"BROKER_URL": "redis://r/0"},
            SQLITE_WITH_BROKER,
        ),
        (
            {"THREADS": "29"},
            "HOSTLER_THREADS: 29 threads are fewer than all limits together and 4 more to take messages with (30).",
        ),
        (
            {"THREADS": "many"},
            "HOSTLER_THREADS: Input should be a valid integer, unable to parse string as an integer.",
        ),
        ({"SPAWN_LIMIT": "0"}, "HOSTLER_SPAWN_LIMIT: Input should be greater than or equal to 1."),
        ({"VIRT_TYPE": "xen"}, "HOSTLER_VIRT_TYPE: Input should be 'auto', 'kvm' or 'qemu'."),
        ({"LOG_LEVEL": "LOUD"}, "HOSTLER_LOG_LEVEL: String should match pattern '^(DEBUG|INFO|WARNING|ERROR)$'."),
        ({"SWEEP_INTERVAL_S": "0"}, "HOSTLER_SWEEP_INTERVAL_S: Input should be greater than or equal to 0.05."),
        (
            {"STATE_DIR": LONG_FOLDER},
            TOO_LONG,
        ),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else None,
)
def test_what_cannot_be_used_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], sentence: str
) -> None:
    """In one sentence that names the variable."""
    assert refused(monkeypatch, **variables) == sentence


def test_a_host_name_that_the_machine_has_may_be_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence tells which variable sets another."""
    monkeypatch.setattr(socket, "gethostname", lambda: "my_machine")
    assert refused(monkeypatch).startswith("HOSTLER_HOST: 'my_machine' is no host name")


def test_sqlite_with_a_broker_may_be_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """One host, one worker, and somebody who said so."""
    assert loaded(monkeypatch, BROKER_URL="redis://r/0", ALLOW_SQLITE_WITH_BROKER="true").broker_url == "redis://r/0"


@pytest.mark.parametrize("name", ["CELERY_BROKER_URL", "CELERY_TASK_ALWAYS_EAGER"])
def test_variables_of_celery_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Celery would silently obey them."""
    monkeypatch.setenv(name, "1")
    assert refused(monkeypatch) == f"{name}: Celery would silently obey it; unset it and use HOSTLER_ variables."


def test_a_refusal_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was set is not repeated."""
    assert "secret" not in refused(monkeypatch, BROKER_URL="redis://:secret@r/0")


# --- what is shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@r:6379/0", "redis://:***@r:6379/0"),
        ("amqp://jo:secret@a:5672/v", "amqp://jo:***@a:5672/v"),
        ("postgresql+psycopg://jo:se%40cret@h/d", "postgresql+psycopg://jo:***@h/d"),
        ("postgresql+psycopg://jo:secret@with-at@h/d", "postgresql+psycopg://jo:***@h/d"),
        ("postgresql+psycopg://jo@h/d", "postgresql+psycopg://jo@h/d"),
        ("sqlite:////var/lib/hostler/journal.db", "sqlite:////var/lib/hostler/journal.db"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    """The rest of the URL can be read."""
    assert masked(url) == shown


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://h/d?user=jo&password=secret", "rediss://r/0?password=secret&ssl_cert_reqs=required"]
)
def test_passwords_among_the_parameters_are_masked(url: str) -> None:
    """They are as secret there as before the host's name."""
    assert "secret" not in masked(url)


def test_the_first_line_names_all_four_and_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Journal, doorbell, results and hypervisor."""
    settings = loaded(
        monkeypatch,
        STATE_DIR="/s",
        HOST="h1",
        DATABASE_URL="postgresql+psycopg://jo:secret@db/hostler",
        BROKER_URL="amqp://jo:secret@mq//",
        RESULT_URL="redis://:secret@r/1",
        LIBVIRT_URI="qemu:///system",
    )
    assert settings.summary() == (
        "host h1: journal postgresql+psycopg://jo:***@db/hostler, doorbell amqp://jo:***@mq//, "
        "results redis://:***@r/1, hypervisor qemu:///system"
    )


def test_the_first_line_says_what_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """No doorbell and no results, on one machine."""
    assert "doorbell none (the sweeper finds jobs), results none" in loaded(monkeypatch, STATE_DIR="/s").summary()


# --- the documentation


def test_every_setting_says_what_it_is() -> None:
    """In a description that a reader and a table can use."""
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.skipif(not README.exists(), reason="there is no README.md")
def test_the_readme_lists_every_setting_and_no_other() -> None:
    """One table, compared with the code."""
    rows = _ROW.findall(README.read_text())
    assert sorted(rows) == sorted(f"HOSTLER_{name.upper()}" for name in Settings.model_fields)


def test_a_worker_that_is_rung_sweeps_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is told goes before."""
    assert loaded(monkeypatch).sweeps_every_s == 0.5
    assert loaded(monkeypatch, BROKER_URL="redis://broker").sweeps_every_s == 5.0
    assert loaded(monkeypatch, SWEEP_INTERVAL_S="2").sweeps_every_s == 2.0
