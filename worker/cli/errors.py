"""What an error that ended a command is to its operator: one sentence, and an exit status.

Imported when there is an error to tell, so that a command which ends well need not know them all.
"""

from sqlalchemy.exc import SQLAlchemyError

from models.engine import DatabaseURLError
from models.inventory import HostBoundElsewhereError
from models.journal.accepting import DifferentPayloadError
from tasks.host import HostError
from tasks.requests import BadRequestError
from worker.cli.exits import BAD_REQUEST, OUT_OF_REACH
from worker.host.lock import HostLockedError
from worker.settings import ConfigurationError


def sentence_and_status(error: Exception) -> tuple[str, int] | None:
    """What to say, and the exit status; None for an error that no operator can do anything about."""
    match error:
        case BadRequestError() | ConfigurationError() | DatabaseURLError():
            told = str(error), BAD_REQUEST
        case DifferentPayloadError() | HostBoundElsewhereError():
            told = str(error), BAD_REQUEST
        case HostLockedError():  # it may end, as a doctor does who has the driver for a moment
            told = str(error), OUT_OF_REACH
        case HostError():
            told = f"libvirt: {error}", OUT_OF_REACH
        case SQLAlchemyError():
            first_line = str(getattr(error, "orig", None) or error).splitlines()[0]
            told = f"the journal is out of reach: {first_line}", OUT_OF_REACH
        case UnicodeEncodeError():
            told = "an argument or an answer is not UTF-8 text.", BAD_REQUEST
        case OSError() if not isinstance(error, BrokenPipeError):
            told = str(error), OUT_OF_REACH
        case _:
            return None
    return told
