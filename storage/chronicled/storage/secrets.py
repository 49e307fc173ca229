"""The secret store: what sessions keep secret, sealed, in files of its own (design D11)."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final

import msgspec

from chronicled.events.disk import Disk
from chronicled.events.errors import SecretsUnavailable, StorageFull, StoreFailed
from chronicled.events.worker_log import SessionKey
from chronicled.storage.seal import Seal

__all__ = ["SecretRecord", "SecretStore"]

RECORD: Final = "record"
NEW: Final = ".new"
FILE_BYTES_MAX: Final = 64 << 20
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class SecretRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What one session keeps secret. Never logged, never in an event; its representation hides it."""

    values: dict[str, list[str]] = {}
    """Values by the secret's name, the newest last: earlier ones stay secret too."""
    variables: dict[str, str | None] = {}
    """Variables on top of those that the session was created with; None takes one away."""
    bound: dict[str, str] = {}
    """Which of the variables hold a secret: its name by theirs."""

    def __repr__(self) -> str:
        return f"<SecretRecord of {len(self.values)} secrets>"


class SecretStore:
    """Sealed files in a directory (0700) of its own: `TENANT/SESSION/record`, and originals of what was redacted.

    What `save` and `keep_original` were given is on the medium when they return; a crash leaves the old or the new
    whole. Every call blocks: in a thread, one at a time for each session.

    Args:
        directory: Where the files are; made with the first secret.
        seal: Seals them, each to its own place.
        disk: What writes, syncs and renames.
    """

    def __init__(self, directory: str, seal: Seal, disk: Disk) -> None:
        self._directory = os.path.abspath(directory)
        self._seal = seal
        self._disk = disk

    def load(self) -> tuple[dict[SessionKey, SecretRecord], dict[SessionKey, str]]:
        """Return the record of every session, and of those that cannot be read the reason (without a value)."""
        records: dict[SessionKey, SecretRecord] = {}
        broken: dict[SessionKey, str] = {}
        for tenant in _listed(self._directory):
            for session in _listed(os.path.join(self._directory, tenant)):
                key = SessionKey(tenant, session)
                try:
                    records[key] = self._record(key)
                except SecretsUnavailable as error:
                    broken[key] = (
                        f"The secrets of session {session!r} cannot be read, so nothing of it is published. "
                        + (error.detail)
                    )
        return records, broken

    def find(self, key: SessionKey) -> SecretRecord | None:
        """Return the session's record, None when there is none.

        Raises:
            SecretsUnavailable: it is there and cannot be read.
        """
        return self._record(key) if os.path.exists(os.path.join(self._folder(key), RECORD)) else None

    def _record(self, key: SessionKey) -> SecretRecord:
        try:
            return msgspec.json.decode(self._read(key, RECORD), type=SecretRecord)
        except FileNotFoundError:
            raise SecretsUnavailable("Its record is missing: restore it, or close the session.") from None
        except msgspec.DecodeError:
            raise SecretsUnavailable("Its record is not one of this version.") from None

    def save(self, key: SessionKey, record: SecretRecord) -> None:
        """Make the record the session's.

        Raises:
            StorageFull: there is no room; what was there before still is.
            StoreFailed: it could not be written for another reason.
            SecretsUnavailable: the key cannot be read.
        """
        self._write(key, RECORD, msgspec.json.encode(record))

    def destroy(self, key: SessionKey) -> None:
        """Remove all that the session kept secret; nothing may be published of it any more. Idempotent.

        Raises:
            StoreFailed: it could not be removed.
        """
        folder = self._folder(key)
        with _failing():
            # The record last: a crash in between leaves a session that is closed and still redacted.
            for name in sorted(_listed(folder), key=lambda name: name == RECORD):
                os.unlink(os.path.join(folder, name))
            with suppress(FileNotFoundError):
                os.rmdir(folder)
                self._disk.sync_directory(os.path.dirname(folder))

    # -- originals -------------------------------------------------------------------------------------------------

    def keep_original(self, key: SessionKey, event: str, redacted: bytes, original: bytes) -> None:
        """Keep what an event's payload was before redaction, for whoever executes it. Raises as `save`."""
        self._write(key, _original(event, redacted), original)

    def original(self, key: SessionKey, event: str, redacted: bytes) -> bytes | None:
        """Return what the event's payload was before redaction; None when nothing of it was redacted.

        Raises:
            SecretsUnavailable: it is there and cannot be read.
        """
        try:
            return self._read(key, _original(event, redacted))
        except FileNotFoundError:
            return None

    def forget_originals(self, key: SessionKey, event: str) -> None:
        """Remove what was kept of the event. Idempotent; a failure leaves it for `destroy`."""
        folder = self._folder(key)
        for name in _listed(folder):
            if name.startswith(f"{event}-"):
                with suppress(OSError):
                    os.unlink(os.path.join(folder, name))

    def originals(self, key: SessionKey) -> set[str]:
        """Return the ids of the events of which originals are kept."""
        return {name.rpartition("-")[0] for name in _listed(self._folder(key)) if name not in {RECORD, RECORD + NEW}}

    # -- files -----------------------------------------------------------------------------------------------------

    def _folder(self, key: SessionKey) -> str:
        return os.path.join(self._directory, key.tenant, key.session)

    def _read(self, key: SessionKey, name: str) -> bytes:
        path = os.path.join(self._folder(key), name)
        try:
            with open(path, "rb") as stream:
                return self._seal.open(stream.read(FILE_BYTES_MAX), _place(key, name))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise SecretsUnavailable(f"{path} cannot be read: {error.strerror}.") from None

    def _write(self, key: SessionKey, name: str, data: bytes) -> None:
        folder = self._folder(key)
        path = os.path.join(folder, name)
        with _failing():
            sealed = self._seal.seal(data, _place(key, name))
            self._make(folder)
            descriptor = self._disk.open(path + NEW, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            try:
                self._disk.write(descriptor, sealed)
                self._disk.sync(descriptor)
            finally:
                os.close(descriptor)
            self._disk.replace(path + NEW, path)
            self._disk.sync_directory(folder)

    def _make(self, folder: str) -> None:
        if not os.path.isdir(folder):
            above = os.path.dirname(folder)
            if folder != self._directory:
                self._make(above)
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700)
            self._disk.sync_directory(above)


def _place(key: SessionKey, name: str) -> str:
    return f"secrets/{key.tenant}/{key.session}/{name}"


def _original(event: str, redacted: bytes) -> str:
    # Named after the redacted payload too: the log tells which one was accepted under the id.
    return f"{event}-{hashlib.sha256(redacted).hexdigest()[:32]}"


def _listed(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


@contextmanager
def _failing() -> Generator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise StorageFull("The disk has no room for a secret; nothing was kept.") from error
        raise StoreFailed(f"A secret could not be written: {error.strerror}.") from error
