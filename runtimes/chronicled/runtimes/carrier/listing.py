"""What is in a carrier, file by file, and the digest over all of it."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any, Final

import msgspec

from chronicled.runtimes.carrier.failure import CarrierCorrupt

__all__ = ["MANIFEST_NAME", "Entry", "Manifest", "digest_of", "entries_of", "folder_name", "read_manifest", "verify"]

MANIFEST_NAME: Final = "manifest.json"
_FORMAT: Final = b"chronicled carrier 1\n"


class Entry(msgspec.Struct, frozen=True, order=True, array_like=True):
    """One file, folder or symbolic link."""

    path: str
    mode: int
    """Type and permissions."""
    content: str
    """SHA-256 of a file, target of a link."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`manifest.json` of a carrier."""

    architecture: str
    build: str
    """Version of the action server."""
    protocol: int
    """Frames that it speaks, from `protocol_min` to this."""
    protocol_min: int
    packages: dict[str, str]
    """Versions of the Debian packages."""
    wheels: dict[str, str]
    digest: str = ""
    """SHA-256 over this (with the digest left empty) and over every entry."""


def entries_of(root: Path) -> list[Entry]:
    """Return everything below a folder, in order; the manifest at its top and the folder itself are left out.

    Raises:
        CarrierCorrupt: something is neither file, folder nor link.
        OSError: something cannot be read.
    """
    found: list[Entry] = []
    for folder, folders, names in os.walk(root):
        for name in folders + names:
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, root)
            if relative != MANIFEST_NAME:
                found.append(_entry(path, relative))
    return sorted(found)


def _entry(path: str, relative: str) -> Entry:
    mode = os.lstat(path).st_mode
    if stat.S_ISREG(mode):
        with open(path, "rb") as file:
            return Entry(relative, mode, hashlib.file_digest(file, "sha256").hexdigest())
    if stat.S_ISLNK(mode):
        return Entry(relative, mode, os.readlink(path))
    if stat.S_ISDIR(mode):
        return Entry(relative, mode, "")
    raise CarrierCorrupt(f"{path} is neither file, folder nor link.")


def digest_of(manifest: Manifest, entries: list[Entry]) -> str:
    """Return the digest of a carrier."""
    hashed = hashlib.sha256(_FORMAT)
    hashed.update(msgspec.json.encode(msgspec.structs.replace(manifest, digest=""), order="deterministic"))
    for entry in sorted(entries):
        hashed.update(f"\n{entry.mode:o}\t{entry.content}\t{entry.path}".encode(errors="surrogateescape"))
    return hashed.hexdigest()


def folder_name(digest: str, architecture: str) -> str:
    """Return the name of a carrier's folder."""
    return f"sha256-{digest}-{architecture}"


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Return a carrier's manifest.

    Raises:
        CarrierCorrupt: there is none, or it is broken.
    """
    try:
        return msgspec.json.decode((Path(path) / MANIFEST_NAME).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise CarrierCorrupt(f"{path} is not a carrier: its {MANIFEST_NAME} cannot be read ({error}).") from error


def verify(path: str | os.PathLike[str]) -> str:
    """Return the digest of the carrier, once every byte and every mode of it is what the digest says.

    Reads all of it (60 MB): call it in a thread.

    Raises:
        CarrierCorrupt: something differs; the folder can be removed and made again.
    """
    manifest = read_manifest(path)
    try:
        found = digest_of(manifest, entries_of(Path(path)))
    except OSError as error:
        raise CarrierCorrupt(f"{path} cannot be read: {error}.") from error
    expected: dict[str, Any] = {"manifest": manifest.digest, "name": Path(path).resolve().name}
    if found != expected["manifest"] or folder_name(found, manifest.architecture) != expected["name"]:
        raise CarrierCorrupt(
            f"{path} has been changed: its content is {found[:16]}..., its manifest says {manifest.digest[:16]}...; "
            "remove the folder and make the carrier again."
        )
    return found
