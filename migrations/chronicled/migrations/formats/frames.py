"""Frames: a lane's actions as what a terminal would have shown, each at its time, in order of time."""

from __future__ import annotations

import codecs
import shlex
from collections import deque
from collections.abc import Iterator
from heapq import merge
from typing import Any, Final, NamedTuple

import msgspec

from chronicled.events.codec import Opaque
from chronicled.events.envelope import ACTION, OBSERVATION
from chronicled.events.errors import BlobNotFound
from chronicled.events.kinds.actions import Message, Run, RunIpython, Think
from chronicled.events.kinds.lifecycle import InputSent
from chronicled.events.kinds.observations import RunIpythonObservation, RunObservation
from chronicled.events.outcome import Effects
from chronicled.events.parts import blobs_of
from chronicled.migrations.formats.chronicle import Chronicle, Item, Tally

__all__ = ["Frame", "carriage", "lane_frames"]

PIECE_BYTES: Final = 16 << 10
"""Most bytes of output in one frame."""
HELD_MAX: Final = 1000
"""Most markers and inputs that are held while an action of their lane runs; what is more is counted as left out."""
LABEL_CHARACTERS_MAX: Final = 120
PROMPT_BYTES_MAX: Final = 64 << 10
BOLD, DIM, PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


class Frame(NamedTuple):
    """Something that a terminal shows, is told, or marks; compares by time, then by place in the log."""

    micros: int
    """Since 1970."""
    position: int
    part: int
    code: str
    """As in an asciicast: `o` output, `i` input, `m` marker."""
    text: str
    lane: str


