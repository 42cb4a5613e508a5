"""The Celery application: JSON only, rings by name through the default exchange, no ETA, no retries of its own."""

from typing import Any

from celery import Celery
from kombu import Exchange, Queue

from worker.settings import Settings

#: Seconds that a publish or a connection attempt may take on a broker that does not answer.
BROKER_TIMEOUT_S = 5
#: Redis: how often an idle connection is proven; a half-open one is noticed within about five times this.
HEALTH_CHECK_INTERVAL_S = 10
#: Without a broker nothing ever comes; this is how soon Celery's loop notices that it is to stop, in seconds.
MEMORY_POLLING_S = 0.5


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


def queue(name: str) -> Queue:
    """The queue as an unconfigured Celery client would declare it, so that either may be first."""
    return Queue(name, Exchange(name, type="direct"), routing_key=name)


def _transport_options(broker_url: str | None) -> dict[str, Any]:
    if broker_url is None:
        return {"polling_interval": MEMORY_POLLING_S}
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
        task_queues=[queue(queue_name(settings.host)), queue(OPS_QUEUE)],
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
