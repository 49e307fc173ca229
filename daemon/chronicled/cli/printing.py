"""What the command line prints: results on stdout, everything else on stderr."""

from __future__ import annotations

import os
import sys
from typing import Any, Final

import msgspec

from chronicled.events.envelope import Event

__all__ = ["action_text", "error", "event_line", "json_line", "line", "note", "progress", "table"]

COLORS: Final = {"action": "36", "observation": "32", "lifecycle": "90"}
PREVIEW_CHARACTERS: Final = 100
ASKED: Final = ("command", "argv", "path", "code", "url", "content")
TELLING: Final = ("command", "outcome", "exit_code", "message", "output", "path", "content", "reason")


def line(text: str) -> None:
    """Print one line of result, at once: the reader may be a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def json_line(value: Any) -> None:
    """Print a value as one line of JSON."""
    line(msgspec.json.encode(value).decode())


def note(text: str) -> None:
    """Tell a person how it goes; says nothing when stderr is no terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(text + "\n")


def progress(text: str) -> None:
    """Show how far it is, in place of what was shown before; says nothing when stderr is no terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{text}\x1b[K")
        sys.stderr.flush()


def error(text: str) -> None:
    """Print an error: what happened and what to do about it."""
    sys.stderr.write(f"chronicled: {text}\n")


def colored(text: str, color: str) -> str:
    """Color the text on a terminal, unless `NO_COLOR` is set."""
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        return f"\x1b[{color}m{text}\x1b[0m"
    return text


def event_line(event: Event) -> str:
    """Return an event for a person: position, time, session, kind, and the beginning of its payload."""
    payload = _telling(event)
    if event.opaque is not None:
        payload = f"[{event.opaque}] {payload}"
    kind = colored(f"{event.category[:3]} {event.kind:<20}", COLORS[event.category])
    return f"{event.position:>7}  {event.time[11:23]}  {event.session:<16} {kind} {_preview(payload)}"


def action_text(action: Event) -> str:
    """Return an action for a person: its kind, and what is asked for."""
    fields = action.fields()
    told = next((fields[name] for name in ASKED if fields.get(name)), "")
    return f"{action.kind} {_preview(told if isinstance(told, str) else msgspec.json.encode(told).decode())}".rstrip()


def _preview(text: str) -> str:
    # A payload may hold anything; on a terminal only printable characters get through.
    shown = "".join(each if each.isprintable() else "\ufffd" for each in text[:PREVIEW_CHARACTERS])
    return shown + ("…" if len(text) > PREVIEW_CHARACTERS else "")


def _telling(event: Event) -> str:
    """Return the payload as JSON, what a person looks for first, without what is not set."""
    try:
        payload = msgspec.json.decode(event.payload, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return bytes(event.payload).decode(errors="replace")
    payload = {key: value for key, value in payload.items() if value not in (None, "", False, [], {})}
    first = {key: payload[key] for key in TELLING if key in payload}
    return msgspec.json.encode(first | payload).decode()


def table(rows: list[tuple[str, ...]]) -> None:
    """Print rows with their columns aligned; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
