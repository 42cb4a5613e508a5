"""Exit statuses of ``hostler``."""

from models.states import JobState

OK = 0
FAILED = 1
BAD_REQUEST = 2
TIMEOUT = 3
QUARANTINED = 4
CANCELLED = 5
OUT_OF_REACH = 6

OF_STATE = {
    JobState.SUCCEEDED: OK,
    JobState.FAILED: FAILED,
    JobState.QUARANTINED: QUARANTINED,
    JobState.CANCELLED: CANCELLED,
}
