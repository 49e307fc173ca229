"""Formats of what stands beside the log in a data directory: each store's number, in one file, checked at every start.

The log knows its own steps, and projections are made anew when they are of another form. Everything else (blobs, sealed
secrets, journal, spools, ...) has a number in `formats.json`. A directory without the file is one from before it: all
numbers are 1. A program that finds a store or a number that it does not know touches nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from chronicled.events.errors import LogCorrupt, SchemaTooNew

__all__ = ["FORMATS_NAME", "FormatStep", "bring_formats", "read_formats"]

FORMATS_NAME: Final = "formats.json"
BYTES_MAX: Final = 65_536


class FormatStep(msgspec.Struct, frozen=True):
    """How a store comes from the format before to this one."""

    number: int
    name: str
    apply: Callable[[Path], None] | None = None
    """Given the data directory. It may be killed at any point and is then called again, so it leaves what it replaces
    until the new is synced. None for format 1."""


class _File(msgspec.Struct, frozen=True):
    formats: dict[str, int]


def read_formats(directory: Path) -> dict[str, int]:
    """Return the numbers of a data directory's stores; empty where none were written down.

    Raises:
        LogCorrupt: the file cannot be read.
    """
    path = directory / FORMATS_NAME
    try:
        with path.open("rb") as stream:
            return msgspec.json.decode(stream.read(BYTES_MAX), type=_File).formats
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LogCorrupt(f"{path} cannot be read: {error}.") from None


def bring_formats(
    directory: Path, stores: Mapping[str, Sequence[FormatStep]], *, dry_run: bool = False
) -> tuple[str, ...]:
    """Bring every store to its newest format; return the names of the steps that were taken.

    After each step the number is written and synced, so that a crash repeats at most the step that it fell into.

    Args:
        directory: The data directory, whose lock is held.
        stores: The steps of each store, from 1 on.
        dry_run: Only return the names.

    Raises:
        SchemaTooNew: a store has a format, or there is one, that is not known here; nothing was changed.
        LogCorrupt: what was written down cannot be read.
        OSError: it could not be written.
    """
    known = read_formats(directory)
    for store, number in known.items():
        newest = len(stores.get(store, ()))
        if number > newest:
            what = f"is of format {number}; this version knows {newest}" if newest else "is not known to this version"
            raise SchemaTooNew(
                f"The store {store!r} in {directory} {what}. Use the version that wrote it.",
                store=store,
                current=number,
                newest=newest,
            )
    formats = {store: known.get(store, 1) for store in stores}
    taken: list[str] = []
    for store, steps in stores.items():
        for step in steps[formats[store] :]:
            taken.append(f"{store}: {step.name}")
            if not dry_run:
                if step.apply is not None:
                    step.apply(directory)
                formats[store] = step.number
                _write(directory, formats)
    if not dry_run and formats != known:
        _write(directory, formats)
    return tuple(taken)


def _write(directory: Path, formats: Mapping[str, int]) -> None:
    path = directory / FORMATS_NAME
    fresh = path.with_name(f"{FORMATS_NAME}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(msgspec.json.encode(_File(dict(formats))))
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(fresh, path)
    holder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(holder)
    finally:
        os.close(holder)
