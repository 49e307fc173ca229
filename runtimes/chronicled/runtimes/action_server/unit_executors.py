"""Executors of third parties: imported in the sandbox, constructed once, and kept from harming what is not theirs.

What cannot be imported or constructed is left out with its reason; everything else of the sandbox works without it.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

import msgspec

from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server.executor import (
    Context,
    Ended,
    Executor,
    ExecutorTable,
    Request,
    SandboxContext,
)

__all__ = ["GuardedExecutor", "NamedExecutor", "UnitExecutors", "load_executors"]

IMPORT_SECONDS: Final = 10.0
"""An import, with the construction, that takes longer is given up: the sandbox starts without it."""
CLOSE_SECONDS: Final = 2.0
REASON_CHARACTERS: Final = 500

Value = TypeVar("Value")


class NamedExecutor(NamedTuple):
    """An executor of a third party, brought into the sandbox."""

    owner: str
    """Prefix of its kinds."""
    release: str
    """Name and version of what was brought, for people."""
    reference: str
    """`package.module:Class`."""


class UnitExecutors(msgspec.Struct, frozen=True):
    """What came of the executors that the settings name."""

    units: dict[str, str]
    """Release by owner, of every unit that was brought here."""
    missing: dict[str, str]
    """By owner, why some of its kinds cannot be executed."""


class GuardedExecutor:
    """An executor of a third party, of which nothing but a result, a cancellation or an ordinary error comes out.

    Args:
        owner: The unit's prefix.
        executor: The executor.

    Raises:
        TypeError, ValueError: it does not say which versions of which kinds it executes, or they are not its owner's.
    """

    def __init__(self, owner: str, executor: Executor) -> None:
        self._executor = executor
        self.kinds = _versions(owner, executor.kinds)

    async def execute(self, request: Request, context: Context) -> Ended:
        """Execute one action; see `Executor.execute`.

        It has begun when its executor is called: nobody relies on a third party to say when effects may be possible.
        """
        context.begin()
        try:
            ended = await self._executor.execute(request, context)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if context.cause is None and task is not None and not task.cancelling():
                # Nobody wanted its end: something that it waited for was cancelled, and it has not caught that.
                return _failed("executor_failed", f"the executor of {request.kind} was cancelled from within")
            raise
        except (SystemExit, KeyboardInterrupt) as problem:
            return _failed("executor_failed", f"the executor of {request.kind} wanted to exit: {problem!r}")
        return _checked(request.kind, ended)

    async def close(self) -> None:
        """Close it, for two seconds at most; what it fails with goes to the server's log."""
        try:
            await asyncio.wait_for(self._executor.close(), CLOSE_SECONDS)
        except (Exception, SystemExit) as problem:
            _say(f"an executor of {', '.join(self.kinds)} did not close in order: {problem!r}")


async def load_executors(
    named: Sequence[tuple[str, str, str]], paths: Sequence[str], table: ExecutorTable, context: SandboxContext
) -> UnitExecutors:
    """Add the executors that the settings name to the table.

    Args:
        named: Which.
        paths: Folders that have them and what they need; searched after everything of ours.
        table: Where they go. One that has a kind twice, or one of ours, is left out.
        context: What each is constructed with.
    """
    sys.path += [path for path in paths if path not in sys.path]
    units: dict[str, str] = {}
    missing: dict[str, str] = {}
    for each in (NamedExecutor(*one) for one in named):
        units[each.owner] = each.release
        try:
            table.add(GuardedExecutor(each.owner, await _construct(each, context)))
        except (Exception, SystemExit) as problem:
            words = "it took too long" if isinstance(problem, TimeoutError) else f"{type(problem).__name__}: {problem}"
            reason = f"{each.reference} of {each.release}: {words}"[:REASON_CHARACTERS]
            missing[each.owner] = f"{missing[each.owner]}; {reason}" if each.owner in missing else reason
            _say(f"no executor {reason}")
    return UnitExecutors(units, missing)


async def _construct(named: NamedExecutor, context: SandboxContext) -> Executor:
    module, _, name = named.reference.partition(":")

    def construct() -> Executor:
        executor: Executor = getattr(importlib.import_module(module), name)(context)
        return executor

    return await _in_daemon_thread(construct, IMPORT_SECONDS)


async def _in_daemon_thread(function: Callable[[], Value], seconds: float) -> Value:
    """Return what the function returns; a thread that never ends keeps nobody from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Value] = loop.create_future()

    def settle(value: Value | None, problem: BaseException | None) -> None:
        if future.done():
            return
        if problem is not None:
            future.set_exception(problem if isinstance(problem, Exception) else RuntimeError(repr(problem)))
        else:
            future.set_result(value)  # type: ignore[arg-type]  # it is None only where Value is

    def run() -> None:
        value, problem = None, None
        try:
            value = function()
        except BaseException as error:
            problem = error
        loop.call_soon_threadsafe(settle, value, problem)

    threading.Thread(target=run, daemon=True, name="import").start()
    return await asyncio.wait_for(future, seconds)


def _versions(owner: str, kinds: object) -> Mapping[str, int]:
    try:
        versions = msgspec.convert(kinds, dict[str, int], strict=True)
    except msgspec.ValidationError:
        versions = {}
    if not versions:
        raise TypeError("its `kinds` must map each kind of action to the version of the payload that it takes")
    if foreign := sorted(kind for kind in versions if not kind.startswith(f"{owner}.")):
        raise ValueError(f"its kind {foreign[0]!r} does not bear the owner's prefix {owner!r}")
    return versions


def _checked(kind: str, ended: object) -> Ended:
    if not isinstance(ended, Ended):
        return _failed("executor_failed", f"the executor of {kind} returned {type(ended).__name__}, and no Ended")
    try:
        return msgspec.convert(msgspec.to_builtins(ended), Ended)
    except (msgspec.ValidationError, TypeError, ValueError, RecursionError) as problem:
        return _failed("executor_failed", f"what the executor of {kind} returned cannot be told: {problem}")


def _failed(reason: str, message: str) -> Ended:
    return Ended(outcome=Outcome.FAILED, effects=Effects.POSSIBLE, reason=reason, message=message[:REASON_CHARACTERS])


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()
