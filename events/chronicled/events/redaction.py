"""The seam where secrets are taken out: every payload and every output byte passes it before a digest is made."""

from __future__ import annotations

from typing import Protocol

__all__ = ["IdentityRedaction", "Redaction", "StreamRedactor"]


class StreamRedactor(Protocol):
    """Redacts one stream of bytes; holds back what may be the start of a secret."""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes and return those that are safe to store."""
        ...

    def finish(self) -> bytes:
        """Return what was held back; the stream has ended."""
        ...


class Redaction(Protocol):
    """Replaces the secret values registered for a session (invariant 9)."""

    def payload(self, tenant: str, session: str, payload: bytes) -> bytes:
        """Return the encoded payload with every registered value replaced."""
        ...

    def stream(self, tenant: str, session: str) -> StreamRedactor:
        """Return a redactor for one output of the session."""
        ...


class _IdentityStream:
    def feed(self, data: bytes) -> bytes:
        return data

    def finish(self) -> bytes:
        return b""


class IdentityRedaction:
    """Redaction of a session that has no secrets: everything passes as it is."""

    def payload(self, tenant: str, session: str, payload: bytes) -> bytes:
        """Return `payload` unchanged."""
        return payload

    def stream(self, tenant: str, session: str) -> StreamRedactor:
        """Return a redactor that passes everything on."""
        return _IdentityStream()
