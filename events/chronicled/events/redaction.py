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
    """Replaces the secret values registered for a session (invariant 9).

    Everything may raise `SecretsUnavailable`: the session's values cannot be read, so nothing of it may be published.
    """

    def active(self, tenant: str, session: str) -> bool:
        """Tell whether the session has values to be replaced; if not, the rest need not be called."""
        ...

    def payload(self, tenant: str, session: str, payload: bytes) -> bytes:
        """Return the encoded payload with every registered value replaced."""
        ...

    def text(self, tenant: str, session: str, text: str) -> str:
        """Return the text with every registered value replaced."""
        ...

    def fragment(self, tenant: str, session: str, data: bytes, *, head: bool, tail: bool) -> bytes:
        """Return bytes that were cut out of a longer text, at their head or tail, with what is left of a value gone."""
        ...

    def stream(self, tenant: str, session: str, *, keep_length: bool = False) -> StreamRedactor:
        """Return a redactor for one stream of the session's bytes; with `keep_length` offsets and sizes stay true."""
        ...


class _IdentityStream:
    def feed(self, data: bytes) -> bytes:
        return data

    def finish(self) -> bytes:
        return b""


class IdentityRedaction:
    """Redaction of a session that has no secrets: everything passes as it is."""

    def active(self, tenant: str, session: str) -> bool:
        """Tell that there is nothing to replace."""
        return False

    def payload(self, tenant: str, session: str, payload: bytes) -> bytes:
        """Return `payload` unchanged."""
        return payload

    def text(self, tenant: str, session: str, text: str) -> str:
        """Return `text` unchanged."""
        return text

    def fragment(self, tenant: str, session: str, data: bytes, *, head: bool, tail: bool) -> bytes:
        """Return `data` unchanged."""
        return data

    def stream(self, tenant: str, session: str, *, keep_length: bool = False) -> StreamRedactor:
        """Return a redactor that passes everything on."""
        return _IdentityStream()
