"""Payloads of the lifecycle events: what happened to the daemon, a session, a sandbox, an action's way."""

from __future__ import annotations

from typing import Final, Literal

from chronicled.events.kind import KindSpec, Payload, lifecycle
from chronicled.events.kinds import former, former_second
from chronicled.events.sandbox import SandboxRequest

__all__ = [
    "IMPORTED",
    "LIFECYCLE_KINDS",
    "BackgroundOutput",
    "CancelRequested",
    "DaemonStarted",
    "DaemonStopped",
    "EnvironmentChanged",
    "EventsImported",
    "FormerLog",
    "GenerationEnded",
    "GenerationStarted",
    "ImageProgress",
    "InputSent",
    "InterruptRequested",
    "LaneRestarted",
    "LateResult",
    "LogRewritten",
    "NetworkDenied",
    "PauseRequested",
    "RestartRequested",
    "ResumeRequested",
    "SandboxPaused",
    "SandboxRemoved",
    "SandboxRequested",
    "SandboxResumed",
    "SecretRegistered",
    "SecretsDestroyed",
    "SessionClaimed",
    "SessionClosed",
    "SessionCreated",
    "SessionImported",
    "SessionKeptAlive",
    "SessionReleased",
]


IMPORTED: Final = "imported"
"""The runtime of a session that came from another system's log. There is no such runtime: the session is over from its
first event, whatever it holds, so that nothing of it is ever claimed, sent or run again."""


class DaemonStarted(Payload, frozen=True, kw_only=True):
    """A daemon has the log; appended and synced before anything is served, folded or dispatched."""

    version: str
    boot_id: str
    pid: int
    incarnation: str
    schema: int


class DaemonStopped(Payload, frozen=True, kw_only=True):
    """The daemon ended in order; its sandboxes live on."""

    reason: str = "signal"


class FormerLog(Payload, frozen=True, kw_only=True):
    """Where a log ended that was written anew."""

    incarnation: str
    size: int
    """How many events it had."""
    root: str
    """The tree's root over them, hex: whoever kept the former log, or a root of it, can check that it is this one."""
    leaf: str
    """Of its last event, hex; empty when it had none."""
    verified: bool
    """Whether all of it verified just before."""
    problem: str | None = None
    """What did not, the first bad position."""


class LogRewritten(Payload, frozen=True, kw_only=True):
    """The log was written anew from a former one: its first event. What follows was carried over, positions are new."""

    version: str
    """Of the program that wrote it."""
    rewritten: str
    """When, RFC 3339. The event's own time is that of the event that it stands before, since times never fall."""
    incarnation: str
    former: FormerLog


class SessionCreated(Payload, frozen=True, kw_only=True):
    """A session exists from here on."""

    runtime: str
    image: str | None = None
    labels: dict[str, str] = {}
    environment: dict[str, str] = {}
    isolated: bool = False
    """False where the runtime gives no isolation (design: told plainly)."""
    life_seconds: float | None = None
    """The session closes so long after its creation, whatever goes on."""
    idle_seconds: float | None = None
    """It closes when nothing was asked of it for so long, and nothing runs."""
    sandbox: SandboxRequest = SandboxRequest()
    secrets: list[str] = []
    """Names of the secrets that were registered with it; their values are nowhere in the log."""


class SessionClosed(Payload, frozen=True, kw_only=True):
    """The session takes no more actions; what was queued ends `rejected`."""

    reason: Literal["client", "life_deadline", "idle_deadline"] = "client"


class SessionClaimed(Payload, frozen=True, kw_only=True):
    """A worker holds the session; the position of this event is its fence."""

    worker: str
    boot_id: str


class SessionReleased(Payload, frozen=True, kw_only=True):
    """The worker gave the session back."""

    worker: str
    reason: str = ""


class SandboxRequested(Payload, frozen=True, kw_only=True):
    """A sandbox is about to be created: the intent, before the deed, so that nothing is ever orphaned."""

    sandbox: str
    runtime: str
    image: str | None = None


