"""The frames between worker and action server: one connection, multiplexed by action id.

Wire form: one byte that counts the descriptors which come with the frame, three bytes of length (big endian), then a
MessagePack map with a `type` member (structs below). The action server dials the worker's Unix socket; nothing listens
inside a sandbox. Where no socket can be shared, the same frames go over the container's standard streams (`seal.py`).

    server                                worker
      Hello    ───────────────────────────▶         protocol, generation, token, fence last seen, ways of transfer
               ◀─────────────────────────── Welcome  (+ result spool), or Refusal
               ◀─────────────────────────── Query    what runs, what is done
      Status   ───────────────────────────▶
               ◀─────────────────────────── Dispatch (+ output spool, + content)
                  ◀──────────────────────── Environment  variables for every lane, old and new
      Started, Output, Waiting, Background ▶
      Result   ───────────────────────────▶         in the spool before it is sent; sent again until Settle
               ◀─────────────────────────── Settle   the observation is in the log: forget it

There are two ways of transfer; the worker picks one in `Welcome`, and it stays for the life of the generation:

- `descriptors`, the fast way: result spool, output spools and contents are files of the worker, and their descriptors
  travel as SCM_RIGHTS with the first byte of `Welcome` and `Dispatch`. An action server never sends any.
- `inband`, wherever descriptors cannot travel (standard streams, gVisor): bytes go as frames, and nothing is sent that
  the receiver has not given credit for, per action and in sum.

      OutputData  ────────────────────────▶         from `Dispatch.output_offset` on, in order, without a gap
                  ◀──────────────────────── Credit  written so far, and how far to go
                  ◀──────────────────────── Resume  over a new connection: go on from here
      ContentCredit ──────────────────────▶
                  ◀──────────────────────── ContentData

  A `Result` follows the last byte of its action's output, and bears a seal under a key of worker and server alone.

Everything that comes from a sandbox is untrusted: sizes, types and ids are checked by the receiver.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from chronicled.events.outcome import Effects, Outcome

__all__ = [
    "PROTOCOL",
    "PROTOCOL_MIN",
    "Background",
    "Cancel",
    "ContentCredit",
    "ContentData",
    "Credit",
    "Dispatch",
    "Environment",
    "Frame",
    "Hello",
    "Input",
    "Interrupt",
    "Output",
    "OutputData",
    "Query",
    "Refusal",
    "Result",
    "Resume",
    "Settle",
    "Shutdown",
    "Started",
    "Status",
    "ToServer",
    "ToWorker",
    "Transfer",
    "Waiting",
    "Welcome",
]

PROTOCOL: Final = 1
"""Version of these frames. A peer speaks `PROTOCOL_MIN` to `PROTOCOL`; the connection uses the highest common one.

It is still 1 with the in-band way: no version was released before it, so that no server without it can be met.
"""
PROTOCOL_MIN: Final = 1

Transfer = Literal["descriptors", "inband"]
"""How bytes that are no frames get across."""


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
    versions: dict[str, int] = {}
    """Version of the payload that an executor takes, for kinds of third parties."""
    units: dict[str, str] = {}
    """Units of third parties that were brought here: release by owner."""
    missing: dict[str, str] = {}
    """By owner, why executors of it could not be loaded."""
    limits: dict[str, int] = {}
    transfers: tuple[str, ...] = ("descriptors",)
    """Ways of transfer that it can use, over this connection and with what its generation has used so far."""


class Welcome(Frame, frozen=True, kw_only=True):
    """The worker's answer; the result spool's descriptor comes with it. Connections of a lower fence close unread."""

    protocol: int
    fence: int
    unclaimed_seconds_max: float = 900.0
    """The server ends its generation after so long without a worker."""
    transfer: Transfer = "descriptors"
    """One of the server's; `inband` brings no descriptor."""
    window_bytes: int = 0
    """In-band: how much of an action's output may be on its way before there is credit for more."""
    window_bytes_sum: int = 0
    """In-band: the same for all actions together."""


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
    output_offset: int = 0
    """In-band: how much of its output the worker has, should it be known already; -1 where that was said before."""
    position: int = 0
    """Place of the action in the log: in a lane, nothing at or before a settled action is ever run. 0: not told."""
    content_bytes: int | None = None
    """Size of the content that comes with it (an upload), as a second descriptor or in-band; None for none."""


class Started(Frame, frozen=True, kw_only=True):
    """The action runs now. Not sent for what is over within 2 ms: then the result alone says that it ran."""

    action: str


class Output(Frame, frozen=True, kw_only=True):
    """The output spool of the action has grown to `size` bytes. At most one such frame each 5 ms."""

    action: str
    size: int


class OutputData(Frame, frozen=True, kw_only=True):
    """In-band: the next bytes of the action's output, `offset` bytes into it. Only within the worker's credit."""

    action: str
    offset: int
    data: bytes


class ContentCredit(Frame, frozen=True, kw_only=True):
    """In-band: the action has `taken` bytes of its content, and the worker may send up to `limit`."""

    action: str
    taken: int
    limit: int


class Waiting(Frame, frozen=True, kw_only=True):
    """The running action waits for somebody to type, or no longer does; not sent when typing ends the waiting."""

    action: str
    waiting: bool


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
    seal: bytes = b""
    """In-band: proves that the server made it (`seal.py`)."""


class Settle(Frame, frozen=True, kw_only=True):
    """The action's observation is durable: forget its result. The id stays known for the life of the generation."""

    action: str


class Cancel(Frame, frozen=True, kw_only=True):
    """End the action and everything it started."""

    action: str


class Environment(Frame, frozen=True, kw_only=True):
    """Set these variables (None: unset) in every lane: for what is dispatched from now on, in live shells too."""

    variables: dict[str, str | None]


class Interrupt(Frame, frozen=True, kw_only=True):
    """Send a signal to the action's foreground process group."""

    action: str
    signal: int


class Input(Frame, frozen=True, kw_only=True):
    """Type this to the action."""

    action: str
    data: bytes


class Credit(Frame, frozen=True, kw_only=True):
    """In-band: `written` bytes of the action's output are in the worker's spool and may be forgotten."""

    action: str
    written: int
    limit: int
    """How far into the action's output the server may send."""
    total: int
    """How many bytes of all outputs it may send over this connection."""


class Resume(Frame, frozen=True, kw_only=True):
    """In-band: the worker has `offset` bytes of the output of an action of an earlier connection; go on from there."""

    action: str
    offset: int
    discard: bool = False
    """The worker has no use for its output: send only how it ended."""
    content_follows: bool = False
    """The worker has its content on the way: what of it is still to come waits for that."""


class ContentData(Frame, frozen=True, kw_only=True):
    """In-band: the next bytes of the action's content. Only within the server's credit."""

    action: str
    offset: int
    data: bytes


class Shutdown(Frame, frozen=True, kw_only=True):
    """End the generation: kill everything, then exit."""


ToWorker = Hello | Refusal | Status | Started | Output | OutputData | ContentCredit | Waiting | Background | Result
ToServer = (
    Welcome
    | Refusal
    | Query
    | Dispatch
    | Settle
    | Cancel
    | Environment
    | Interrupt
    | Input
    | Credit
    | Resume
    | ContentData
    | Shutdown
)
