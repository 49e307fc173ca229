"""Redaction with secrets: the values of each session, replaced wherever they show (design D11, invariant 9)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from chronicled.events.errors import SecretsUnavailable
from chronicled.events.secret_matcher import Matcher, Span

__all__ = ["SecretRedaction", "SecretStream", "placeholder"]

BLOCK_BYTES: Final = 64 << 10
"""Scanned at a time: what holds the interpreter for about a millisecond."""
DIGITS_MIN: Final = 8
"""Shortest number that may be a secret."""

Key = tuple[str, str]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def placeholder(name: str) -> str:
    """Return what stands in the place of a value."""
    return f"<secret:{name}>"


class SecretRedaction:
    """A `Redaction` that knows the values of each session that has any; every other session passes at no cost.

    A session that is blocked fails closed: everything raises `SecretsUnavailable`, so that nothing of it is published.
    """

    def __init__(self) -> None:
        self._matchers: dict[Key, Matcher] = {}
        self._blocked: dict[Key, str] = {}

    def register(self, tenant: str, session: str, values: Mapping[str, Collection[str]]) -> None:
        """Replace these values from now on, in place of what was registered for the session before; ends a block."""
        self._matchers[tenant, session] = Matcher(values)
        self._blocked.pop((tenant, session), None)

    def block(self, tenant: str, session: str, reason: str) -> None:
        """Let nothing of the session pass; `reason` is for a person, and holds no secret."""
        self._blocked[tenant, session] = reason

    def forget(self, tenant: str, session: str) -> None:
        """Let go of the session's values: nothing of it is published any more."""
        self._matchers.pop((tenant, session), None)
        self._blocked.pop((tenant, session), None)

    def matcher(self, tenant: str, session: str) -> Matcher | None:
        """Return what finds the session's values, None when it has none.

        Raises:
            SecretsUnavailable: the session is blocked.
        """
        if self._blocked and (reason := self._blocked.get((tenant, session))) is not None:
            raise SecretsUnavailable(reason)
        return self._matchers.get((tenant, session))

    def active(self, tenant: str, session: str) -> bool:
        """Tell whether the session has values to be replaced. Raises as `matcher`."""
        return self.matcher(tenant, session) is not None

    def payload(self, tenant: str, session: str, payload: bytes) -> bytes:
        """Return the encoded payload with every registered value replaced, in keys and values. Raises as `matcher`."""
        matcher = self.matcher(tenant, session)
        return payload if matcher is None else redact_json(matcher, payload)

    def text(self, tenant: str, session: str, text: str) -> str:
        """Return the text with every registered value replaced. Raises as `matcher`."""
        matcher = self.matcher(tenant, session)
        return text if matcher is None else _redact_text(matcher, text)

    def fragment(self, tenant: str, session: str, data: bytes, *, head: bool, tail: bool) -> bytes:
        """Return bytes that were cut out of a longer text, with what the cut left of a value replaced too.

        Args:
            tenant: Of the session.
            session: Its name.
            data: The bytes.
            head: Something may be missing before them.
            tail: Something may be missing behind them.
        """
        matcher = self.matcher(tenant, session)
        if matcher is None:
            return data
        whole = _replaced(data, matcher.spans(data), keep_length=False)
        return _replaced(whole, matcher.torn(whole, head=head, tail=tail), keep_length=False)

    def everywhere(self, text: str) -> str:
        """Return the text, which may be of any session, with the values of every session replaced: for logs."""
        for matcher in list(self._matchers.values()):
            text = _redact_text(matcher, text)
        return text

    def stream(self, tenant: str, session: str, *, keep_length: bool = False) -> SecretStream:
        """Return a redactor for one stream of bytes of the session; it learns of values that are registered later.

        Args:
            tenant: Of the session.
            session: Its name.
            keep_length: Put `*` over each byte instead of a placeholder, where offsets and sizes have to stay true.
        """
        return SecretStream(self, (tenant, session), keep_length)


