"""Which versions of payloads a reader wants to be shown: `Accept-Version`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from chronicled.events.errors import InvalidRequest

__all__ = ["CURRENT", "STORED", "VERSIONS_PATTERN", "Versions"]

KINDS_MAX: Final = 64
ONE: Final = r"[a-z][a-z0-9_]{0,63}(\.[a-z][a-z0-9_]{0,63}){0,3}=[1-9][0-9]{0,8}"
VERSIONS_PATTERN: Final = f"^(stored|{ONE}(, ?{ONE}){{0,{KINDS_MAX - 1}}})$"

_ONE: Final = re.compile(ONE, re.ASCII)


class Versions(msgspec.Struct, frozen=True):
    """What a reader understands. By default it takes every kind in its current version."""

    stored: bool = False
    """Everything as it stands in the log, to the byte: what the leaves bind."""
    newest: tuple[tuple[str, int], ...] = ()
    """Kinds, and the newest version of each that the reader knows; sorted."""

    @classmethod
    def parse(cls, text: str) -> Versions:
        """Return what `stored`, or `run=1, read=2`, says; of two versions of one kind the lower counts.

        Raises:
            InvalidRequest: it is neither, or names too many kinds.
        """
        if text.strip(" ") == "stored":
            return STORED
        newest: dict[str, int] = {}
        for each in text.split(","):
            if _ONE.fullmatch(each.strip(" ")) is None:
                raise InvalidRequest(f"Say `stored`, or versions as in `run=1, read=2`, not {text[:100]!r}.")
            kind, _, version = each.strip(" ").partition("=")
            newest[kind] = min(int(version), newest.get(kind, int(version)))
        if len(newest) > KINDS_MAX:
            raise InvalidRequest(f"Versions of {len(newest)} kinds are declared; {KINDS_MAX} are allowed.")
        return cls(newest=tuple(sorted(newest.items())))

    @classmethod
    def of(cls, newest: Mapping[str, int] | Versions) -> Versions:
        """Return what a mapping of kinds to versions says.

        Raises:
            InvalidRequest: a kind's name or a version is none.
        """
        if isinstance(newest, Versions):
            return newest
        return cls.parse(",".join(f"{kind}={version}" for kind, version in newest.items())) if newest else CURRENT

    def __str__(self) -> str:
        return "stored" if self.stored else ", ".join(f"{kind}={version}" for kind, version in self.newest)


CURRENT: Final = Versions()
STORED: Final = Versions(stored=True)
