"""Other systems' formats, written: each module turns one session of the log into bytes, piece by piece, without I/O."""

from __future__ import annotations

__all__: list[str] = []
