"""A RabbitMQ of our own, on a free port of the loopback interface, with its own Erlang port mapper (epmd)."""

import json
import os
import pwd
import secrets
import signal
from pathlib import Path
from typing import Any

from kombu import Connection
from typing_extensions import override

from tests.lab.opening import Server
from tests.lab.places import LabIncompleteError, program, scratch_folder
from tests.lab.processes import accepts_connections, free_port

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # what is in PATH refuses other users than its own
#: As an operator finds it, and with the default queue type that README asks for.
PLAIN, QUORUM = "plain", "quorum"
#: RabbitMQ 4 drops a message of a quorum queue at its 21st redelivery; older ones do so where a policy says it.
LIMITED, DELIVERY_LIMIT = "limited", 20
#: It looks this often at what consumers have not acknowledged, in milliseconds; by default every minute.
CHANNEL_TICK_MS = 200


class RabbitmqServer(Server):
    """A private RabbitMQ with a few virtual hosts; it forgets everything when it ends.

    A message that is not acknowledged within ``consumer_timeout_s`` costs its consumer the channel.
    """

    called = "RabbitMQ"
    ready_within_s = 60.0

    def __init__(self, *, consumer_timeout_s: float = 1800) -> None:
        super().__init__()
        self.port = free_port()
        self._consumer_timeout_s = consumer_timeout_s
        self._password = secrets.token_hex(8)

    @override
    def _open(self) -> None:
        self._folder = self._cleanups.enter_context(scratch_folder("rabbitmq"))
        self._cleanups.callback(self.kill)
        self._configure()
        self.start()

    def url(self, virtual_host: str) -> str:
        """The address of a virtual host: `PLAIN`, `QUORUM` or `LIMITED`."""
        return f"amqp://lab:{self._password}@127.0.0.1:{self.port}/{virtual_host}"

    @property
    def log(self) -> str:
        """All that it wrote."""
        return "" if self._process is None else self._process.log

    def start(self) -> None:
        """Start it on the same port as before, and return when it answers."""
        self._refuse_running()
        self._run([*self._as_owner(), SERVER], log=self._folder / "log", env=self._environment(), cwd=self._folder)

    def freeze(self) -> None:
        """Stop its processes until `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for pid in [self.process.pid, *self.process.survivors()]:
            os.kill(pid, number)

    @override
    def _answers(self) -> bool:
        if not accepts_connections(self.port):  # kombu would wait 2 s before it tried again
            return False
        with Connection(self.url(LIMITED), connect_timeout=5) as connection:
            connection.connect()
        return True

    def _environment(self) -> dict[str, str]:
        """Its own folders, names and ports: nothing of the machine's RabbitMQ or Erlang is read, asked or changed."""
        folder = str(self._folder)
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RABBITMQ_", "ERL_")) and name != "HOME"
        }
        return kept | {
            "HOME": folder,  # for Erlang's cookie
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"hostler-lab-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/no-environment",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{folder}/advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/no-plugins",
            "RABBITMQ_PLUGINS_EXPAND_DIR": f"{folder}/plugins",
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{folder}/config",
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": f"{folder}/logs",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            # one scheduler, which does not spin while it waits: the lab's machine is small
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none "
            "-kernel inet_dist_use_interface {127,0,0,1}",
        }

    def _configure(self) -> None:
        settings = {
            "listeners.tcp.1": f"127.0.0.1:{self.port}",
            "load_definitions": str(self._folder / "definitions.json"),
            "consumer_timeout": int(self._consumer_timeout_s * 1000),
            "vm_memory_high_watermark.absolute": "512MB",
            "disk_free_limit.absolute": "1MB",
            "log.console": "true",
            "log.console.level": "info",
        }
        private = {
            "rabbitmq.conf": "".join(f"{key} = {value}\n" for key, value in settings.items()),
            "advanced.config": f"[{{rabbit, [{{channel_tick_interval, {CHANNEL_TICK_MS}}}]}}].\n",
            "definitions.json": json.dumps(self._definitions()),
        }
        for name, text in private.items():
            file = self._folder / name
            file.touch(mode=0o600)
            file.write_text(text)
        if os.geteuid() == 0:
            owner = _owner()
            for path in (self._folder, *(self._folder / name for name in private)):
                os.chown(path, owner.pw_uid, owner.pw_gid)

    def _definitions(self) -> dict[str, Any]:
        """What `rabbitmqctl` would be asked for, at a second for each question."""
        quorum = {"default_queue_type": "quorum"}
        hosts = {PLAIN: {}, QUORUM: quorum, LIMITED: quorum}
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        return {
            "users": [{"name": "lab", "password": self._password, "tags": ""}],
            "vhosts": [{"name": name, "metadata": metadata, **metadata} for name, metadata in hosts.items()],
            "permissions": [{"user": "lab", "vhost": name, **everything} for name in hosts],
            "policies": [
                {
                    "vhost": LIMITED,
                    "name": "as RabbitMQ 4",
                    "pattern": ".*",
                    "apply-to": "queues",
                    "definition": {"delivery-limit": DELIVERY_LIMIT},
                }
            ],
        }

    def _as_owner(self) -> list[str]:
        """Without privileges, as a user of its own."""
        if os.geteuid() != 0:
            return []
        owner = _owner()
        return [program("setpriv"), f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups", "--"]


def _owner() -> pwd.struct_passwd:
    if not SERVER.exists():
        raise LabIncompleteError("rabbitmq-server is not installed: run `make setup`")
    try:
        return pwd.getpwnam("rabbitmq")
    except KeyError:
        return pwd.getpwnam("nobody")
