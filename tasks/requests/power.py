"""What the power operations ask for."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.requests import Request

#: A guest gets at most half an hour for anything here, in seconds.
LONGEST_S = 1800.0

Seconds = Annotated[float, Field(gt=0, le=LONGEST_S, allow_inf_nan=False)]
Grace = Annotated[float, Field(ge=0, le=LONGEST_S, allow_inf_nan=False)]


class StartRequest(Request):
    """The instance's guest is to run."""

    timeout_s: Seconds = Field(default=60.0, description="how long the guest may take until it runs, in seconds")


class StopRequest(Request):
    """The instance's guest is to be off, its disks and definition kept."""

    timeout_s: Grace = Field(
        default=60.0, description="how long the guest may take to shut down, in seconds; 0: it is not asked"
    )


class RebootRequest(Request):
    """The instance's guest is to begin anew, in a new process."""

    type: Literal["soft", "hard"] = Field(default="soft", description="soft: the guest is asked to shut down first")
    timeout_s: Grace = Field(
        default=60.0, description="how long the guest may take to shut down before it is ended, in seconds"
    )


class PauseRequest(Request):
    """The guest's processors are to stand still, its memory kept; no field but the version."""


class UnpauseRequest(Request):
    """The guest's processors are to run on; no field but the version."""


class SuspendRequest(Request):
    """The guest's memory is to be kept on disk, and its process to end."""

    timeout_s: Seconds = Field(default=600.0, description="how long saving its memory may take, in seconds")


class ResumeRequest(Request):
    """The guest is to go on from where it was suspended."""

    timeout_s: Seconds = Field(default=600.0, description="how long loading its memory may take, in seconds")
