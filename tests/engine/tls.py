"""An engine at a TCP port of this machine, with certificates on both sides."""

from __future__ import annotations

import datetime
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tests.engine.own import OwnEngine

__all__ = ["Authority", "TlsEngine"]

_ADDRESS: Final = "127.0.0.1"
_DAY: Final = datetime.timedelta(days=1)
# The engine takes only sockets that are meant for its own number. Not by sh: that knows descriptors of one digit only.
_HAND_OVER: Final = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3<&"$LISTENER"'


class Authority:
    """Signs certificates of engines and of their clients.

    Args:
        name: By which it calls itself.
    """

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        self._certificate = (
            _begun(self._name, self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def write(self, directory: Path, *, server: bool, address: str = _ADDRESS) -> Path:
        """Write a certificate with its key, and the authority's own, as `cert.pem`, `key.pem` and `ca.pem`.

        Args:
            directory: Made for it.
            server: For an engine, or for a client.
            address: The engine's.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = _begun(_named("engine" if server else "client"), self._name, key)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if server:
            alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
            builder = builder.add_extension(alternative, critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        directory.mkdir(mode=0o700)
        encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        (directory / "ca.pem").write_bytes(self._certificate.public_bytes(encoding))
        (directory / "cert.pem").write_bytes(signed.public_bytes(encoding))
        (directory / "key.pem").write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain))
        return directory


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _begun(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
    )


class TlsEngine(OwnEngine):
    """An engine of a test's own that also answers at `tcp`, to those alone who show a certificate of its authority.

    Its network is its own, but the socket that it accepts from has been opened out here, and is handed to it.
    """

    def __init__(self, directory: Path, architecture: str, configuration: Mapping[str, Any]) -> None:
        super().__init__(directory, architecture, configuration)
        self.authority = Authority("engines of the tests")
        self._own = self.authority.write(directory / "tls", server=True)
        self._listener = socket.create_server((_ADDRESS, 0))
        self.handed = (self._listener.fileno(),)
        self.tcp: str = "tcp://{}:{}".format(*self._listener.getsockname())

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Return the words that start it."""
        files = {"tlscacert": "ca.pem", "tlscert": "cert.pem", "tlskey": "key.pem"}
        tls = ["--tlsverify", *(f"--{name}={self._own / file}" for name, file in files.items())]
        words = super().command([*arguments, *tls, "--host=fd://"])
        return ["env", f"LISTENER={self._listener.fileno()}", *words[:2], "bash", "-c", _HAND_OVER, "bash", *words[2:]]

    def close(self) -> None:
        """Remove its containers, end it, and close its port."""
        try:
            super().close()
        finally:
            self._listener.close()
