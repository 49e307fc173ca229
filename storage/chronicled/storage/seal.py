"""The seal of the secret store: authenticated encryption under one key, which never leaves this module's objects."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from chronicled.events.disk import Disk
from chronicled.events.errors import SecretsUnavailable
from chronicled.events.ids import Randomness, SystemRandomness

__all__ = ["CREDENTIAL", "KEY_FILE", "Seal"]

KEY_FILE: Final = "secrets.key"
CREDENTIAL: Final = "chronicled.key"
"""Name of the systemd credential (`LoadCredential=chronicled.key:PATH`)."""
KEY_BYTES_MIN: Final = 32
KEY_BYTES_MAX: Final = 64 << 10
MAGIC: Final = b"chronicled sealed 1\n"
KIN: Final = b"chronicled sealed "
NONCE_BYTES: Final = 12
PERSON: Final = b"chronicled.seal"


class Seal:
    """Seals bytes and opens them again: ChaCha20-Poly1305, each time under a fresh nonce, bound to a place.

    The key is the credential that the service manager gave, else `secrets.key` (0600) in the data directory, which is
    made with the first secret. Nothing is read, and no cryptography imported, before something is sealed or opened.

    Args:
        directory: The data directory.
        credentials: Where the service manager puts credentials; None or without ours: the key file.
        disk: What writes the key file.
        randomness: Key and nonces; the kernel's by default.
    """

    def __init__(
        self, directory: str, credentials: str | None, disk: Disk, randomness: Randomness | None = None
    ) -> None:
        self._file = os.path.join(directory, KEY_FILE)
        self._credential = os.path.join(credentials, CREDENTIAL) if credentials else None
        self._disk = disk
        self._randomness = randomness or SystemRandomness()
        self._key = b""

    def __repr__(self) -> str:
        return "<Seal>"

    def seal(self, data: bytes, place: str) -> bytes:
        """Return the sealed bytes, which open at this place alone.

        Raises:
            SecretsUnavailable: the key cannot be read.
            OSError: the first key cannot be written.
        """
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        nonce = self._randomness.bytes(NONCE_BYTES)
        return MAGIC + nonce + ChaCha20Poly1305(self._loaded(make=True)).encrypt(nonce, data, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """Return what was sealed.

        Raises:
            SecretsUnavailable: the key cannot be read, or is another one, or the bytes are not those that were sealed
                there.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        begin = len(MAGIC)
        if not sealed.startswith(MAGIC):
            if sealed.startswith(KIN):
                form = sealed[len(KIN) : begin].split(b"\n")[0].decode(errors="replace")
                raise SecretsUnavailable(
                    f"{place} is sealed in form {form}; this version knows 1. Use a newer version."
                )
            raise SecretsUnavailable(f"{place} is damaged: restore it, or close the session.")
        cipher = ChaCha20Poly1305(self._loaded(make=False))
        try:
            return cipher.decrypt(sealed[begin : begin + NONCE_BYTES], sealed[begin + NONCE_BYTES :], place.encode())
        except InvalidTag:
            raise SecretsUnavailable(
                f"{place} is damaged, or was sealed with another key than the present one: restore the key, or close "
                "the session."
            ) from None

    def _loaded(self, *, make: bool) -> bytes:
        if not self._key:
            self._key = hashlib.blake2b(self._material(make=make), digest_size=32, person=PERSON).digest()
        return self._key

    def _material(self, *, make: bool) -> bytes:
        if self._credential is not None and os.path.exists(self._credential):
            return _read(self._credential, private=False)
        if os.path.exists(self._file):
            return _read(self._file, private=True)
        if not make:
            raise SecretsUnavailable(
                f"There is no key that opens the secrets: neither the credential {CREDENTIAL} nor {self._file}."
            )
        key = self._randomness.bytes(KEY_BYTES_MIN)
        fresh = f"{self._file}.new"
        with suppress(FileNotFoundError):
            os.unlink(fresh)
        descriptor = self._disk.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            self._disk.write(descriptor, key)
            self._disk.sync(descriptor)
        finally:
            os.close(descriptor)
        self._disk.replace(fresh, self._file)
        self._disk.sync_directory(os.path.dirname(self._file))
        return key


def _read(path: str, *, private: bool) -> bytes:
    try:
        if private and os.stat(path).st_mode & 0o077:
            raise SecretsUnavailable(f"Others may read {path}: chmod 600 it.")
        key = Path(path).read_bytes()
    except OSError as error:
        raise SecretsUnavailable(f"The key {path} cannot be read: {error.strerror}.") from None
    if not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
        raise SecretsUnavailable(f"The key {path} needs at least {KEY_BYTES_MIN} bytes, of randomness.")
    return key