class _Lane:
    """One lane's way through the log: what is open, and what happened meanwhile."""

    def __init__(self, name: str, prompt: str) -> None:
        self.name = name
        self.prompt = prompt
        self.open: deque[str] = deque()
        self.held: list[Frame] = []
        self.micros = 0
        """Time of the last frame that was given away."""

    def release(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Give frames away, none before the last one."""
        for frame in frames:
            self.micros = max(self.micros, frame.micros)
            yield frame if frame.micros == self.micros else frame._replace(micros=self.micros)


def lane_frames(chronicle: Chronicle, tally: Tally, name: str, prompt: str = "$ ") -> Iterator[Frame]:
    """Yield the frames of one lane, times rising.

    Commands and cells show their prompt when they began, and their output at the times of its index; other events of
    the agent are markers. An action that has not ended shows its prompt and a marker.
    """
    lane = _Lane(name, prompt)
    for item in chronicle.items(name):
        tally.take(item)
        event = item.event
        if event.category == ACTION and _runs(item):
            lane.open.append(event.id)
        elif event.category == OBSERVATION and item.terminal and event.cause is not None:
            first = event.cause not in lane.open or lane.open[0] == event.cause
            if event.cause in lane.open:
                lane.open.remove(event.cause)
            if first:
                yield from lane.release(_ended(chronicle, tally, lane, item))
            else:
                # It left the queue while another one was running.
                lane.held += _ended(chronicle, tally, _Lane(name, prompt), item)
        else:
            frame = _aside(item, name)
            if frame is None:
                tally.leave_out(event.kind)
            elif not lane.open:
                yield from lane.release(iter((frame,)))
            elif len(lane.held) < HELD_MAX:
                lane.held.append(frame)
            else:
                tally.leave_out(event.kind)
    yield from lane.release(_unfinished(chronicle, tally, lane))


def _runs(item: Item) -> bool:
    # Of what cannot be read it is not known whether it runs; its observation tells.
    return isinstance(item.payload, msgspec.Struct) and hasattr(item.payload, "timeout_seconds")


def _aside(item: Item, lane: str) -> Frame | None:
    """Return what an event shows beside the actions that run; None for what a terminal has no place for."""
    event, payload = item.event, item.payload
    micros = item.micros
    if isinstance(payload, InputSent):
        return Frame(micros, event.position, 0, "i", payload.data, lane) if payload.encoding == "utf-8" else None
    if event.category != ACTION:
        return None
    return Frame(micros, event.position, 0, "m", _label(event.kind, _telling(payload)), lane)


def _telling(payload: Any) -> str:
    if isinstance(payload, Message):
        return f"{payload.role}: {payload.content}"
    if isinstance(payload, Think):
        return payload.thought
    if isinstance(payload, Opaque):
        return payload.reason
    found = (getattr(payload, name, None) for name in ("path", "url", "name", "final_thought", "query", "agent"))
    return next((each for each in found if isinstance(each, str) and each), "")


def _label(kind: str, text: str) -> str:
    line = " ".join(f"{kind}: {text}".split()) if text else kind
    shown = "".join(each if each.isprintable() else "\ufffd" for each in line[: LABEL_CHARACTERS_MAX + 1])
    return shown if len(shown) <= LABEL_CHARACTERS_MAX else shown[: LABEL_CHARACTERS_MAX - 1] + "…"


def _ended(chronicle: Chronicle, tally: Tally, lane: _Lane, end: Item) -> Iterator[Frame]:
    event, payload = end.event, end.payload
    action = chronicle.find(event.cause or "")
    held, lane.held = lane.held, []
    micros = end.micros
    asked = micros if action is None else action.micros
    seconds = getattr(payload, "duration_seconds", None)
    # An import does not tell how long it took: then it began when it was asked for.
    begin = max(lane.micros, asked, asked if seconds is None else micros - int(seconds * 1_000_000))
    ran = getattr(payload, "effects", None) != Effects.NONE
    command = None if action is None else _command(action.payload)
    if command is None or not ran or not isinstance(payload, RunObservation | RunIpythonObservation):
        label = event.kind if action is None else _label(event.kind, command or _telling(action.payload))
        outcome = getattr(payload, "outcome", None)
        shown = label if outcome in {None, "ok"} else f"{label} [{outcome}]"
        yield from merge(held, (Frame(micros, event.position, 0, "m", shown, lane.name),))
        return
    tty = isinstance(action.payload, Run) and action.payload.tty if action is not None else False
    shows = _show(chronicle, tally, lane, event.position, command, payload, begin, max(begin, micros), tty)
    yield from merge(held, shows)


def _show(
    chronicle: Chronicle,
    tally: Tally,
    lane: _Lane,
    position: int,
    command: str,
    end: RunObservation | RunIpythonObservation,
    begin: int,
    finish: int,
    tty: bool,
) -> Iterator[Frame]:
    part = 0

    def frame(micros: int, text: str, code: str = "o") -> Frame:
        nonlocal part
        part += 1
        return Frame(min(max(micros, begin), finish), position, part, code, text, lane.name)

    yield frame(begin, _label("run", command).removeprefix("run: "), "m")
    yield frame(begin, _prompt(lane.prompt, command))
    last = "\n"
    for micros, text in _timed(_chunks(chronicle, tally, end), end.output_index, begin):
        shown = text if tty else carriage(text, last)
        last = text[-1]
        yield frame(micros, shown)
    if isinstance(end, RunIpythonObservation) and end.result:
        yield frame(finish, ("" if last == "\n" else "\r\n") + carriage(end.result, ""))
        last = end.result[-1]
    remark = _remark(end)
    if last != "\n" or remark:
        tail = "" if last == "\n" else "\r\n"
        yield frame(finish, PLAIN + tail + (f"{DIM}[{remark}]{PLAIN}\r\n" if remark else ""))


def _chunks(chronicle: Chronicle, tally: Tally, end: RunObservation | RunIpythonObservation) -> Iterator[bytes]:
    """Yield the output as it was kept; what stands in the observation where its blob is gone."""
    if end.output_blob and end.output_digest is not None:
        try:
            yield from chronicle.blob(end.output_digest)
        except BlobNotFound:
            tally.missing_blobs += 1
        else:
            return
    if end.output:
        yield end.output.encode()


def _timed(chunks: Iterator[bytes], index: list[tuple[int, int]], begin: int) -> Iterator[tuple[int, str]]:
    """Yield the output as text in pieces, each with the time at which its first byte came; no character is cut."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    steps = deque(index)
    micros, offset = begin, 0
    for chunk in chunks:
        at = 0
        while at < len(chunk):
            while steps and steps[0][0] <= offset:
                micros = begin + steps.popleft()[1] * 1000
            end = min(len(chunk), at + PIECE_BYTES)
            if steps:
                end = min(end, at + steps[0][0] - offset)
            if text := decoder.decode(chunk[at:end]):
                yield micros, text
            offset += end - at
            at = end
    if text := decoder.decode(b"", final=True):
        yield micros, text


def _unfinished(chronicle: Chronicle, tally: Tally, lane: _Lane) -> Iterator[Frame]:
    tally.running += len(lane.open)
    frames = list(lane.held)
    for id in list(lane.open)[:HELD_MAX]:
        item = chronicle.find(id)
        if item is None:
            continue
        micros, position = item.micros, item.event.position
        command = _command(item.payload)
        shown = _label(item.event.kind, command or _telling(item.payload))
        if id == lane.open[0] and command is not None:
            frames.append(Frame(micros, position, 0, "o", _prompt(lane.prompt, command), lane.name))
        frames.append(Frame(micros, position, 1, "m", f"{shown} [not ended when this was exported]", lane.name))
    yield from sorted(frames)


def _command(payload: Any) -> str | None:
    if isinstance(payload, Run):
        return payload.command if payload.command is not None else shlex.join(payload.argv or ())
    return payload.code if isinstance(payload, RunIpython) else None


def _prompt(prompt: str, command: str) -> str:
    """Return the command as it was typed; control characters show as their escapes."""
    lines = command[:PROMPT_BYTES_MAX].rstrip("\n").split("\n")
    shown = ["".join(each if each.isprintable() else repr(each)[1:-1] for each in line) for line in lines]
    return f"{BOLD}{prompt}{PLAIN}" + "\r\n> ".join(shown) + "\r\n"


def carriage(text: str, before: str) -> str:
    """Return text that goes to a terminal without a line discipline: each bare LF gets its CR."""
    shown = text.replace("\r\n", "\n").replace("\n", "\r\n")
    # A CR LF that was cut in two: its CR has gone out already.
    return shown[1:] if before == "\r" and text.startswith("\n") else shown


def _remark(end: RunObservation | RunIpythonObservation) -> str:
    said: list[str] = []
    code = getattr(end, "exit_code", None)
    if end.outcome != "ok":
        said.append(f"{end.outcome}, exit code {code}" if code is not None else str(end.outcome))
    if end.output_dropped_bytes:
        said.append(f"{end.output_dropped_bytes} bytes of output were dropped at its cap")
    if blobs_of(end):
        said.append("the result shows only its head")
    return "; ".join(said)
