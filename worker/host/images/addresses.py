"""Which URLs images may be fetched from, and which addresses their servers may have."""

import ipaddress
import socket
from typing import Final
from urllib.parse import SplitResult, urlsplit

from models.states import ErrorClass
from tasks.host import HostError
from tasks.requests.images import plain_url

_PORTS: Final = {"http": 80, "https": 443}
_SETTING: Final = "HOSTLER_IMAGE_URLS"
#: An IPv4 address in the well-known prefix of NAT64 (RFC 6052).
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_PASSING: Final = frozenset({socket.EAI_AGAIN, socket.EAI_SYSTEM})

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def without_query(url: str) -> str:
    """The URL as it may be shown: what is behind ``?`` may be a key."""
    return url.partition("?")[0]


def port_of(parts: SplitResult) -> int:
    """The port that the URL means."""
    return parts.port or _PORTS[parts.scheme]


class PermittedUrls:
    """The configured prefixes. Without one nothing is fetched by http or https.

    A prefix covers what is at its path and below it. Loopback and link-local addresses are used only where a
    prefix names that address itself (or ``localhost``), whatever a name resolves to.
    """

    def __init__(self, prefixes: tuple[str, ...]) -> None:
        self._prefixes = tuple(urlsplit(prefix) for prefix in prefixes)

    def check(self, url: str) -> SplitResult:
        """The URL's parts; HostError(PERMANENT) unless a prefix covers it."""
        try:
            parts = urlsplit(plain_url(url))
        except ValueError as error:
            raise _refused(f"{without_query(url)[:200]!r} cannot be used: {error}") from None
        if not any(_covers(prefix, parts) for prefix in self._prefixes):
            raise _refused(f"{without_query(url)} is below none of the prefixes in {_SETTING}")
        return parts

    def addresses(self, parts: SplitResult) -> tuple[str, ...]:
        """The addresses of the URL's server, of which each may be used; an error unless all may."""
        name, port = parts.hostname or "", port_of(parts)
        try:
            found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        except (socket.gaierror, UnicodeError) as error:
            passing = isinstance(error, socket.gaierror) and error.errno in _PASSING
            error_class = ErrorClass.TRANSIENT if passing else ErrorClass.PERMANENT
            raise HostError(error_class, f"the server {name} cannot be found: {error}") from error
        addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            if _is_of_this_host(address) and not self._lists(name, port):
                raise _refused(
                    f"the server {name} has the address {address}, which is this host's or its link's own: "
                    f"{_SETTING} must name that address for it to be used"
                )
        return addresses

    def _lists(self, name: str, port: int) -> bool:
        """Whether a prefix names just this address."""
        if name != "localhost" and _address(name) is None:
            return False
        return any(prefix.hostname == name and port_of(prefix) == port for prefix in self._prefixes)


def _covers(prefix: SplitResult, parts: SplitResult) -> bool:
    same_server = (prefix.scheme, prefix.hostname) == (parts.scheme, parts.hostname)
    if not same_server or port_of(prefix) != port_of(parts):
        return False
    below = prefix.path.rstrip("/")
    return parts.path == below or parts.path.startswith(f"{below}/")


def _address(name: str) -> Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _is_of_this_host(name: str) -> bool:
    address = _address(name.partition("%")[0])  # a link-local address may name its interface
    if address is None:
        return True  # not an address at all: nothing to be trusted
    if isinstance(address, ipaddress.IPv6Address):
        address = _embedded(address) or address
    return (
        address.is_loopback
        or address.is_link_local
        or address.is_unspecified
        or address.is_multicast
        or address.is_reserved
    )


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets to this one would come to."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


def _refused(why: str) -> HostError:
    return HostError(ErrorClass.PERMANENT, why)
