"""Whether a broker or a result backend answers, asked once and within a deadline."""

from kombu import Connection
from redis.exceptions import RedisError

from worker.settings import masked


class OutOfReachError(Exception):
    """Nobody answers there, or refuses us; the message is one sentence without its full stop."""


def require_answer(url: str, deadline_s: int) -> None:
    """Connect, and leave again. Raises OutOfReachError."""
    options = {"socket_timeout": deadline_s, "socket_connect_timeout": deadline_s} if url.startswith("redis") else {}
    connection = Connection(url, connect_timeout=deadline_s, transport_options=options)
    refusals: tuple[type[BaseException], ...] = (
        OSError,
        RedisError,
        *connection.connection_errors,
        *connection.channel_errors,
    )
    try:
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=deadline_s)
        connection.channel()  # Redis is asked for a ping here, RabbitMQ for a channel
    except refusals as error:
        raise OutOfReachError(f"{masked(url)} does not answer: {' '.join(str(error).split())}") from error
    finally:
        connection.release()
