"""Executors: what runs an action of some kind inside the sandbox. A third party adds its own to the table."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, Protocol, cast

import msgspec

from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server.output import ActionOutput

__all__ = [
    "EARLY_ITEMS_MAX",
    "Cause",
    "Context",
    "Ended",
    "Executor",
    "ExecutorTable",
    "LaneState",
    "Request",
    "SandboxContext",
    "error",
]


EARLY_ITEMS_MAX: Final = 64
"""Inputs and signals kept for an action that does not listen yet; a frame bounds the size of each."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One action, as it was dispatched."""

    action: str
    lane: str
    kind: str
    version: int
    payload: bytes
    """JSON, with secrets in place. Untrusted as to its shape: decode it with a type."""
    timeout_seconds: float | None
    quiet_seconds: float | None
    position: int = 0
    """Place in the log; 0 where the worker has not told it."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How an action ended. Where a deadline or a cancel ended it, the server puts that outcome over this one."""

    outcome: Outcome
    effects: Effects
    reason: str | None = None
    message: str | None = None
    state_lost: bool = False
    """What the lane held (variables, functions, directory) is gone."""
    fields: dict[str, Any] = {}
    """Further fields of the observation of the action's kind."""


class Cause(msgspec.Struct, frozen=True):
    """Why a running action is to end: `timeout` with its deadline, or `cancelled`."""

    outcome: Outcome
    deadline: str | None = None
    message: str | None = None
    """The same for a person."""


class LaneState:
    """What the executors of one lane share."""

    def __init__(self, name: str, working_directory: str) -> None:
        self.name = name
        self.home = working_directory
        """Where the lane began."""
        self.working_directory = working_directory
        """Where the lane's last command ended; relative paths start here."""

    def resolve(self, path: str) -> str:
        """Return the path as seen from where the lane is."""
        return os.path.join(self.working_directory, path)


class Context:
    """What an executor may use while one action runs.

    Args:
        lane: The action's lane.
        output: Where the action's output goes.
        start: Called once, when the action's first effect is about to happen.
        early: What was typed to the action (bytes) and which signals it was sent (numbers) before its turn came.
    """

    def __init__(
        self, lane: LaneState, output: ActionOutput, start: Callable[[], None], early: list[bytes | int]
    ) -> None:
        self.lane = lane
        self.output = output
        self.content: int | None = None
        """Descriptor of the content that came with the action: a file or a pipe, to be read from its present place to
        its end, in a thread. The server closes it once `execute` has returned. It ends early where the worker has lost
        the rest: compare with the size that the payload names."""
        self.tell_waiting: Callable[[bool], None] = _tell_nobody
        """Takes whether the action waits for somebody to type, when that changes by itself; typing ends the waiting."""
        self.cause: Cause | None = None
        """Set once the action is to end."""
        self._take: Callable[[bytes | int], None] | None = None
        self._early = early
        self._start = start
        self._started = False
        self._on_end: Callable[[Cause], None] | None = None

    @property
    def started(self) -> bool:
        """Whether anything may have happened."""
        return self._started

    def begin(self) -> None:
        """Say that the action starts now: from here on it may have effects."""
        if not self._started:
            self._started = True
            self._start()

    def listen(self, take: Callable[[bytes | int], None] | None) -> None:
        """Have typed bytes and signal numbers handed over, from now on and those that came before; None ends it."""
        self._take = take
        while self._take is not None and self._early:
            self._take(self._early.pop(0))

    def give(self, item: bytes | int) -> None:
        """Hand typed bytes or a signal number to the action, or keep it until the action listens."""
        if self._take is not None:
            self._take(item)
        elif len(self._early) < EARLY_ITEMS_MAX:
            self._early.append(item)

    def on_end(self, handler: Callable[[Cause], None]) -> None:
        """Have the handler called once when the action is to end; without one its task is cancelled.

        The handler makes `execute` return soon, with nothing left running that the action started.
        """
        self._on_end = handler

    def end(self, cause: Cause, task: asyncio.Task[Any]) -> None:
        """Ask for the end. Only the first cause counts."""
        if self.cause is None:
            self.cause = cause
            if self._on_end is not None:
                self._on_end(cause)
            else:
                task.cancel()


class SandboxContext(msgspec.Struct, frozen=True, kw_only=True):
    """What an executor of a third party is constructed with: where it is. It lives as long as the sandbox does."""

    sandbox: str
    generation: str
    working_directory: str
    """Where each lane starts."""
    environment: Mapping[str, str]
    """What every shell of the sandbox starts with: for programs that the executor runs."""


class Executor(Protocol):
    """Executes actions of some kinds. One action at a time per lane; lanes side by side.

    A third party's is a class that takes a `SandboxContext`, and is constructed in a thread. What it does runs on the
    event loop of the action server: what blocks belongs into `asyncio.to_thread`.
    """

    @property
    def kinds(self) -> Collection[str]:
        """Kinds of action that it executes; a third party's maps each to the version of the payload that it takes."""
        ...

    async def execute(self, request: Request, context: Context) -> Ended:
        """Execute one action and say how it ended.

        An exception that leaves it becomes outcome `failed`, effects `possible`.

        Cancellation: the action is to end (deadline or cancel); leave nothing running that it started.
        """
        ...

    async def close(self) -> None:
        """Release what it holds; the generation ends."""
        ...


class ExecutorTable:
    """Executors by kind."""

    def __init__(self, executors: Iterable[Executor] = ()) -> None:
        self._by_kind: dict[str, Executor] = {}
        for executor in executors:
            self.add(executor)

    @property
    def kinds(self) -> list[str]:
        """All kinds that can be executed, sorted."""
        return sorted(self._by_kind)

    @property
    def versions(self) -> dict[str, int]:
        """Version of the payload, for each kind whose executor names it."""
        found: dict[str, int] = {}
        for kind, executor in sorted(self._by_kind.items()):
            named: object = executor.kinds
            if isinstance(named, Mapping):
                found[kind] = cast("Mapping[str, int]", named)[kind]
        return found

    def add(self, executor: Executor) -> None:
        """Add an executor for all of its kinds.

        Raises:
            ValueError: a kind has one already.
        """
        for kind in executor.kinds:
            if kind in self._by_kind:
                raise ValueError(f"two executors for actions of kind {kind!r}")
        for kind in executor.kinds:
            self._by_kind[kind] = executor

    def find(self, kind: str) -> Executor | None:
        """Return the executor of a kind, if there is one."""
        return self._by_kind.get(kind)

    async def close(self) -> None:
        """Close every executor."""
        for executor in {id(executor): executor for executor in self._by_kind.values()}.values():
            await executor.close()


def error(reason: str, message: str) -> Ended:
    """Return the end of an action that never ran because it cannot."""
    return Ended(outcome=Outcome.ERROR, effects=Effects.NONE, reason=reason, message=message)


def _tell_nobody(_waiting: bool) -> None:
    """Take what nobody has asked for."""
