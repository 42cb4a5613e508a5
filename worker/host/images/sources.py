"""Where images come from: files below the image roots, and servers, of which every address is checked first."""

import hashlib
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol
from urllib.parse import unquote, urljoin, urlsplit

import urllib3

from models.states import ErrorClass
from tasks.host import HostError, ImageSource
from worker.host.errors import os_errors
from worker.host.images.addresses import PermittedUrls, port_of, without_query
from worker.host.roots import Roots

MAX_REDIRECTS: Final = 5
CONNECT_TIMEOUT_S: Final = 10.0
#: A server that says nothing for so long is asked again, later.
SILENCE_TIMEOUT_S: Final = 10.0
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
#: What the server says of itself passes; every other status is what it says of the image.
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_ABOUT_RANGES: Final = frozenset({HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE})
_RANGE: Final = re.compile(r"bytes (?:(?P<first>[0-9]+)-[0-9]+|\*)/(?P<total>[0-9]+)")


class CannotGoOnError(Exception):
    """The source has no more behind the offset: what is there of the image is of another one."""


class Reader(Protocol):
    """What gives bytes."""

    def __call__(self, most: int, /) -> bytes:
        """The next bytes, at most so many; empty at the end."""
        ...


@dataclass(frozen=True)
class Opened:
    """An image's bytes, from ``offset`` on. ``validator`` differs once the image does; empty if nothing tells."""

    offset: int
    total: int
    validator: str
    read: Reader


class Sources:
    """Opens what an image's URL names."""

    def __init__(self, roots: Roots, urls: PermittedUrls) -> None:
        self._roots = roots
        self._urls = urls

    def key(self, source: ImageSource) -> str:
        """The key in the cache; see `tasks.host.Images.identify`."""
        if source.sha256 is not None:
            if source.url.startswith("file:"):
                self._roots.path_of(_path(source.url))
            else:
                self._urls.check(source.url)
            return f"sha256-{source.sha256}"
        with self.opened(source, 0, headers_only=True) as opened:
            return key_of(source.url, opened.validator)

    @contextmanager
    def opened(self, source: ImageSource, offset: int, *, headers_only: bool = False) -> Iterator[Opened]:
        """The image from ``offset`` on, or from its beginning where its source cannot do that.

        Raises CannotGoOnError when the image cannot be so long.
        """
        if source.url.startswith("file:"):
            with self._file(source.url, offset) as opened:
                yield opened
            return
        response, url = self._answer(source, offset, "HEAD" if headers_only else "GET")
        with closing(response):
            yield _from_response(response, url, offset)

    @contextmanager
    def _file(self, url: str, offset: int) -> Iterator[Opened]:
        path = _path(url)
        with self._roots.opened(path) as (descriptor, _), os_errors(f"read {path}"):
            status = os.fstat(descriptor)
            if offset > status.st_size:
                raise CannotGoOnError
            os.lseek(descriptor, offset, os.SEEK_SET)
            validator = f"{status.st_dev}-{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"
            yield Opened(offset, status.st_size, validator, lambda most: os.read(descriptor, most))

    def _answer(self, source: ImageSource, offset: int, method: str) -> tuple[urllib3.BaseHTTPResponse, str]:
        url = source.url
        for _ in range(MAX_REDIRECTS + 1):
            response = self._asked(url, offset, method)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or location is None:
                return response, url
            response.close()
            url = urljoin(url, location)
            if url.startswith("http:") and source.sha256 is None:
                raise _refused(f"{without_query(source.url)} leads to plain http, which needs sha256")
        raise _refused(f"{without_query(source.url)} leads on more than {MAX_REDIRECTS} times")

    def _asked(self, url: str, offset: int, method: str) -> urllib3.BaseHTTPResponse:
        parts = self._urls.check(url)
        shown, name, port = without_query(url), parts.hostname or "", port_of(parts)
        headers = {"Host": parts.netloc, "User-Agent": "hostler", "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        failure: Exception | None = None
        for address in self._urls.addresses(parts):
            pool = _pool(parts.scheme, address, port, name)
            try:
                return pool.urlopen(
                    method,
                    target,
                    headers=headers,
                    retries=False,
                    redirect=False,
                    assert_same_host=False,
                    preload_content=False,
                    decode_content=False,
                )
            except urllib3.exceptions.HTTPError as error:
                failure = error
                if isinstance(error, urllib3.exceptions.SSLError):
                    break
            finally:
                pool.close()  # the answer keeps its own connection
        distrust = _distrust(failure)
        if distrust is not None:
            message = f"this host's certificate store does not accept the certificate of {shown}: {distrust}"
            raise _refused(message) from failure
        message = f"could not reach {shown}: {failure or 'it has no address'}"
        raise HostError(ErrorClass.TRANSIENT, message) from failure


def key_of(url: str, validator: str) -> str:
    """The key of an image that is known by where it is and by what tells a change there."""
    if not validator:
        raise _refused(f"{without_query(url)} comes with neither ETag nor Last-Modified: the request must give sha256")
    return f"url-{hashlib.sha256(f'{url} {validator}'.encode()).hexdigest()}"


@contextmanager
def reading(url: str) -> Iterator[None]:
    """Within it a connection that breaks is an error that passes."""
    try:
        yield
    except urllib3.exceptions.HTTPError as error:
        raise HostError(ErrorClass.TRANSIENT, f"the connection to {without_query(url)} broke: {error}") from error


def _path(url: str) -> str:
    return unquote(urlsplit(url).path)


def _pool(scheme: str, address: str, port: int, name: str) -> urllib3.HTTPConnectionPool:
    """Connections to just this address; the server's certificate must be of its name all the same."""
    timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=SILENCE_TIMEOUT_S)
    if scheme == "https":
        return urllib3.HTTPSConnectionPool(
            address,
            port,
            timeout=timeout,
            ssl_context=ssl.create_default_context(),
            server_hostname=name,
        )
    return urllib3.HTTPConnectionPool(address, port, timeout=timeout)


