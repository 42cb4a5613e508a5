"""Giving a message back to its queue, so that it comes again: however often, the broker does not throw it away.

RabbitMQ 4 drops a message of a quorum queue that has come back 20 times, and tells nobody. One that has come back often
is therefore sent anew, which the broker counts from the start, before the old one is acknowledged. Died this worker
between the two, the message came twice, which changes nothing.
"""

import logging
from typing import Any

from celery import Celery
from celery.worker.request import Request

from worker.celery_app.app import BROKER_TIMEOUT_S

log = logging.getLogger(__name__)

#: Header of RabbitMQ's quorum queues: how often the message has come back.
DELIVERIES = "x-delivery-count"
#: Half of what RabbitMQ 4 allows: the rest is for workers that die with the message in hand.
SENT_ANEW_AFTER = 10
#: The properties of a Celery message that mean something to whoever gets it.
_PROPERTIES = ("correlation_id", "reply_to", "delivery_mode", "priority")


def give_back(app: Celery, request: Request) -> None:
    """Have the message come again."""
    if _deliveries(request.message) >= SENT_ANEW_AFTER:
        try:
            _send_anew(app, request.message)
        except Exception as error:  # noqa: BLE001  # whatever the broker's client meets, the old message is still there
            log.warning("a message cannot be sent anew, and goes back once more: %s", error)
        else:
            request.acknowledge()
            return
    request.reject(requeue=True)


def _deliveries(message: Any) -> int:  # noqa: ANN401  # kombu's message
    told = (message.headers or {}).get(DELIVERIES, 0)
    return told if isinstance(told, int) else 0


def _send_anew(app: Celery, message: Any) -> None:  # noqa: ANN401  # kombu's message
    properties = {name: value for name in _PROPERTIES if (value := message.properties.get(name)) is not None}
    if (expiration_ms := message.properties.get("expiration")) is not None:
        properties["expiration"] = int(expiration_ms) / 1000
    headers = {name: value for name, value in message.headers.items() if name != DELIVERIES}
    with app.amqp.producer_pool.acquire(block=True, timeout=BROKER_TIMEOUT_S) as producer:
        producer.publish(
            message.body,
            exchange="",
            routing_key=message.delivery_info["routing_key"],
            content_type=message.content_type,
            content_encoding=message.content_encoding,
            headers=headers,
            retry=False,
            confirm_timeout=BROKER_TIMEOUT_S,
            **properties,
        )