class GenerationStarted(Payload, frozen=True, kw_only=True):
    """An action server reported in: one generation begins."""

    sandbox: str
    generation: str
    runtime: str
    boot_id: str
    handle: dict[str, str | int]
    """What the runtime needs to find it again, e.g. pid and start time."""
    kinds: list[str]
    """Kinds of action that it can run."""
    start_seconds: float
    """From the request to the handshake; `phases` says where it went."""
    phases: dict[str, float] = {}
    """Seconds of each phase of the start, e.g. `queue`, `pull`, `create`, `start`, `ready`."""
    image_digest: str | None = None
    """What the image's name stood for."""
    warm: bool = False
    """It was started ahead of need, and taken from the pool."""
    versions: dict[str, int] = {}
    """Version of the payload that its executors take, for kinds of third parties."""
    units: dict[str, str] = {}
    """Units of third parties that were brought into it: release by owner."""
    missing: dict[str, str] = {}
    """By owner, why executors of a unit could not be loaded in it."""


class LaneRestarted(Payload, frozen=True, kw_only=True):
    """The lane's shell (or kernel) was replaced: what the lane's queue was accepted for is gone."""

    generation: str
    reason: str = ""


class GenerationEnded(Payload, frozen=True, kw_only=True):
    """The generation is over, and no process of it lives."""

    sandbox: str
    generation: str
    reason: str
    processes_killed: int = 0


class SandboxRemoved(Payload, frozen=True, kw_only=True):
    """Nothing is left of the sandbox."""

    sandbox: str
    reason: str


class CancelRequested(Payload, frozen=True, kw_only=True):
    """Somebody wants the action ended."""

    reason: str = ""


class InterruptRequested(Payload, frozen=True, kw_only=True):
    """Somebody sent the action a signal, as Ctrl-C does."""

    signal: Literal["SIGINT", "SIGTERM", "SIGKILL"] = "SIGINT"


class InputSent(Payload, frozen=True, kw_only=True):
    """Somebody typed something to the action."""

    data: str
    encoding: Literal["utf-8", "base64"] = "utf-8"


class PauseRequested(Payload, frozen=True, kw_only=True):
    """Somebody wants the session's sandbox frozen: its processes stand still, its memory stays."""


class ResumeRequested(Payload, frozen=True, kw_only=True):
    """Somebody wants the session's sandbox to go on; a new action asks for it too."""


class RestartRequested(Payload, frozen=True, kw_only=True):
    """Somebody wants the session's sandbox ended; the next action meets a new generation."""

    reason: str = ""


class SandboxPaused(Payload, frozen=True, kw_only=True):
    """The sandbox stands still: no process of it runs until it is resumed."""

    sandbox: str
    generation: str


class SandboxResumed(Payload, frozen=True, kw_only=True):
    """The sandbox goes on where it stood."""

    sandbox: str
    generation: str
    paused_seconds: float
    """How long it stood still; deadlines of its actions stood still as well."""


class SessionKeptAlive(Payload, frozen=True, kw_only=True):
    """Somebody still needs the session: its idle deadline begins anew."""


class LateResult(Payload, frozen=True, kw_only=True):
    """A result that came after the action had been ended; kept, never trusted over the terminal observation."""

    outcome: str
    detail: str = ""


class BackgroundOutput(Payload, frozen=True, kw_only=True):
    """What a lane's background jobs printed between its actions."""

    output: str
    output_bytes: int
    dropped_bytes: int = 0


class ImageProgress(Payload, frozen=True, kw_only=True):
    """How far an image is that is pulled or built; at most one a second, the last one says how it ended."""

    image: str
    """What was asked for: a reference, or the name of what is built."""
    phase: Literal["pull", "build"]
    status: Literal["queued", "running", "done", "failed", "cancelled"]
    bytes_done: int = 0
    bytes_total: int = 0
    """As far as it is known by now; 0 where it is not."""
    step: str = ""
    """What is being done, e.g. the step of the build."""
    digest: str | None = None
    """What the reference stands for, once it is done: the manifest's digest, or the id of an image without one."""
    error: str | None = None
    """Why it failed and what to do about it."""
    job: str | None = None
    """Id of the build or prefetch that it belongs to, where a client asked for one."""


class NetworkDenied(Payload, frozen=True, kw_only=True):
    """The sandbox tried to reach what its network policy does not allow; one event sums up many tries."""

    policy: str
    host: str
    """As the sandbox named it, cut to 253 characters; `*` stands for all the hosts that are not told one by one."""
    port: int
    reason: str
    """`not_allowed`, `private_address`, `unresolved`, `sni_mismatch`, `bad_request`, `connections_max`, `bytes_max`."""
    count: int
    """Tries since the last event of the same host, port and reason."""


