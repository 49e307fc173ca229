"""The frames between worker and action server: one connection, multiplexed by action id.

Wire form: one byte that counts the descriptors which come with the frame, three bytes of length (big endian), then a
MessagePack map with a `type` member (structs below). The action server dials the worker's Unix socket; nothing listens
inside a sandbox. Descriptors travel as SCM_RIGHTS with the first byte of the frame that needs them: `Welcome` (the
generation's result spool) and `Dispatch` (the action's output spool). An action server never sends any.

    server                                worker
      Hello    ───────────────────────────▶         protocol, generation, token, fence last seen
               ◀─────────────────────────── Welcome  (+ result spool), or Refusal
               ◀─────────────────────────── Query    what runs, what is done
      Status   ───────────────────────────▶
               ◀─────────────────────────── Dispatch (+ output spool)
      Started, Output, Background ────────▶
      Result   ───────────────────────────▶         in the spool before it is sent; sent again until Settle
               ◀─────────────────────────── Settle   the observation is in the log: forget it

Everything that comes from a sandbox is untrusted: sizes, types and ids are checked by the receiver.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from chronicled.events.outcome import Effects, Outcome

__all__ = [
    "PROTOCOL",
    "PROTOCOL_MIN",
    "Background",
    "Cancel",
    "Dispatch",
    "Frame",
    "Hello",
    "Input",
    "Interrupt",
    "Output",
    "Query",
    "Refusal",
    "Result",
    "Settle",
    "Shutdown",
    "Started",
    "Status",
    "ToServer",
    "ToWorker",
    "Welcome",
]

PROTOCOL: Final = 1
"""Version of these frames. A peer speaks `PROTOCOL_MIN` to `PROTOCOL`; the connection uses the highest common one."""
PROTOCOL_MIN: Final = 1


class Frame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=str.lower):
    """Base of every frame."""


class Hello(Frame, frozen=True, kw_only=True):
    """First frame of the action server."""

    protocol: int
    protocol_min: int
    build: str
    boot_id: str
    generation: str
    token: str
    """The secret that the worker gave this generation when it started it."""
    fence: int
    """Highest fence that it has accepted so far, 0 for none."""
    pid: int
    start_ticks: int
    """Start time of the process, clock ticks since boot (`/proc/PID/stat`, field 22)."""
    kinds: list[str]
    """Kinds of action that it has an executor for."""
    limits: dict[str, int] = {}


class Welcome(Frame, frozen=True, kw_only=True):
    """The worker's answer; the result spool's descriptor comes with it. Connections of a lower fence close unread."""

    protocol: int
    fence: int
    unclaimed_seconds_max: float = 900.0
    """The server ends its generation after so long without a worker."""


class Refusal(Frame, frozen=True, kw_only=True):
    """Either side: no, and why; the connection closes."""

    code: str
    message: str


class Query(Frame, frozen=True, kw_only=True):
    """Ask what runs and what is done."""


class Status(Frame, frozen=True, kw_only=True):
    """What runs and what is done but not settled, by action id."""

    running: list[str]
    done: list[str]


class Dispatch(Frame, frozen=True, kw_only=True):
    """Run this action; the output spool's descriptor comes with it. A known id is never run again, only answered."""

    action: str
    fence: int
    lane: str
    kind: str
    version: int
    payload: bytes
    """The action's payload as JSON, with secrets in place."""
    timeout_seconds: float | None
    """Command deadline, already with the default filled in; None for none."""
    quiet_seconds: float | None = None
    output_bytes_max: int
    """Output beyond is counted and dropped."""


class Started(Frame, frozen=True, kw_only=True):
    """The action runs now. Not sent for what is over within 2 ms: then the result alone says that it ran."""

    action: str


class Output(Frame, frozen=True, kw_only=True):
    """The output spool of the action has grown to `size` bytes. At most one such frame each 5 ms."""

    action: str
    size: int


class Background(Frame, frozen=True, kw_only=True):
    """What a lane's background jobs printed between actions; at most 4 KiB a frame, `size` counts all of it."""

    lane: str
    data: bytes
    size: int


class Result(Frame, frozen=True, kw_only=True):
    """How the action ended: the same bytes stand in the result spool."""

    action: str
    outcome: Outcome
    effects: Effects
    reason: str | None = None
    message: str | None = None
    deadline: str | None = None
    duration_seconds: float | None = None
    output_bytes: int = 0
    """Everything that it printed, dropped bytes included; the spool holds the first `output_bytes - dropped`."""
    output_dropped_bytes: int = 0
    state_lost: bool = False
    """The lane's shell (or kernel) was replaced: queued actions of the lane meet a fresh state."""
    fields: dict[str, Any] = {}
    """Further fields of the observation of the action's kind, e.g. `exit_code`; checked by the worker."""


class Settle(Frame, frozen=True, kw_only=True):
    """The action's observation is durable: forget its result. The id stays known for the life of the generation."""

    action: str


class Cancel(Frame, frozen=True, kw_only=True):
    """End the action and everything it started."""

    action: str


class Interrupt(Frame, frozen=True, kw_only=True):
    """Send a signal to the action's foreground process group."""

    action: str
    signal: int


class Input(Frame, frozen=True, kw_only=True):
    """Type this to the action."""

    action: str
    data: bytes


class Shutdown(Frame, frozen=True, kw_only=True):
    """End the generation: kill everything, then exit."""


ToWorker = Hello | Refusal | Status | Started | Output | Background | Result
ToServer = Welcome | Refusal | Query | Dispatch | Settle | Cancel | Interrupt | Input | Shutdown
