"""The executor of everything that is done with files."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final
from weakref import WeakValueDictionary

import msgspec

from chronicled.events.kinds.actions import Edit, Read, Write
from chronicled.events.kinds.runnable import Runnable
from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server.executor import Cause, Context, Ended, Request, error
from chronicled.runtimes.action_server.files.failure import BadArguments, FileFailure, reason_of
from chronicled.runtimes.action_server.files.history import EditHistory
from chronicled.runtimes.action_server.files.work import Stopped, Work

__all__ = ["FileExecutor"]

_PACKAGE: Final = "chronicled.runtimes.action_server.files"
_KINDS: Final[dict[str, tuple[type[Runnable], str, str]]] = {
    "read": (Read, "reading", "read"),
    "write": (Write, "writing", "write"),
    "edit": (Edit, "editing", "edit"),
}
"""By kind: its payload, and the module and function that do it, imported when they are first needed."""

Act = Callable[..., dict[str, Any]]


class FileExecutor:
    """Does what actions ask for in a thread, so that a slow disk stops nobody else.

    Args:
        environment: The environment of the sandbox's commands, complete.
    """

    def __init__(self, environment: dict[bytes, bytes] | None = None) -> None:
        self._environment = environment or {}
        self._history = EditHistory()
        self._edited: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def kinds(self) -> Collection[str]:
        """Every kind that is about files."""
        return tuple(_KINDS)

    async def execute(self, request: Request, context: Context) -> Ended:
        """Do what one action asks for; see `Executor.execute`.

        Cancellation: a call that the kernel holds goes on in its thread; a file that is replaced is replaced whole or
        not at all.
        """
        payload, module, name = _KINDS[request.kind]
        try:
            arguments = msgspec.json.decode(request.payload, type=payload)
        except msgspec.MsgspecError as problem:
            return error("bad_arguments", f"the payload of the {request.kind} action is not valid: {problem}")
        if "\0" in getattr(arguments, "path", ""):
            return error("bad_arguments", "a path cannot hold a NUL character")
        act: Act = getattr(importlib.import_module(f"{_PACKAGE}.{module}"), name)
        work = Work(context.lane.working_directory, self._environment)
        if not isinstance(arguments, Edit):
            context.begin()
            return await _ended(arguments, act, work, context)
        # Two lanes may edit one file: each edit sees what the other has written.
        async with self._lock(work.resolve(arguments.path)):
            context.begin()
            return await _ended(arguments, partial(act, history=self._history), work, context)

    async def close(self) -> None:
        """Nothing is held."""

    def _lock(self, path: str) -> asyncio.Lock:
        return self._edited.setdefault(os.path.normpath(path), asyncio.Lock())


async def _ended(arguments: Runnable, act: Act, work: Work, context: Context) -> Ended:
    path = work.resolve(getattr(arguments, "path", ""))

    def end(_: Cause) -> None:
        work.stop()

    context.on_end(end)
    try:
        fields = await asyncio.to_thread(act, arguments, work)
    except BadArguments as problem:
        return error("bad_arguments", str(problem))
    except Stopped:
        return Ended(outcome=Outcome.CANCELLED, effects=Effects.POSSIBLE)
    except FileFailure as problem:
        return _failed(problem.reason, problem.message, {"path": path} | problem.fields)
    except OSError as problem:
        return _failed(reason_of(problem), f"{problem.strerror or problem}: {path}", {"path": path})
    finally:
        work.stop()
    message = fields.pop("message", None)
    return Ended(outcome=Outcome.OK, effects=Effects.COMPLETE, message=message, fields=fields)


def _failed(reason: str, message: str, fields: dict[str, Any]) -> Ended:
    return Ended(outcome=Outcome.FAILED, effects=Effects.COMPLETE, reason=reason, message=message, fields=fields)
