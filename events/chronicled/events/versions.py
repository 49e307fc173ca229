"""Which versions of payloads a reader wants to be shown: `Accept-Version`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from chronicled.events.errors import InvalidRequest

__all__ = ["CURRENT", "STORED", "VERSIONS_PATTERN", "Versions"]

KINDS_MAX: Final = 256
VERSIONS_PATTERN: Final = r"^(stored|[a-z][a-z0-9_.]*=[1-9][0-9]{0,8}(\s*,\s*[a-z][a-z0-9_.]*=[1-9][0-9]{0,8})*)$"

_ONE: Final = re.compile(r"([a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*)=([1-9][0-9]{0,8})", re.ASCII)


class Versions(msgspec.Struct, frozen=True):
    """What a reader understands. By default it takes every kind in its current version."""

    stored: bool = False
    """Everything as it stands in the log, to the byte: what the leaves bind."""
    newest: tuple[tuple[str, int], ...] = ()
    """Kinds, and the newest version of each that the reader knows; sorted."""

    @classmethod
    def parse(cls, text: str) -> Versions:
        """Return what `stored`, or `run=1, read=2`, says.

        Raises:
            InvalidRequest: it is neither, names a kind twice, or too many.
        """
        if text.strip() == "stored":
            return STORED
        newest: dict[str, int] = {}
        for each in text.split(","):
            found = _ONE.fullmatch(each.strip())
            if found is None:
                raise InvalidRequest(f"Say `stored`, or versions as in `run=1, read=2`, not {text[:100]!r}.")
            if found[1] in newest:
                raise InvalidRequest(f"The kind {found[1]} has two versions.")
            newest[found[1]] = int(found[2])
        if len(newest) > KINDS_MAX:
            raise InvalidRequest(f"Versions of {len(newest)} kinds are declared; {KINDS_MAX} are allowed.")
        return cls(newest=tuple(sorted(newest.items())))

    @classmethod
    def of(cls, newest: Mapping[str, int]) -> Versions:
        """Return what a mapping of kinds to versions says.

        Raises:
            InvalidRequest: a kind's name or a version is none.
        """
        return cls.parse(",".join(f"{kind}={version}" for kind, version in newest.items())) if newest else CURRENT

    def __str__(self) -> str:
        return "stored" if self.stored else ", ".join(f"{kind}={version}" for kind, version in self.newest)


CURRENT: Final = Versions()
STORED: Final = Versions(stored=True)
