"""Writing a log anew on purpose: every event in the current version of its payload, in a new data directory."""

from __future__ import annotations

from chronicled.storage.rewrite.rewrite import RewriteReport, rewrite

__all__ = ["RewriteReport", "rewrite"]
