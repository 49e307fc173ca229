"""asciicast, versions 2 and 3: what asciinema plays. One lane, or all lanes in one with a marker at each change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import merge
from itertools import chain
from typing import Any, Final

import msgspec

from chronicled.events.errors import InvalidRequest
from chronicled.migrations.formats.chronicle import Chronicle, Tally, Writer
from chronicled.migrations.formats.frames import Frame, lane_frames

__all__ = ["COLUMNS", "ROWS", "asciicast"]

COLUMNS: Final = 200
ROWS: Final = 50
"""As wide and high as the terminal that an action gets which asks for one."""
LANES_MAX: Final = 64
"""Most lanes in one cast: each is read by itself, side by side."""

_encode: Final[Callable[[Any], bytes]] = msgspec.json.Encoder().encode


def asciicast(
    version: int,
    *,
    lane: str | None = None,
    columns: int = COLUMNS,
    rows: int = ROWS,
    idle_seconds: float | None = None,
) -> Writer:
    """Return a writer of casts; it raises `InvalidRequest` where the session has no such lane.

    Args:
        version: 2 or 3.
        lane: Only this lane; None for all.
        columns: Width of the terminal.
        rows: Its height.
        idle_seconds: Longest silence when it is played; None keeps every one.
    """

    def write(chronicle: Chronicle, tally: Tally) -> Iterator[bytes]:
        frames = _frames(chronicle, tally, lane)
        first = next(frames, None)
        begin = 0 if first is None else first.micros
        yield _encode(_header(version, chronicle, begin, columns, rows, idle_seconds)) + b"\n"
        before = begin
        for frame in chain(() if first is None else (first,), frames):
            tally.written += 1
            # Version 3 has the time since the line before, version 2 that since the start.
            micros = frame.micros - (before if version == 3 else begin)
            before = frame.micros
            yield _encode([micros / 1_000_000, frame.code, frame.text]) + b"\n"

    return write


def _frames(chronicle: Chronicle, tally: Tally, lane: str | None) -> Iterator[Frame]:
    known = chronicle.lanes()
    if lane is not None and lane not in known:
        raise InvalidRequest(f"Session {chronicle.session!r} has no lane {lane!r}; it has {', '.join(known)}.")
    lanes = known if lane is None else (lane,)
    if len(lanes) <= 1:
        for name in lanes:
            yield from lane_frames(chronicle, tally, name)
        return
    for name in lanes[LANES_MAX:]:
        tally.leave_out(f"lane {name}")
    shown = ""
    for frame in merge(*(lane_frames(chronicle, tally, name, f"[{name}] $ ") for name in lanes[:LANES_MAX])):
        if frame.lane != shown:
            shown = frame.lane
            yield frame._replace(code="m", text=f"lane {shown}")
        yield frame


def _header(
    version: int, chronicle: Chronicle, begin: int, columns: int, rows: int, idle_seconds: float | None
) -> dict[str, Any]:
    size: dict[str, Any] = (
        {"term": {"cols": columns, "rows": rows, "type": "xterm-256color"}}
        if version == 3
        else {"width": columns, "height": rows, "env": {"TERM": "xterm-256color"}}
    )
    idle = {} if idle_seconds is None else {"idle_time_limit": idle_seconds}
    return {
        "version": version,
        **size,
        "timestamp": begin // 1_000_000,
        "title": f"{chronicle.tenant}/{chronicle.session}",
        **idle,
    }
