"""What a failed call on a host raises."""

from models.records import ErrorRecord
from models.states import ErrorClass


class HostError(Exception):
    """A call on the host failed; ``record`` says what it means and where it came from."""

    def __init__(
        self,
        error_class: ErrorClass,
        message: str,
        *,
        code: str | None = None,
        domain: str | None = None,
        errno: int | None = None,
    ) -> None:
        super().__init__(message)
        self.record = ErrorRecord(error_class, message, code, domain, errno)

    @property
    def error_class(self) -> ErrorClass:
        """What the error means for the job."""
        return self.record.error_class
