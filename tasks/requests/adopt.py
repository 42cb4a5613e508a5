"""What adopting a domain, and giving it back, ask for."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from tasks.requests import Request
from tasks.requests.parts import printable


class AdoptRequest(Request):
    """The domain that is there under the instance's UUID is to be Hostler's from now on."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(printable)] | None = Field(
        default=None, description="the user's name for the instance; the domain keeps its own"
    )


class ReleaseRequest(Request):
    """The instance's domain is to be Hostler's no longer, and to stay as it is; no field but the version."""
