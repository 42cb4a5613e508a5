"""An image, as a request names it."""

import re
from typing import Annotated, Final, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from tasks.requests.parts import HostPath, Part, printable

_SCHEMES: Final = ("file", "http", "https")
_PLAIN: Final = re.compile(r"[!-~]+")
#: Encoded, these would be read by some as what they stand for, and by others not.
_HIDDEN: Final = re.compile(r"%(2f|5c|00)|\\", re.IGNORECASE)


def plain_url(url: str) -> str:
    """The URL, if it can be compared with a prefix: absolute, with no user, fragment, or way around its own path.

    Raises ValueError with the reason. It is never repeated there: a query may hold what its sender keeps secret.
    """
    if not _PLAIN.fullmatch(url):
        raise ValueError("URL has a character that must be percent-encoded")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # reading it checks it
    except ValueError:
        raise ValueError("URL cannot be read") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"URL begins with none of {', '.join(f'{scheme}:' for scheme in _SCHEMES)}")
    if "@" in parts.netloc:
        raise ValueError("URL holds a user or a password")
    if "#" in url:
        raise ValueError("URL has a fragment")
    if _HIDDEN.search(parts.path) or any(unquote(part) in {".", ".."} for part in parts.path.split("/")):
        raise ValueError("URL's path has dots or slashes that lead elsewhere")
    if parts.scheme == "file":
        if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/") or "?" in url:
            raise ValueError("URL of a file is not file:///PATH")
    elif not parts.hostname:
        raise ValueError("URL names no server")
    return url


class Image(Part):
    """What to make the root disk from: a file that is on the host, or one that the host fetches."""

    path: HostPath | None = Field(
        default=None, description="absolute path on the host, below one of its image roots; the file is used there"
    )
    url: (
        Annotated[
            str,
            StringConstraints(min_length=8, max_length=2048),
            AfterValidator(printable),
            AfterValidator(plain_url),
        ]
        | None
    ) = Field(
        default=None,
        description="instead of `path`: a file (below an image root), http or https URL that the host fetches into "
        "its cache",
    )
    format: Annotated[str, StringConstraints(pattern="^(qcow2|raw|vmdk)$")] = Field(
        default="qcow2",
        description="qcow2, raw or vmdk (monolithicSparse or streamOptimized); must be what the file is",
    )
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")] | None = Field(
        default=None, description="SHA-256 of what `url` gives, in lower-case hexadecimal; plain http needs it"
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.url is None):
            raise ValueError("it needs either path or url")
        if self.path is not None and self.sha256 is not None:
            raise ValueError("sha256 goes with url, not with path")
        if self.url is not None and self.url.startswith("http:") and self.sha256 is None:
            raise ValueError("a plain http url needs sha256")
        return self
