"""Bodies that the API takes and gives: the structs that both the handlers and the OpenAPI document are made from."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from chronicled.daemon.http.secret_bodies import Secrets
from chronicled.events.envelope import Event
from chronicled.events.kinds.runnable import VariableName
from chronicled.events.sandbox import SandboxRequest
from chronicled.storage.projections import SandboxState

__all__ = [
    "NAME_PATTERN",
    "ActionBody",
    "ActionEnded",
    "ActionRecorded",
    "ActionView",
    "ActionsEnded",
    "ActionsRecorded",
    "CancelBody",
    "EventPage",
    "Health",
    "InputBody",
    "InterruptBody",
    "Problem",
    "RequestRecorded",
    "RestartBody",
    "SessionBody",
    "SessionPage",
    "SessionView",
]

NAME_PATTERN: Final = r"^(?!\.{1,2}$)[A-Za-z0-9._-]{1,128}$"
"""What `check_name` admits, for the description: its error has a code of its own."""
Name = Annotated[str, Meta(extra_json_schema={"pattern": NAME_PATTERN})]
NewName = Annotated[str, Meta(extra_json_schema={"pattern": NAME_PATTERN.replace("^", "^(?!_)")})]
Uuid = Annotated[str, Meta(extra_json_schema={"format": "uuid"}, max_length=64)]
Text = Annotated[str, Meta(max_length=4096)]


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what callers send: a member that is not known is refused by name."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what callers get; more members may come, these stay."""


class SessionBody(Body, frozen=True, kw_only=True):
    """A session to be created; everything may be left out."""

    session: NewName | None = None
    """Its name; one is made when it is left out."""
    runtime: Annotated[str, Meta(max_length=128)] | None = None
    image: Text | None = None
    labels: Annotated[dict[Annotated[str, Meta(min_length=1, max_length=256)], Text], Meta(max_length=64)] = {}
    environment: Annotated[
        dict[VariableName, Annotated[str, Meta(max_length=32_768, pattern=r"^[^\x00]*$")]], Meta(max_length=256)
    ] = {}
    life_seconds: Annotated[float, Meta(gt=0, le=31_536_000)] | None = None
    """It closes so long after its creation."""
    idle_seconds: Annotated[float, Meta(gt=0, le=31_536_000)] | None = None
    """It closes when nothing was asked of it for so long, and nothing runs."""
    sandbox: SandboxRequest = SandboxRequest()
    """What its sandboxes should be given; what the runtime cannot give is refused by name."""
    secrets: Secrets = {}
    """Values that are kept out of everything that is stored and shown: `{"NAME": "value"}`, or a list with options. The
    shells have them in variables of these names."""

    def __repr__(self) -> str:
        return f"<SessionBody {self.session}>"


class ActionBody(Body, frozen=True, kw_only=True):
    """An action to be submitted."""

    kind: Annotated[str, Meta(min_length=1, max_length=128)]
    payload: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))
    """What the kind's schema says."""
    lane: Name = "main"
    id: Uuid | None = None
    """Idempotency key for the life of the log; one is made when it is left out."""
    expected_sequence: Annotated[int, Meta(ge=-1, le=(1 << 63) - 1)] | None = None
    """Sequence of the session's last client-submitted event, -1 for none; only in a request's first action."""


class CancelBody(Body, frozen=True, kw_only=True):
    """Why an action is cancelled."""

    reason: Annotated[str, Meta(max_length=1024)] = ""


class InputBody(Body, frozen=True, kw_only=True):
    """What to type to an action."""

    data: Annotated[str, Meta(min_length=1, max_length=262_144)]
    encoding: Literal["utf-8", "base64"] = "utf-8"


class RestartBody(Body, frozen=True, kw_only=True):
    """Why a sandbox is ended."""

    reason: Annotated[str, Meta(max_length=1024)] = ""


class InterruptBody(Body, frozen=True, kw_only=True):
    """The signal to send to an action."""

    signal: Literal["SIGINT", "SIGTERM", "SIGKILL"] = "SIGINT"


class SessionView(View, frozen=True, kw_only=True, omit_defaults=False):
    """A session as the log tells it."""

    session: str
    tenant: str
    status: str
    """`open` or `closed`."""
    runtime: str
    image: str | None
    labels: dict[str, str]
    isolated: bool
    """False where code in the sandbox is not kept from the daemon's files and sockets."""
    created: str
    """RFC 3339 UTC."""
    position: int
    """Of its `session_created`."""
    open_actions: int
    """Runnable actions without a terminal observation."""
    sandbox_state: SandboxState
    """`none` (the next action starts one), `starting`, `ready`, `pausing`, `paused` or `ending`."""
    active: str
    """When a client last asked for something, or an action ended; RFC 3339 UTC."""
    kinds: dict[str, int] | msgspec.UnsetType = msgspec.UNSET
    """What its present sandbox can execute: kinds of action, each with the version that its executor takes. Left out
    in lists, and while there is no sandbox."""
    units: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    """Units of third parties in its present sandbox: release by owner."""
    missing: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    """By owner, why executors of a unit could not be loaded in it."""


class SessionPage(View, frozen=True, kw_only=True):
    """Sessions in the order of their creation."""

    sessions: list[SessionView]
    next: int
    """Pass it as `after` for the next page."""
    at_end: bool


class ActionRecorded(View, frozen=True, kw_only=True):
    """An action that is in the log."""

    action: Event


class ActionsRecorded(View, frozen=True, kw_only=True):
    """Actions that are in the log."""

    actions: tuple[Event, ...]


class ActionEnded(View, frozen=True, kw_only=True):
    """An action and how it ended."""

    action: Event
    observation: Event


class ActionsEnded(View, frozen=True, kw_only=True):
    """Actions and how each ended; null for those that are only recorded."""

    actions: tuple[Event, ...]
    observations: tuple[Event | None, ...]


class ActionView(View, frozen=True, kw_only=True):
    """An action's status, folded from the log."""

    action: Event
    status: str
    """`recorded`, `queued`, `running`, or its outcome."""
    needs_input: bool | UnsetType = UNSET
    """Of one that runs: whether it waits for somebody to type (`.../input`)."""
    observation: Event | UnsetType = UNSET


class ActionPage(View, frozen=True, kw_only=True):
    """Open actions in the log's order."""

    actions: tuple[ActionView, ...]
    next: int
    """Pass it as `after` for the next page."""
    at_end: bool


class RequestRecorded(View, frozen=True, kw_only=True):
    """What was asked about an action is in the log."""

    event: Event
    observation: Event | UnsetType = UNSET
    """The end of an action that was cancelled before it ran."""


class EventPage(View, frozen=True, kw_only=True):
    """Events in the log's order."""

    events: tuple[Event, ...]
    next: int
    """Cursor for the next page; may lie beyond the last event: nothing wanted lies in between."""
    at_end: bool
    incarnation: str


class Health(View, frozen=True, kw_only=True):
    """Whether the daemon lives, or is ready."""

    status: str
    detail: str | UnsetType = UNSET


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    retryable: bool
