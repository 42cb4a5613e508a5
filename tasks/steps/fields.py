"""The field of a request that a refusal is about."""

from collections.abc import Iterator
from contextlib import contextmanager

from models.states import ErrorClass
from tasks.host import HostError


@contextmanager
def asked_by(field: str) -> Iterator[None]:
    """Within it, what the host refuses for good is told with the field that asked for it, as other mistakes are."""
    try:
        yield
    except HostError as error:
        if error.error_class is not ErrorClass.PERMANENT:
            raise
        record = error.record
        raise HostError(
            record.error_class,
            f"{field}: {record.message}",
            code=record.code,
            domain=record.domain,
            errno=record.errno,
        ) from error
