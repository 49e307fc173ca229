"""Payloads of the built-in actions: what somebody wanted done.

Names and fields follow the vocabulary of OpenHands V0 (research on its wire format), minus what was an accident of it:
`thought` stays where agents rely on it, timeouts are ours and named, secrets and confirmation live outside the payload.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from chronicled.events.kind import KindSpec, Payload, action
from chronicled.events.kinds import former
from chronicled.events.kinds.runnable import Path, Runnable, Seconds, VariableName
from chronicled.events.parts import Blobs

__all__ = [
    "ACTIONS",
    "Browse",
    "BrowseInteractive",
    "CallToolMcp",
    "ChangeAgentState",
    "Condensation",
    "CondensationRequest",
    "Delegate",
    "Edit",
    "Finish",
    "LoopRecovery",
    "Message",
    "Read",
    "Recall",
    "Reject",
    "Run",
    "RunIpython",
    "Runnable",
    "System",
    "Task",
    "TaskTracking",
    "Think",
    "Write",
]

Text = Annotated[str, msgspec.Meta(min_length=1)]


class Run(Runnable, frozen=True, kw_only=True):
    """Run a command line in the lane's persistent bash, or a program without any shell: exactly one of the two."""

    command: str | None = None
    """A command line, of any number of lines."""
    argv: Annotated[list[str], msgspec.Meta(min_length=1)] | None = None
    """A program and its arguments, as they are: nothing is expanded or split."""
    environment: dict[VariableName, str] = {}
    """Variables for this command alone."""
    tty: bool = False
    """Give it a terminal for its output too."""
    quiet_seconds: Seconds | None = None
    """End it when it has printed nothing for so long."""
    working_directory: Path | None = None
    """Where to run it; None is where the lane's last command ended."""
    hidden: bool = False
    blobs: Blobs = {}
    """Which fields show only a head here, with the digest of the blob that holds the whole; never set by a client."""

    def __post_init__(self) -> None:
        if (self.command is None) == (self.argv is None):
            raise ValueError("give either `command` (a shell's command line) or `argv` (a program and its arguments)")


class RunIpython(Runnable, frozen=True, kw_only=True):
    """Run a cell in the lane's Python kernel."""

    code: str
    include_extra: bool = True
    blobs: Blobs = {}


class Read(Runnable, frozen=True, kw_only=True):
    """Read a file, whole or a range of its lines or of its bytes."""

    path: Path
    line_first: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """First line to return, from 1."""
    line_last: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Last line to return, inclusive."""
    byte_offset: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """First byte to return, from 0; the content is then base64 unless a charset is named."""
    byte_count: Annotated[int, msgspec.Meta(ge=1)] | None = None
    charset: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | None = None
    """How the file's bytes are text, e.g. `latin-1`; None finds out, and tells."""

    def __post_init__(self) -> None:
        lines = self.line_first is not None or self.line_last is not None
        if lines and (self.byte_offset is not None or self.byte_count is not None):
            raise ValueError("a range is either of lines or of bytes")


class Write(Runnable, frozen=True, kw_only=True):
    """Write a file, replacing it in one step; parents are created."""

    path: Path
    content: str
    encoding: Literal["utf-8", "base64"] = "utf-8"
    """`base64` for bytes that are not text."""
    blobs: Blobs = {}


class Edit(Runnable, frozen=True, kw_only=True):
    """Change a file in place."""

    path: Path
    command: Literal["view", "create", "str_replace", "insert", "undo_edit"]
    file_text: str | None = None
    old_str: str | None = None
    new_str: str | None = None
    insert_line: Annotated[int, msgspec.Meta(ge=0)] | None = None
    view_range: tuple[int, int] | None = None
    blobs: Blobs = {}


class Browse(Runnable, frozen=True, kw_only=True):
    """Open a page."""

    url: Text
    return_axtree: bool = False


class BrowseInteractive(Runnable, frozen=True, kw_only=True):
    """Act on the open page."""

    browser_actions: str
    return_axtree: bool = False


class CallToolMcp(Runnable, frozen=True, kw_only=True):
    """Call a tool of an MCP server."""

    name: Text
    arguments: dict[str, Any] = {}


