"""A certificate authority of a test's own, and the certificates of servers that it signs."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab.places import program

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates, below the folder. Whoever is given its `certificate` as ``SSL_CERT_FILE`` trusts them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own = self._made("authority", "-addext", "keyUsage=critical,keyCertSign")

    @property
    def certificate(self) -> Path:
        """Its own."""
        return self._own.certificate

    def certify(self, name: str, kind: str = "DNS") -> Certificate:
        """A certificate of a server of that name, or with the kind IP of that address."""
        return self._made(
            name, "-CA", str(self._own.certificate), "-CAkey", str(self._own.key),
            "-addext", f"subjectAltName={kind}:{name}", "-addext", "basicConstraints=critical,CA:FALSE",
        )  # fmt: skip

    def _made(self, name: str, *options: str) -> Certificate:
        made = Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        command = [program("openssl"), "req", "-x509", *_KEY, "-subj", f"/CN={name}", *options]
        subprocess.run(
            [*command, "-keyout", str(made.key), "-out", str(made.certificate)],
            check=True,
            capture_output=True,
            timeout=30,
        )
        return made
