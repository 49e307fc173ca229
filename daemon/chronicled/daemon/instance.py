"""The identity of a data directory: its id, and the key of its request digests."""

from __future__ import annotations

import os
import secrets
import uuid

import msgspec

from chronicled.events.errors import LogCorrupt, Refused, SchemaTooNew
from chronicled.events.ids import SystemIds

__all__ = ["Instance", "load_instance"]

FILE = "instance.json"
FORMAT = 1


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """What makes this data directory itself; written once, 0600."""

    format: int = 1
    """Of this file; a newer one is refused."""
    instance: str
    request_key: bytes
    """Without it no retry could be told from another request, so it lives as long as the log."""


def load_instance(directory: str, *, fresh: bool) -> Instance:
    """Return the directory's identity; made and synced first where the log is `fresh` and there is none.

    Raises:
        LogCorrupt: the file is broken, or missing beside a log that has events.
        Refused: others may read it.
        SchemaTooNew: a newer version wrote it.
    """
    path = os.path.join(directory, FILE)
    try:
        with open(path, "rb") as stream:
            if os.fstat(stream.fileno()).st_mode & 0o077:
                raise Refused(f"Others may read {path}: chmod 600 it.")
            instance = msgspec.json.decode(stream.read(65_536), type=Instance)
    except FileNotFoundError:
        if not fresh:
            raise LogCorrupt(f"{path} is missing: restore it with the log, retries are told by its key.") from None
        return _make(directory, path)
    except msgspec.DecodeError as error:
        raise LogCorrupt(f"{path} cannot be read: {error}.") from None
    if instance.format > FORMAT:
        raise SchemaTooNew(f"{path} is of format {instance.format}; this version knows {FORMAT}. Use a newer version.")
    if len(instance.request_key) != 32 or uuid.UUID(instance.instance).version is None:
        raise LogCorrupt(f"{path} holds no identity.")
    return instance


def _make(directory: str, path: str) -> Instance:
    instance = Instance(instance=SystemIds().new(), request_key=secrets.token_bytes(32))
    fresh = f"{path}.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(msgspec.json.encode(instance))
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(fresh, path)
    holder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(holder)
    finally:
        os.close(holder)
    return instance
