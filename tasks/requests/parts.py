"""Parts that several requests are made of."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

#: XML 1.0 has no place for control characters, and a title is one line.
_NO_CONTROL_CHARACTERS = re.compile(r"[^\x00-\x1f\x7f\ufffe\uffff\ud800-\udfff]*")


def printable(text: str) -> str:
    """The text, if it can stand in a domain's XML on one line."""
    if not _NO_CONTROL_CHARACTERS.fullmatch(text):
        raise ValueError("Value has a control character")
    return text


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("Path is not absolute")
    return path


HostPath = Annotated[
    str, StringConstraints(min_length=2, max_length=4096), AfterValidator(printable), AfterValidator(_absolute)
]


class Part(BaseModel):
    """A part of a request: unknown fields are refused, values are not coerced."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
