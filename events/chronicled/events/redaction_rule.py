"""Rules by which a third party's kinds are redacted, beside the secrets that are registered for a session."""

from __future__ import annotations

import re
from typing import Final

import msgspec

__all__ = ["RULE_LENGTH_MAX", "RedactionRule"]

RULE_LENGTH_MAX: Final = 4096
"""Longest match of a rule: so much of an output is held back until it is known whether it goes on."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")


class RedactionRule(msgspec.Struct, frozen=True, kw_only=True):
    """What must not be published of the payloads and outputs of a unit's kinds; pure, for it is nothing but a pattern.

    It is applied before anything is measured, hashed or stored. What a sandbox executes is the real payload.
    """

    name: str
    """Stands in the place of what was found: `<secret:NAME>`. Begins with the unit's name."""
    pattern: str = ""
    """Regular expression (Python's, over UTF-8 bytes) of what is replaced in strings of payloads, and in outputs."""
    length_max: int = 256
    """Longest match, in bytes, that is found for sure across two pieces of output."""
    fields: tuple[str, ...] = ()
    """Fields of payloads whose text is replaced as a whole, whatever it is."""

    def check(self, owner: str) -> None:
        """Check that the rule can be applied.

        Raises:
            ValueError: its name is not the owner's, its pattern is none, or it matches nothing or everything.
        """
        if _NAME.fullmatch(self.name) is None or not self.name.startswith(f"{owner}."):
            raise ValueError(f"redaction rule {self.name!r}: its name must begin with {owner!r} and a dot")
        if not self.pattern and not self.fields:
            raise ValueError(f"redaction rule {self.name}: it has neither a pattern nor fields")
        if not 1 <= self.length_max <= RULE_LENGTH_MAX:
            raise ValueError(f"redaction rule {self.name}: length_max is 1 to {RULE_LENGTH_MAX}")
        try:
            compiled = re.compile(self.pattern.encode())
        except (re.error, OverflowError, RecursionError, UnicodeEncodeError) as error:
            raise ValueError(f"redaction rule {self.name}: its pattern is none: {error}") from None
        if self.pattern and compiled.match(b"") is not None:
            raise ValueError(f"redaction rule {self.name}: its pattern matches the empty string")
