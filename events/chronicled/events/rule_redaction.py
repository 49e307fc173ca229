"""Redaction by the rules of units: of the payloads of their kinds, and of what their actions print."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, cast

import msgspec

from chronicled.events.kind import TerminalPayload
from chronicled.events.redaction import StreamRedactor
from chronicled.events.redaction_rule import RedactionRule
from chronicled.events.unit_stuck import UnitStuck

__all__ = ["RuleRedaction", "RuleStream"]

_PLACEHOLDER: Final = re.compile(r"(<secret:[^<>]*>)")
_OUTCOME_FIELDS: Final = frozenset(TerminalPayload.__struct_fields__) - {"message"}
"""What an observation must be able to say whatever a pattern matches."""


class RuleRedaction:
    """The rules of all loaded units. Each holds for the kinds of its own unit alone, which bear its owner's prefix.

    Args:
        rules: Rules that were checked.
    """

    def __init__(self, rules: Iterable[RedactionRule] = ()) -> None:
        self._rules: dict[str, list[_Compiled]] = {}
        for rule in rules:
            self._rules.setdefault(rule.name.partition(".")[0], []).append(_Compiled(rule))

    def covers(self, kind: str) -> bool:
        """Tell whether there are rules for the kind; if not, the rest need not be called."""
        return bool(self._rules) and kind.partition(".")[0] in self._rules and "." in kind

    def payload(self, kind: str, data: bytes) -> bytes:
        """Return the encoded payload with what the rules find replaced, in keys and values; itself if that is nothing.

        Doing it again changes nothing. A rule that does not come to an end counts as one that finds everything: all
        texts of its unit's kinds are replaced from then on.
        """
        if not self.covers(kind):
            return data
        before: dict[str, Any] = msgspec.json.decode(data)
        after = before
        for rule in self._rules[kind.partition(".")[0]]:
            after = rule.payload(after)
        return data if after == before else msgspec.json.encode(after)

    def stream(self, kind: str, inner: StreamRedactor, *, keep_length: bool = False) -> StreamRedactor:
        """Return a redactor for what an action of the kind prints, behind that of the session's secrets."""
        if self.covers(kind):
            for rule in self._rules[kind.partition(".")[0]]:
                if rule.pattern is not None:
                    state, bytes_max = rule.state, rule.length_max
                    inner = RuleStream(
                        rule.pattern, rule.placeholder, bytes_max, inner, keep_length=keep_length, state=state
                    )
        return inner


class RuleState:
    """What is known of a rule at run time.

    Attributes:
        name: The rule's.
        stuck: It did not come to an end once: it is not applied again, and no text passes it.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.stuck = False


class RuleStream:
    """Replaces what a pattern finds in a stream of bytes, however it is cut.

    The newest line is held back as long as a match may begin in its last `length_max` bytes, or go on. What a pattern
    looks back at is seen as far as `length_max` bytes, too.

    Args:
        pattern: What to find.
        placeholder: What stands in its place.
        length_max: Longest match that is found for sure; a match that goes on beyond is replaced as far as it was seen.
        inner: Has the bytes first.
        keep_length: Put `*` over each byte instead.
        state: Of the rule, shared by all that apply it. From a stuck rule on, one placeholder stands for the rest.
    """

    def __init__(
        self,
        pattern: re.Pattern[bytes],
        placeholder: bytes,
        length_max: int,
        inner: StreamRedactor,
        *,
        keep_length: bool = False,
        state: RuleState | None = None,
    ) -> None:
        self.state = state or RuleState()
        self._hidden = False
        self._pattern = pattern
        self._placeholder = placeholder
        self._length_max = length_max
        self._inner = inner
        self._keep_length = keep_length
        self._before = b""
        """The bytes before those that are held, as they came: only to be looked back at."""
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes and return those that are safe to store."""
        held = self._held + self._inner.feed(data)
        safe = max(len(held) - self._length_max + 1, held.rfind(b"\n") + 1, 0)
        return self._passed(held, safe)

    def finish(self) -> bytes:
        """Return what was held back; the stream has ended."""
        held = self._held + self._inner.finish()
        return self._passed(held, len(held), ended=True)

    def _passed(self, held: bytes, safe: int, *, ended: bool = False) -> bytes:
        if not self.state.stuck:
            try:
                return self._judged(held, safe, ended=ended)
            except UnitStuck:
                self.state.stuck = True
        self._held = b""
        if self._keep_length:
            return b"*" * len(held)
        told, self._hidden = self._hidden, self._hidden or bool(held)
        return self._placeholder if held and not told else b""

    def _judged(self, held: bytes, safe: int, *, ended: bool) -> bytes:
        parts: list[bytes] = []
        done = 0
        seen = len(self._before)
        for match in self._pattern.finditer(self._before + held, seen):
            start, end = match.start() - seen, match.end() - seen
            if start >= safe:
                break
            if start == end:
                # Nothing to replace.
                continue
            if end == len(held) and not ended and end - start < self._length_max:
                # It may go on.
                safe = start
                break
            parts += [held[done:start], b"*" * (end - start) if self._keep_length else self._placeholder]
            done = end
        safe = max(safe, done)
        parts.append(held[done:safe])
        self._before = (self._before + held[:safe])[-self._length_max :]
        self._held = held[safe:]
        return b"".join(parts)


class _Compiled:
    def __init__(self, rule: RedactionRule) -> None:
        self.state = RuleState(rule.name)
        self.pattern = re.compile(rule.pattern.encode()) if rule.pattern else None
        self.placeholder = f"<secret:{rule.name}>".encode()
        self.length_max = rule.length_max
        self._fields = frozenset(rule.fields)
        self._text = self.placeholder.decode()

    def payload(self, payload: dict[str, Any]) -> dict[str, Any]:
        if not self.state.stuck:
            try:
                return self._judged(payload)
            except UnitStuck:
                self.state.stuck = True
        # Nobody knows what may be published.
        return {
            name: value if name in _OUTCOME_FIELDS else _mapped(value, self._hidden) for name, value in payload.items()
        }

    def _judged(self, payload: dict[str, Any]) -> dict[str, Any]:
        changed: dict[str, Any] = {}
        for name, value in payload.items():
            if name in self._fields:
                changed[name] = _mapped(value, self._hidden)
            elif name in _OUTCOME_FIELDS or self.pattern is None:
                changed[name] = value
            else:
                changed[name] = _mapped(value, self._cleaned)
        return changed

    def _hidden(self, text: str) -> str:
        return self._text if text else text

    def _cleaned(self, text: str) -> str:
        assert self.pattern is not None, "asked only where there is one"
        # What was replaced already is left alone: a pattern may well match its name.
        pieces = _PLACEHOLDER.split(text)
        return "".join(piece if index % 2 else self._replaced(piece) for index, piece in enumerate(pieces))

    def _replaced(self, text: str) -> str:
        assert self.pattern is not None, "asked only where there is one"
        data = text.encode("utf-8", "surrogatepass")
        found = self.pattern.sub(lambda match: self.placeholder if match[0] else b"", data)
        return text if found == data else found.decode("utf-8", "replace")


def _mapped(value: Any, function: Callable[[str], str]) -> Any:
    """Return the JSON value with every string in it, keys too, put through the function."""
    match value:
        case str():
            return function(value)
        case list():
            return [_mapped(item, function) for item in cast("Sequence[Any]", value)]
        case dict():
            items = cast("dict[str, Any]", value)
            return {function(name): _mapped(item, function) for name, item in items.items()}
        case _:
            return value
