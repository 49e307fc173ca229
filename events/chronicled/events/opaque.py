"""What stands for a payload that cannot be read here: nothing of it is lost, and nothing else stops for it."""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

__all__ = ["ERASED", "WHYS", "Opaque", "Why"]

ERASED: Final = b"null"
"""The payload of an event whose payload was erased: its header and leaf stay."""

Why = Literal[
    "unknown_kind",
    "newer_version",
    "no_upcaster",
    "upcaster_failed",
    "not_json",
    "misfit",
    "erased",
]
"""The reason in one word, for counting: nobody registered the kind; a newer version wrote it; there is no path to the
current version; a step of the path failed; the bytes are no JSON; they do not fit the schema; they were erased."""

WHYS: Final[tuple[Why, ...]] = get_args(Why)


class Opaque(msgspec.Struct, frozen=True):
    """A payload that cannot be read here, as it is stored, with the reason."""

    kind: str
    version: int
    reason: str
    """For a person."""
    payload: bytes
    why: Why = "misfit"
