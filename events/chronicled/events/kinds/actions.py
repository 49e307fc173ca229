"""Payloads of the built-in actions: what somebody wanted done.

Names and fields follow the vocabulary of OpenHands V0 (research on its wire format), minus what was an accident of it:
`thought` stays where agents rely on it, timeouts are ours and named, secrets and confirmation live outside the payload.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from chronicled.events.kind import KindSpec, Payload, action
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

Seconds = Annotated[float, msgspec.Meta(gt=0, le=604_800)]
Text = Annotated[str, msgspec.Meta(min_length=1)]
Path = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
VariableName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=256)]
SecurityRisk = Literal["unknown", "low", "medium", "high"]


class Runnable(Payload, frozen=True, kw_only=True):
    """What every runnable action may carry."""

    timeout_seconds: Seconds | None = None
    """Command deadline; None takes the daemon's default."""
    queue_seconds: Seconds | None = None
    """How long it may wait for its turn before it ends `rejected`."""
    on_state_loss: Literal["reject", "run"] = "reject"
    """What becomes of it if the sandbox (or its lane's shell) is lost before it ran."""
    thought: str = ""
    security_risk: SecurityRisk = "unknown"


class Run(Runnable, frozen=True, kw_only=True):
    """Run a command line in the lane's persistent bash."""

    command: str
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


class RunIpython(Runnable, frozen=True, kw_only=True):
    """Run a cell in the lane's Python kernel."""

    code: str
    include_extra: bool = True
    blobs: Blobs = {}


class Read(Runnable, frozen=True, kw_only=True):
    """Read a file, whole or a range of its lines."""

    path: Path
    line_first: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """First line to return, from 1."""
    line_last: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Last line to return, inclusive."""


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
    action("run", Run, runnable=True, parts=("command",)),
    action("run_ipython", RunIpython, runnable=True, parts=("code",)),
    action("read", Read, runnable=True),
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
