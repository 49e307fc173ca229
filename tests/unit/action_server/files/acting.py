"""File actions without a daemon: the executor itself, in this process, as a lane would use it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from chronicled.events.registry import builtin_registry
from chronicled.runtimes.action_server.executor import Context, Ended, LaneState, Request
from chronicled.runtimes.action_server.files import FileExecutor

__all__ = ["Actor", "KeptOutput"]


class KeptOutput:
    """An output that keeps everything up to a cap."""

    def __init__(self, bytes_max: int = 1 << 30) -> None:
        self.data = bytearray()
        self.bytes_total = 0
        self.written_at = 0.0
        self._bytes_max = bytes_max

    @property
    def bytes_kept(self) -> int:
        """How much was kept."""
        return len(self.data)

    @property
    def bytes_dropped(self) -> int:
        """How much was not."""
        return self.bytes_total - len(self.data)

    def write(self, data: memoryview) -> None:
        """Keep what fits."""
        self.bytes_total += len(data)
        self.data += data[: self._bytes_max - len(self.data)]

    def regulate(self, hold: Callable[[bool], None] | None) -> None:
        """Take what comes."""

    async def drain(self) -> None:
        """Take what comes."""

    def close(self) -> None:
        """Nothing is held."""


class Actor:
    """One lane's file actions.

    Args:
        directory: Where relative paths begin.
        environment: The sandbox's.
    """

    def __init__(self, directory: Path, environment: dict[bytes, bytes] | None = None) -> None:
        self.directory = directory
        self.executor = FileExecutor(dict(os.environb) if environment is None else environment)
        self.output = KeptOutput()
        self.context: Context | None = None

    async def act(
        self, kind: str, *, attached: bytes | int | None = None, output_bytes_max: int = 1 << 30, **payload: Any
    ) -> Ended:
        """Do one action, with an attached content where it has one."""
        self.output = KeptOutput(output_bytes_max)
        context = self.context = Context(LaneState("main", str(self.directory)), self.output, lambda: None, [])
        request = Request(
            action="a",
            lane="main",
            kind=kind,
            version=1,
            payload=msgspec.json.encode(payload),
            timeout_seconds=None,
            quiet_seconds=None,
        )
        if not isinstance(attached, bytes):
            context.content = attached
            return _fitting(kind, await self.executor.execute(request, context))
        descriptor = os.memfd_create("content")
        try:
            os.write(descriptor, attached)
            context.content = descriptor
            return _fitting(kind, await self.executor.execute(request, context))
        finally:
            os.close(descriptor)

    async def upload(self, content: bytes, path: str = ".", form: str = "tree", **payload: Any) -> Ended:
        """Upload bytes."""
        return await self.act(
            "upload",
            attached=content,
            path=path,
            form=form,
            content="0" * 64,
            content_bytes=len(content),
            **payload,
        )


def _fitting(kind: str, ended: Ended) -> Ended:
    """Return the end, once its fields have proven to fit the observation of the kind: else the worker drops them."""
    payload = builtin_registry().current("observation", kind).payload
    msgspec.convert({"outcome": ended.outcome, "effects": ended.effects, **ended.fields}, payload)
    return ended
