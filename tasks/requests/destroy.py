"""What a destroy asks for."""

from pydantic import Field

from tasks.requests import Request
from tasks.requests.power import Grace


class DestroyRequest(Request):
    """The instance and everything of it is to be removed."""

    timeout_s: Grace = Field(
        default=0.0, description="how long the guest may take to shut down before it is ended, in seconds; 0: not asked"
    )
