"""Payloads of the built-in observations: what an action led to.

A terminal observation has the kind of its action; its own fields have defaults: an action that never ran fills none.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from chronicled.events.kind import KindSpec, Payload, TerminalPayload, observation
from chronicled.events.kinds import former
from chronicled.events.kinds.actions import Task
from chronicled.events.parts import Blobs

__all__ = [
    "OBSERVATIONS",
    "AgentStateChanged",
    "BrowseInteractiveObservation",
    "BrowseObservation",
    "CallToolMcpObservation",
    "CondensationObservation",
    "DelegateObservation",
    "EditObservation",
    "LoopDetection",
    "Notice",
    "OutputFields",
    "Progress",
    "ReadObservation",
    "RecallObservation",
    "RunIpythonObservation",
    "RunObservation",
    "TaskTrackingObservation",
    "UserRejected",
    "WriteObservation",
]


class OutputFields(TerminalPayload, frozen=True, kw_only=True):
    """What an observation says of the bytes that its action printed (the bytes themselves are kept beside the log)."""

    output: str = ""
    """All of the output when `truncated` is false, else its head, a line that says how much is missing, and its tail.
    Bytes that are not UTF-8 show as U+FFFD here; the blob has them as they were."""
    output_bytes: int = 0
    """Size of the whole output, also of what was dropped at the cap."""
    output_digest: str | None = None
    """SHA-256 (hex) of the kept output; the blob of that digest holds it unless all of it stands in `output`."""
    output_blob: bool = False
    """True when a blob holds the kept output."""
    output_dropped_bytes: int = 0
    """How much was dropped because the output went over its cap."""
    truncated: bool = False
    """True when `output` shows less than was printed."""
    output_index: list[tuple[int, int]] = []
    """When it was printed, for replay: pairs of offset into the kept output and milliseconds since the dispatch."""


class RunObservation(OutputFields, frozen=True, kw_only=True):
    """How a command ended."""

    exit_code: int | None = None
    signal: int | None = None
    """The signal that ended the shell, where the wait status proves one."""
    working_directory: str | None = None
    terminal_restarted: bool = False
    """The lane's shell was replaced: its variables and functions are gone."""
    survivors_killed: int = 0
    """Processes of this action that were killed at its end."""


class RunIpythonObservation(OutputFields, frozen=True, kw_only=True):
    """How a cell ended."""

    result: str | None = None
    image_urls: list[str] = []
    kernel_restarted: bool = False
    blobs: Blobs = {}
    """Which fields show only a head here, with the digest of the blob that holds the whole."""


class ReadObservation(TerminalPayload, frozen=True, kw_only=True):
    """What a file holds."""

    path: str | None = None
    content: str = ""
    """What was read; where `blobs` names it, only its head, and the blob holds the whole in the same encoding."""
    encoding: Literal["utf-8", "base64"] = "utf-8"
    file_bytes: int = 0
    line_count: int | None = None
    charset: str | None = None
    """How the bytes were read as text; None where they are shown as base64."""
    byte_offset: int = 0
    """Where in the file the content begins."""
    truncated: bool = False
    """True when the file, or the lines asked for, hold more than was read: more than 1 MiB."""
    blobs: Blobs = {}


class WriteObservation(TerminalPayload, frozen=True, kw_only=True):
    """What a write did."""

    path: str | None = None
    bytes_written: int = 0
    existed: bool = False


class EditObservation(TerminalPayload, frozen=True, kw_only=True):
    """What an edit did to the real file."""

    path: str | None = None
    content: str = ""
    """What a view shows, lines numbered; after a change the lines around it."""
    diff: str | None = None
    """Unified differences of the file's bytes before and after, as text."""
    existed: bool = False
    charset: str | None = None
    """How the file's bytes are text, before and after."""
    line_count: int | None = None
    match_lines: list[int] = []
    """Where `old_str` begins when it did not match exactly once: its first hundred places, none for no match."""
    truncated: bool = False
    """True when a view shows less than was asked for."""
    blobs: Blobs = {}


