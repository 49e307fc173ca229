"""Exports: a session of a log read as one chronicle, beside a running daemon too, and the file that it goes to."""

from __future__ import annotations

__all__: list[str] = []
