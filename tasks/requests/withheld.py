"""Parts of a request that nobody is shown: user data, which people put passwords in.

In the request as it is recorded, such a part is ``{"hostler:withheld": DIGEST}``; the part itself is kept beside it,
and ends with the job. The digest tells the same request from another one, and is made so that guessing at it is slow.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from models.records import NOTHING, WITHHELD, Json

#: The fields of any request that are withheld, where they hold more than a secret's name.
WITHHELD_FIELDS: Final = ("user_data", "user_data_base64", "vendor_data")
#: About 50 ms and 16 MiB: what scrypt's author gives for logins.
_SCRYPT: Final = {"n": 2**14, "r": 8, "p": 1}


def withhold(request: Json, job: str) -> tuple[Json, Json]:
    """The request as it may be shown, and the parts that it lacks, by field; none for most requests."""
    parts = {field: request[field] for field in WITHHELD_FIELDS if _is_private(request.get(field))}
    if not parts:
        return request, NOTHING
    marks = {field: {WITHHELD: _digest(part, f"{job}:{field}")} for field, part in parts.items()}
    return {**request, **marks}, parts


def masked(document: object) -> object:
    """A request, or what was sent as one, without any part that may be private: for logs and events of others."""
    if not isinstance(document, Mapping):
        return document
    return {key: "***" if key in WITHHELD_FIELDS and _is_private(part) else part for key, part in document.items()}


def _is_private(part: object) -> bool:
    """Nothing, a secret's name and a mark say nothing; whatever else stands there may be a slip of the sender's."""
    says_nothing = isinstance(part, Mapping) and set(part) in ({"secret"}, {WITHHELD})
    return part is not None and not says_nothing


def _digest(part: Any, salt: str) -> str:  # noqa: ANN401  # it was checked to be text
    return hashlib.scrypt(part.encode(), salt=salt.encode(), dklen=16, **_SCRYPT).hex()
