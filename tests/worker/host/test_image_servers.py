"""Image servers that speak https: verified, whatever else is permitted."""

from pathlib import Path

import pytest

from models.states import ErrorClass
from tasks.host import ImageSource
from tests.lab.authority import Authority
from tests.lab.image_server import ImageServer
from tests.worker.host.image_scene import MIB, Scene

CONTENT = bytes(MIB)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody trusts unless told so."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """That authority, trusted by this host as by OpenSSL's own variable."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    return authority


def server_of(authority: Authority, name: str = "127.0.0.1", kind: str = "IP") -> ImageServer:
    """A server on loopback, with one raw image, that shows a certificate of that name."""
    server = ImageServer(certificate=authority.certify(name, kind))
    server.files["/images/a"] = CONTENT
    return server


def test_an_image_comes_over_https_without_a_checksum(trusted: Authority, tmp_path: Path) -> None:
    """Nobody on the way could put another one there; a change at the server is another image."""
    with server_of(trusted) as server:
        scene = Scene(tmp_path, urls=(f"{server.url}/images/",))
        source = ImageSource(f"{server.url}/images/a", "raw")
        image = scene.fetch(source)
        assert Path(image.path).read_bytes() == CONTENT
        assert scene.fetch(source) == image
        assert server.gets == 1
        server.files["/images/a"] = CONTENT * 2
        assert scene.fetch(source).path != image.path


def test_a_certificate_is_of_the_name_although_the_address_is_pinned(trusted: Authority, tmp_path: Path) -> None:
    """The connection goes to the address that was checked, and asks for the name in the URL."""
    with server_of(trusted, "localhost", "DNS") as server:
        url = server.url.replace("127.0.0.1", "localhost")
        assert Scene(tmp_path, urls=(url,)).fetch(ImageSource(f"{url}/images/a", "raw"))


def test_a_certificate_of_another_name_is_refused_for_good(trusted: Authority, tmp_path: Path) -> None:
    """Nothing is asked of that server."""
    with server_of(trusted, "images.example", "DNS") as server:
        sentence = Scene(tmp_path, urls=(server.url,)).refused(ImageSource(f"{server.url}/images/a", "raw"))
        assert "certificate" in sentence
        assert "mismatch" in sentence
        assert server.asked == []


def test_a_certificate_of_an_unknown_authority_is_refused_for_good(authority: Authority, tmp_path: Path) -> None:
    """Also with a checksum: what was asked of it may be a secret."""
    with server_of(authority) as server:
        source = ImageSource(f"{server.url}/images/a?key=secret", "raw", "0" * 64)
        sentence = Scene(tmp_path, urls=(server.url,)).refused(source)
        assert "certificate" in sentence
        assert "secret" not in sentence
        assert server.asked == []


def test_https_that_leads_to_plain_http_needs_a_checksum(trusted: Authority, tmp_path: Path) -> None:
    """As if it had been asked for there."""
    with server_of(trusted) as server, ImageServer() as plain:
        plain.files["/images/a"] = CONTENT
        server.redirects = {"/images/moved": f"{plain.url}/images/a"}
        scene = Scene(tmp_path, urls=(server.url, plain.url))
        sentence = scene.refused(ImageSource(f"{server.url}/images/moved", "raw"))
        assert "leads to plain http, which needs sha256" in sentence
        assert plain.asked == []


def test_a_server_that_does_not_speak_tls_may_be_starting(tmp_path: Path) -> None:
    """Its job waits."""
    with ImageServer() as plain:
        url = plain.url.replace("http:", "https:")
        sentence = Scene(tmp_path, urls=(url,)).refused(ImageSource(f"{url}/images/a", "raw"), ErrorClass.TRANSIENT)
        assert "could not reach" in sentence