def _distrust(error: Exception | None) -> str | None:
    """What is wrong with the server's certificate, if anything."""
    cause = error.args[0] if isinstance(error, urllib3.exceptions.SSLError) and error.args else None
    return cause.verify_message.rstrip(".") if isinstance(cause, ssl.SSLCertVerificationError) else None


def _from_response(response: urllib3.BaseHTTPResponse, url: str, offset: int) -> Opened:
    shown, headers = without_query(url), response.headers
    if response.status in _PASSING:
        raise HostError(ErrorClass.TRANSIENT, f"{shown} answers {response.status} {response.reason or ''}".rstrip())
    if headers.get("Content-Encoding", "identity") != "identity":
        raise _refused(f"{shown} comes encoded as {headers['Content-Encoding']!r}")
    etag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
    validator = etag or modified
    if response.status == HTTPStatus.OK:
        length = headers.get("Content-Length", "")
        if not length.isdecimal():
            raise _refused(f"{shown} does not say how long it is")
        return Opened(0, int(length), validator, _reader(response, url))
    told = _RANGE.fullmatch(headers.get("Content-Range", ""))
    if (
        response.status == HTTPStatus.PARTIAL_CONTENT
        and told
        and told["first"] is not None
        and int(told["first"]) == offset
    ):
        return Opened(offset, int(told["total"]), validator, _reader(response, url))
    if response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and told and int(told["total"]) == offset:
        return Opened(offset, offset, validator, lambda _most: b"")
    if offset and response.status in _ABOUT_RANGES:
        raise CannotGoOnError
    raise _refused(f"{shown} answers {response.status} {response.reason or ''}".rstrip())


def _reader(response: urllib3.BaseHTTPResponse, url: str) -> Reader:
    def read(most: int) -> bytes:
        with reading(url):
            return bytes(response.read1(most, decode_content=False))

    return read


def _refused(why: str) -> HostError:
    return HostError(ErrorClass.PERMANENT, why)