class SecretRegistered(Payload, frozen=True, kw_only=True):
    """A value is kept secret from here on: wherever it shows, its name stands instead. The value is in no event."""

    name: str
    variable: str | None = None
    """The environment variable in which the session's shells have it; None gives it to none."""


class SecretsDestroyed(Payload, frozen=True, kw_only=True):
    """The session's values are gone; nothing that could show them is published any more."""

    names: list[str]
    reason: Literal["session_closed"] = "session_closed"


class EnvironmentChanged(Payload, frozen=True, kw_only=True):
    """Variables of the session's shells changed; commands that begin later see it."""

    variables: dict[str, str] = {}
    """Plain ones that were set, secrets in their values replaced."""
    secrets: dict[str, str] = {}
    """Variables that were set to a secret: its name by theirs."""
    removed: list[str] = []


class SessionImported(Payload, frozen=True, kw_only=True):
    """The session was brought in from another system's log: what it tells has happened there, and nothing runs here.

    It follows `session_created` in the same commit, and the session is over from there on.
    """

    format: str
    """What the source is, e.g. `openhands.v0`."""
    source: str
    """Where it stood, as whoever imported it named it."""
    importer: str
    """Which version of the importer began it."""
    timezone: str | None = None
    """How times without a zone were read; None: they were not."""


class EventsImported(Payload, frozen=True, kw_only=True):
    """What stands before it was made from these original records; it ends their commit, so an import goes on behind it.

    The blob holds the records' original bytes, one after another, and behind them an index (JSON): of each record its
    key, place, time, offset and size, from which shape it was read by which steps, the ids of the events that were made
    of it, and what of it found no place in them.
    """

    first: int
    """Number of the first of these records in the source, from 0."""
    records: int
    """How many."""
    events: int
    """How many events were made of them."""
    opaque: int = 0
    """How many of the records nobody could read."""
    blob: str
    """SHA-256 (hex) of the blob."""
    originals_bytes: int
    """Where in the blob the index begins."""
    chain: str
    """SHA-256 (hex) over the original bytes of every record of the source so far: by it a changed source is told."""
    time_first: str | None = None
    """The first of the records' times, as it was written there."""
    time_last: str | None = None
    complete: bool = False
    """The source had no more."""


LIFECYCLE_KINDS: Final[tuple[KindSpec, ...]] = (
    lifecycle("daemon_started", DaemonStarted),
    lifecycle("daemon_stopped", DaemonStopped),
    lifecycle("log_rewritten", LogRewritten),
    lifecycle("session_created", former.SessionCreated),
    lifecycle("session_created", SessionCreated, version=2),
    lifecycle("session_closed", former.SessionClosed),
    lifecycle("session_closed", SessionClosed, version=2),
    lifecycle("session_claimed", SessionClaimed),
    lifecycle("session_released", SessionReleased),
    lifecycle("sandbox_requested", SandboxRequested),
    lifecycle("generation_started", former.GenerationStarted),
    lifecycle("generation_started", former_second.GenerationStarted, version=2),
    lifecycle("generation_started", GenerationStarted, version=3),
    lifecycle("lane_restarted", LaneRestarted),
    lifecycle("generation_ended", GenerationEnded),
    lifecycle("sandbox_removed", SandboxRemoved),
    lifecycle("cancel_requested", CancelRequested),
    lifecycle("interrupt_requested", InterruptRequested),
    lifecycle("input_sent", InputSent),
    lifecycle("late_result", LateResult),
    lifecycle("pause_requested", PauseRequested),
    lifecycle("resume_requested", ResumeRequested),
    lifecycle("restart_requested", RestartRequested),
    lifecycle("sandbox_paused", SandboxPaused),
    lifecycle("sandbox_resumed", SandboxResumed),
    lifecycle("session_kept_alive", SessionKeptAlive),
    lifecycle("background_output", BackgroundOutput),
    lifecycle("image_progress", ImageProgress),
    lifecycle("network_denied", NetworkDenied),
    lifecycle("secret_registered", SecretRegistered),
    lifecycle("secrets_destroyed", SecretsDestroyed),
    lifecycle("environment_changed", EnvironmentChanged),
    lifecycle("session_imported", SessionImported),
    lifecycle("events_imported", EventsImported),
)
