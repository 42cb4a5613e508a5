"""Requests: parsed once, at the edge; bad input gets one sentence that names the field."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError


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
        field = ".".join(str(part) for part in first["loc"]) or "request"
        message = first["msg"].removeprefix("Value error, ")
        raise BadRequestError(f"{field}: {message[:1].lower()}{message[1:]}.") from None