class Message(Payload, frozen=True, kw_only=True):
    """Something said, by the user or by the agent."""

    content: str
    role: Literal["user", "agent"] = "agent"
    image_urls: list[str] = []
    file_urls: list[str] = []
    wait_for_response: bool = False
    blobs: Blobs = {}


class System(Payload, frozen=True, kw_only=True):
    """The system prompt and the tools that the agent was given."""

    content: str
    tools: list[dict[str, Any]] = []
    agent: str | None = None
    agent_version: str | None = None
    blobs: Blobs = {}


class Think(Payload, frozen=True, kw_only=True):
    """A thought worth keeping."""

    thought: str
    blobs: Blobs = {}


class Finish(Payload, frozen=True, kw_only=True):
    """The agent says that it is done."""

    final_thought: str = ""
    outputs: dict[str, Any] = {}
    thought: str = ""


class Reject(Payload, frozen=True, kw_only=True):
    """The agent refuses its task."""

    outputs: dict[str, Any] = {}
    thought: str = ""


class Delegate(Payload, frozen=True, kw_only=True):
    """Hand a task to another agent."""

    agent: Text
    inputs: dict[str, Any] = {}
    thought: str = ""


class Recall(Payload, frozen=True, kw_only=True):
    """Look something up in the agent's memory."""

    recall_type: Literal["workspace_context", "knowledge"]
    query: str = ""
    thought: str = ""


class Condensation(Payload, frozen=True, kw_only=True):
    """Leave events out of the agent's context, by id or as a range of sequences, with a summary in their place."""

    forgotten_event_ids: list[str] | None = None
    forgotten_sequence_first: int | None = None
    forgotten_sequence_last: int | None = None
    summary: str | None = None
    summary_offset: int | None = None

    def __post_init__(self) -> None:
        by_range = (self.forgotten_sequence_first is not None, self.forgotten_sequence_last is not None)
        if by_range[0] != by_range[1] or (self.forgotten_event_ids is not None) == by_range[0]:
            raise ValueError("name the forgotten events either by id or by first and last sequence")
        if (self.summary is None) != (self.summary_offset is None):
            raise ValueError("summary and summary_offset come together")


class CondensationRequest(Payload, frozen=True, kw_only=True):
    """Ask for a condensation."""


class ChangeAgentState(Payload, frozen=True, kw_only=True):
    """Ask the agent to change its state."""

    agent_state: Text
    reason: str = ""


class Task(Payload, frozen=True, kw_only=True):
    """One entry of a task list."""

    title: str
    status: Literal["todo", "in_progress", "done"] = "todo"
    notes: str = ""
    id: str | None = None


class TaskTracking(Payload, frozen=True, kw_only=True):
    """View or replace the agent's task list."""

    command: Literal["view", "plan"] = "view"
    task_list: list[Task] = []
    thought: str = ""


class LoopRecovery(Payload, frozen=True, kw_only=True):
    """How to get out of a detected loop."""

    option: Literal["prompt", "repeat_prompt", "stop"] = "prompt"


ACTIONS: Final[tuple[KindSpec, ...]] = (
    action("run", former.Run, runnable=True, parts=("command",)),
    action("run", Run, version=2, runnable=True, parts=("command",)),
    action("run_ipython", RunIpython, runnable=True, parts=("code",)),
    action("read", former.Read, runnable=True),
    action("read", Read, version=2, runnable=True),
    action("write", Write, runnable=True, parts=("content",)),
    action("edit", Edit, runnable=True, parts=("file_text", "old_str", "new_str")),
    action("browse", Browse, runnable=True),
    action("browse_interactive", BrowseInteractive, runnable=True),
    action("call_tool_mcp", CallToolMcp, runnable=True),
    action("message", Message, parts=("content",)),
    action("system", System, parts=("content",)),
    action("think", Think, parts=("thought",)),
    action("finish", Finish),
    action("reject", Reject),
    action("delegate", Delegate),
    action("recall", Recall),
    action("condensation", Condensation),
    action("condensation_request", CondensationRequest),
    action("change_agent_state", ChangeAgentState),
    action("task_tracking", TaskTracking),
    action("loop_recovery", LoopRecovery),
)
