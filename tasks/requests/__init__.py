"""Requests: parsed once, at the edge; bad input gets one sentence that names the field."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

#: The longest name of a field is shorter; what a sender made up is cut.
_NAME_MAX_LENGTH = 64
_SENTENCE_MAX_LENGTH = 400


class BadRequestError(ValueError):
    """The input cannot be a job; the message is one sentence naming the field."""


class Request(BaseModel):
    """What every operation's request has. Unknown fields are refused, values are not coerced."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    version: int = Field(default=1, ge=1, le=1, description="version of the request's own format")


RequestT = TypeVar("RequestT", bound=Request)


def parse(model: type[RequestT], document: Mapping[str, Any]) -> RequestT:
    """The request in ``document``; raises BadRequestError naming the first wrong field."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(shown_name(part) for part in first["loc"]) or "request"
        message = _on_one_line(first["msg"].removeprefix("Value error, "), _SENTENCE_MAX_LENGTH)
        raise BadRequestError(f"{field}: {message[:1].lower()}{message[1:]}.") from None


def shown_name(field: object) -> str:
    """The name of a field as it may stand in a sentence: it may be one that the sender made up."""
    return _on_one_line(str(field), _NAME_MAX_LENGTH)


def _on_one_line(text: str, length: int) -> str:
    """The text as it may stand in a sentence: both a field's name and a part of the message may be the sender's."""
    shown = "".join(each if each.isprintable() else "?" for each in text)
    return shown if len(shown) <= length else f"{shown[: length - 1]}…"