class SecretStream:
    """Redacts one stream. What comes out depends on the bytes alone, not on the pieces in which they came.

    Args:
        redaction: Knows the values.
        key: Tenant and session.
        keep_length: See `SecretRedaction.stream`.
    """

    def __init__(self, redaction: SecretRedaction, key: Key, keep_length: bool) -> None:
        self._redaction = redaction
        self._key = key
        self._keep_length = keep_length
        self._matcher: Matcher | None = None
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes and return those that are safe to store. Raises `SecretsUnavailable` when blocked."""
        matcher = self._current()
        if matcher is None:
            return data
        if len(data) <= BLOCK_BYTES:
            return self._step(matcher, data)
        blocks = (data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES))
        return b"".join([self._step(matcher, block) for block in blocks])

    def finish(self) -> bytes:
        """Return what was held back; the stream has ended."""
        matcher = self._current()
        held, self._held = self._held, b""
        return held if matcher is None else _replaced(held, matcher.spans(held), keep_length=self._keep_length)

    def _current(self) -> Matcher | None:
        # Kept when the session is forgotten: a stream that began under secrets ends under them.
        self._matcher = self._redaction.matcher(*self._key) or self._matcher
        return self._matcher

    def _step(self, matcher: Matcher, block: bytes) -> bytes:
        data = self._held + block if self._held else block
        safe = matcher.held(data)
        spans = matcher.spans(data)
        while spans and spans[-1][1] > safe:
            # Also what has been found whole waits while it overlaps with what may still come.
            begin, end, _ = spans[-1]
            if begin < safe and end - begin > 4 * matcher.span_bytes_max:
                safe = end  # one chain of overlapping occurrences without an end: it goes out as one
                break
            safe = min(safe, begin)
            spans.pop()
        self._held = data[safe:]
        return _replaced(data[:safe], spans, keep_length=self._keep_length)


def redact_json(matcher: Matcher, payload: bytes) -> bytes:
    """Return the JSON with the matcher's values replaced in every string, key and long number."""
    value = _decode(payload)
    texts: list[str] = []
    _collect(value, texts)
    # All in one go, and each one by itself only where something was found: it may lie across two of them.
    if not matcher.spans("\x80\x80".join(texts).encode()):
        return payload
    changed = _rewritten(matcher, value)
    return payload if changed == value else _encode(changed)


def _collect(value: Any, texts: list[str]) -> None:
    if isinstance(value, str):
        texts.append(value)
    elif isinstance(value, dict):
        for key, each in value.items():  # pyright: ignore[reportUnknownVariableType]  decoded JSON
            texts.append(key)  # pyright: ignore[reportUnknownArgumentType]
            _collect(each, texts)
    elif isinstance(value, list):
        for each in value:  # pyright: ignore[reportUnknownVariableType]
            _collect(each, texts)
    elif isinstance(value, int) and abs(value) >= 10 ** (DIGITS_MIN - 1):
        texts.append(str(value))


def _rewritten(matcher: Matcher, value: Any) -> Any:
    if isinstance(value, str):
        return _redact_text(matcher, value)
    if isinstance(value, dict):
        changed: dict[str, Any] = {}
        for key, each in value.items():  # pyright: ignore[reportUnknownVariableType]
            name = wanted = _redact_text(matcher, key)  # pyright: ignore[reportUnknownArgumentType]
            copies = 1
            while name in changed:
                copies += 1
                name = f"{wanted}#{copies}"
            changed[name] = _rewritten(matcher, each)
        return changed
    if isinstance(value, list):
        return [_rewritten(matcher, each) for each in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, int) and abs(value) >= 10 ** (DIGITS_MIN - 1):
        text = str(value)
        redacted = _redact_text(matcher, text)
        return value if redacted == text else redacted
    return value


def _redact_text(matcher: Matcher, text: str) -> str:
    data = text.encode()
    spans = matcher.spans(data)
    # A form that is cut out of other encodings may begin inside of a character: that one goes too.
    return _replaced(data, spans, keep_length=False).decode(errors="replace") if spans else text


def _replaced(data: bytes, spans: list[Span], *, keep_length: bool) -> bytes:
    if not spans:
        return data
    pieces: list[bytes] = []
    at = 0
    for begin, end, name in spans:
        pieces.append(data[at:begin])
        pieces.append(b"*" * (end - begin) if keep_length else placeholder(name).encode())
        at = end
    pieces.append(data[at:])
    return b"".join(pieces)
