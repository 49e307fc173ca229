"""What it does in a sandbox: all that an executor may do well, and much that it should not."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import sys
from typing import Any

import msgspec

from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server.executor import Context, Ended, Request, SandboxContext

VERSION = 1  # the tests write another one into a copy


def _digest(descriptor: int) -> str:
    hashed = hashlib.sha256()
    while data := os.read(descriptor, 1 << 16):
        hashed.update(data)
    return hashed.hexdigest()


class Executor:
    """Executes `beta.do`."""

    def __init__(self, sandbox: SandboxContext) -> None:
        self.kinds = {"beta.do": VERSION, "beta.take": 1}
        self._sandbox = sandbox
        self._count = 0

    async def execute(self, request: Request, context: Context) -> Ended:
        """Do what is asked for."""
        asked: dict[str, Any] = msgspec.json.decode(request.payload)
        if request.kind == "beta.take":
            assert context.content is not None
            digest = await asyncio.to_thread(_digest, context.content)
            return Ended(outcome=Outcome.OK, effects=Effects.COMPLETE, fields={"digest": digest})
        context.output.write(memoryview(b"begun\n"))
        self._count += 1
        await asyncio.sleep(asked["seconds"])
        said = self._done(asked["what"], asked["text"])
        context.output.write(memoryview(said.encode()))
        return Ended(outcome=Outcome.OK, effects=Effects.COMPLETE, fields={"said": said, "count": self._count})

    def _done(self, what: str, text: str) -> str:
        match what:
            case "repeat":
                return text * 30
            case "exit":
                sys.exit(3)
            case "raise":
                raise ValueError(text)
            case "seen":
                return " ".join(name for name in text.split() if importlib.util.find_spec(name) is not None)
            case "path":
                return "\n".join(sys.path)
            case "environment":
                return self._sandbox.environment.get(text, "")
            case _:
                return text[::-1]

    async def close(self) -> None:
        """Say that it was closed."""
        sys.stderr.write("beta is closed\n")