class BrowseObservation(TerminalPayload, frozen=True, kw_only=True):
    """What a page shows."""

    url: str | None = None
    content: str = ""
    screenshot: str | None = None
    """Digest of a blob."""
    open_pages_urls: list[str] = []
    active_page_index: int = -1
    axtree: dict[str, Any] | None = None
    blobs: Blobs = {}


class BrowseInteractiveObservation(BrowseObservation, frozen=True, kw_only=True):
    """What the page shows after acting on it."""

    last_browser_action: str = ""
    last_browser_action_error: str = ""


class CallToolMcpObservation(TerminalPayload, frozen=True, kw_only=True):
    """What a tool answered."""

    name: str | None = None
    content: str = ""
    result: Any = None
    blobs: Blobs = {}


class Progress(Payload, frozen=True, kw_only=True):
    """A glimpse of a running action: at most one a second, 4 KiB each, 64 an action."""

    output: str = ""
    """The newest output since the last glimpse, at most 4 KiB of it."""
    output_bytes: int = 0
    """How much was printed so far."""
    needs_input: bool = False
    message: str | None = None


class AgentStateChanged(Payload, frozen=True, kw_only=True):
    """The agent's state is another now."""

    agent_state: str
    reason: str = ""


class DelegateObservation(Payload, frozen=True, kw_only=True):
    """What the other agent brought back."""

    content: str = ""
    outputs: dict[str, Any] = {}


class RecallObservation(Payload, frozen=True, kw_only=True):
    """What the agent's memory holds."""

    recall_type: Literal["workspace_context", "knowledge"]
    content: str = ""
    details: dict[str, Any] = {}


class CondensationObservation(Payload, frozen=True, kw_only=True):
    """The condensed view."""

    content: str = ""


class TaskTrackingObservation(Payload, frozen=True, kw_only=True):
    """The task list as it stands."""

    command: Literal["view", "plan"] = "view"
    content: str = ""
    task_list: list[Task] = []


class UserRejected(Payload, frozen=True, kw_only=True):
    """A person said no."""

    content: str = ""


class LoopDetection(Payload, frozen=True, kw_only=True):
    """The agent goes round in circles."""

    content: str = ""


class Notice(Payload, frozen=True, kw_only=True):
    """Something that an agent was told, or told of itself, that is no runnable action's end: an error, a success."""

    content: str
    level: Literal["info", "success", "error"] = "info"
    reason: str = ""
    """Stable word for why, where there is one."""
    blobs: Blobs = {}


OBSERVATIONS: Final[tuple[KindSpec, ...]] = (
    observation("run", RunObservation, terminal=True),
    observation("run_ipython", RunIpythonObservation, terminal=True, parts=("result",)),
    observation("read", former.ReadObservation, terminal=True, parts=("content",)),
    observation("read", ReadObservation, version=2, terminal=True, parts=("content",)),
    observation("write", WriteObservation, terminal=True),
    observation("edit", former.EditObservation, terminal=True, parts=("content", "diff")),
    observation("edit", EditObservation, version=2, terminal=True, parts=("content", "diff")),
    observation("browse", BrowseObservation, terminal=True, parts=("content",)),
    observation("browse_interactive", BrowseInteractiveObservation, terminal=True, parts=("content",)),
    observation("call_tool_mcp", CallToolMcpObservation, terminal=True, parts=("content",)),
    observation("progress", Progress),
    observation("agent_state_changed", AgentStateChanged),
    observation("delegate", DelegateObservation),
    observation("recall", RecallObservation),
    observation("condensation", CondensationObservation),
    observation("task_tracking", TaskTrackingObservation),
    observation("user_rejected", UserRejected),
    observation("loop_detection", LoopDetection),
    observation("notice", Notice, parts=("content",)),
)
