"""The Celery application: JSON only, rings by name through the default exchange, no ETA, no retries of its own."""

import logging
from typing import Any

from celery import Celery
from celery.backends.base import DisabledBackend
from celery.backends.rpc import RPCBackend
from kombu import Exchange, Queue
from typing_extensions import override

from worker.settings import AMQP, Settings

log = logging.getLogger(__name__)

#: Seconds that a publish or a connection attempt may take on a broker that does not answer.
BROKER_TIMEOUT_S = 5
#: Redis: how often an idle connection is proven; a half-open one is noticed within about five times this.
HEALTH_CHECK_INTERVAL_S = 10
#: Without a broker nothing ever comes; this is how soon Celery's loop notices that it is to stop, in seconds.
MEMORY_POLLING_S = 0.5
#: RabbitMQ's answer to a declaration that differs from what is there (AMQP 0-9-1).
PRECONDITION_FAILED = 406


def queue_name(host: str) -> str:
    """The queue of a host."""
    return f"host.{host}"


#: The queue of what operators ask, which every worker takes from.
OPS_QUEUE = "ops"


#: How the names of the operations' tasks begin.
COMPUTE = "compute."


def task_name(operation: str) -> str:
    """The Celery task of an operation."""
    return f"{COMPUTE}{operation}"


class FoundQueue(Queue):
    """A queue that is used as it is, where somebody else has declared it otherwise."""

    @override
    def queue_declare(self, nowait: bool = False, passive: bool = False, channel: Any = None) -> Any:  # as kombu's
        channel = channel or self.channel
        connection = channel.connection
        if passive or connection.client.transport.driver_type != "amqp":
            return super().queue_declare(nowait=nowait, passive=passive, channel=channel)
        # a refusal closes the channel that it came on
        try:
            with connection.channel() as own:
                return super().queue_declare(nowait=False, passive=False, channel=own)
        except connection.channel_errors as error:
            if getattr(error, "code", None) != PRECONDITION_FAILED:
                raise
            log.warning("the queue %s is used as it was declared by somebody else: %s", self.name, error)
            return None


def named_queue(name: str) -> Queue:
    """The queue as an unconfigured Celery client would declare it, so that either may be first.

    Whether RabbitMQ replicates it (a quorum queue) is its virtual host's choice: the client cannot say it.
    """
    return FoundQueue(name, Exchange(name, type="direct"), routing_key=name)


def keeps_results(app: Celery) -> bool:
    """Whether results are kept somewhere, rather than handed once to whoever sent the job, or to nobody."""
    return not isinstance(app.backend, DisabledBackend | RPCBackend)


def _transport_options(broker_url: str | None) -> dict[str, Any]:
    if broker_url is None:
        return {"polling_interval": MEMORY_POLLING_S}
    if broker_url.startswith(AMQP):
        return {"confirm_publish": True, "read_timeout": BROKER_TIMEOUT_S, "write_timeout": BROKER_TIMEOUT_S}
    if not broker_url.startswith("redis"):
        return {}
    return {
        "socket_timeout": BROKER_TIMEOUT_S,
        "socket_connect_timeout": BROKER_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK_INTERVAL_S,
    }


def build_app(settings: Settings) -> Celery:
    """The application, for a worker and for whoever rings one."""
    app = Celery(
        "hostler",
        broker=settings.broker_url or "memory://localhost",
        backend=settings.results_url,
        set_as_current=False,
    )
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        event_serializer="json",
        result_accept_content=["json"],
        enable_utc=True,
        task_queues=[named_queue(queue_name(settings.host)), named_queue(OPS_QUEUE)],
        task_default_queue=queue_name(settings.host),
        task_acks_late=True,  # the task acknowledges by itself, once the job is recorded
        task_track_started=False,  # STARTED is written by the claim
        worker_consumer="worker.celery_app.consuming:SturdyConsumer",
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        worker_redirect_stdouts=False,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=_transport_options(settings.broker_url),
        result_backend_transport_options=_transport_options(settings.results_url) if settings.results_url else {},
        redis_socket_timeout=BROKER_TIMEOUT_S,
        redis_socket_connect_timeout=BROKER_TIMEOUT_S,
        # Celery hands this on to a UNIX socket, too, which refuses it
        redis_socket_keepalive=not (settings.results_url or "").startswith("redis+socket"),
        redis_backend_health_check_interval=HEALTH_CHECK_INTERVAL_S,
        worker_enable_remote_control=settings.broker_url is not None,
    )
    return app
