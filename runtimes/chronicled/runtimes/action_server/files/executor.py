"""The executor of everything that is done with files."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Final
from weakref import WeakValueDictionary

import msgspec

from chronicled.events.kinds.actions import Edit, Read, Write
from chronicled.events.kinds.files import Download, Git, ListFiles, Upload
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
    "git": (Git, "asking_git", "ask_git"),
    "list": (ListFiles, "listing", "list_files"),
    "upload": (Upload, "uploading", "upload"),
    "download": (Download, "downloading", "Downloading"),
}
"""By kind: its payload, and the module and function that do it, imported when they are first needed."""

Act = Callable[..., Any]


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
        # Of our own package, so that the first import is the work of milliseconds and not of the network.
        act: Act = getattr(importlib.import_module(f"{_PACKAGE}.{module}"), name)
        work = Work(context.lane.working_directory, self._environment, context.content)

        def end(_: Cause) -> None:
            work.stop()

        context.on_end(end)
        try:
            if isinstance(arguments, Edit):
                # Two lanes may edit one file: each edit sees what the other has written.
                async with self._lock(work.resolve(arguments.path)):
                    context.begin()
                    return await _ended(arguments, asyncio.to_thread(act, arguments, work, self._history), work)
            context.begin()
            if isinstance(arguments, Download):
                return await _ended(arguments, _stream(act(arguments, work), work, context), work)
            return await _ended(arguments, asyncio.to_thread(act, arguments, work), work)
        finally:
            work.stop()

    async def close(self) -> None:
        """Nothing is held."""

    def _lock(self, path: str) -> asyncio.Lock:
        return self._edited.setdefault(os.path.normpath(path), asyncio.Lock())


async def _stream(downloading: Any, work: Work, context: Context) -> dict[str, Any]:
    """Bring a download to the action's output, never more of it in memory than one step."""
    output = context.output
    try:
        while data := await asyncio.to_thread(downloading.take):
            output.write(memoryview(data))
            if output.bytes_dropped:
                message = f"the download is larger than the {output.bytes_kept} bytes that are kept: bring parts of it"
                raise FileFailure("too_large", message)
            await output.drain()
    finally:
        work.stop()
        await asyncio.to_thread(downloading.close)
    fields: dict[str, Any] = downloading.fields
    return fields


async def _ended(arguments: Runnable, acting: Coroutine[Any, Any, dict[str, Any]], work: Work) -> Ended:
    path = work.resolve(getattr(arguments, "path", ""))
    # What git told is about a work tree; the folder that was asked about is in the action.
    named = {} if isinstance(arguments, Git) else {"path": path}
    if work.stopped:
        acting.close()
        return Ended(outcome=Outcome.CANCELLED, effects=Effects.NONE)
    try:
        fields = await acting
    except BadArguments as problem:
        return error("bad_arguments", str(problem))
    except Stopped:
        return Ended(outcome=Outcome.CANCELLED, effects=Effects.POSSIBLE)
    except FileFailure as problem:
        return _failed(problem.reason, problem.message, named | problem.fields)
    except OSError as problem:
        return _failed(reason_of(problem), f"{problem.strerror or problem}: {path}", named)
    message = fields.pop("message", None)
    return Ended(outcome=Outcome.OK, effects=Effects.COMPLETE, message=message, fields=fields)


def _failed(reason: str, message: str, fields: dict[str, Any]) -> Ended:
    return Ended(outcome=Outcome.FAILED, effects=Effects.COMPLETE, reason=reason, message=message, fields=fields)
