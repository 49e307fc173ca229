"""All of them take `wrong.do` in version 1; `what` says whether to end, to fail, or to take long."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server.executor import Context, Ended, Request, SandboxContext


class Right:
    """Does what its examples say."""

    kinds = {"wrong.do": 1}  # noqa: RUF012 - read once, by the action server

    def __init__(self, sandbox: SandboxContext) -> None:
        self._count = 0

    async def execute(self, request: Request, context: Context) -> Ended:
        """Count, print, and wait if that is wanted."""
        asked: dict[str, Any] = msgspec.json.decode(request.payload)
        what = asked["what"]
        if what == "fail":
            return Ended(outcome=Outcome.FAILED, effects=Effects.COMPLETE, reason="asked_for")
        if what == "wait":
            await self.wait()
        self._count += 1
        context.output.write(memoryview(b"done\n"))
        return self.ended()

    async def wait(self) -> None:
        """Take long."""
        await asyncio.sleep(60)

    def ended(self) -> Ended:
        """Tell how it ended."""
        return Ended(outcome=Outcome.OK, effects=Effects.COMPLETE, fields={"count": self._count})

    async def close(self) -> None:
        """Close in order."""


class Blocking(Right):
    """Holds up the whole server while it waits."""

    async def wait(self) -> None:
        """Block."""
        time.sleep(4)  # noqa: ASYNC251 - that is what is wrong with it


class Stubborn(Right):
    """Does not end when it is told to."""

    async def wait(self) -> None:
        """Swallow the first cancellation, and take its time."""
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(4)


class Forgetful(Right):
    """Keeps no state."""

    def ended(self) -> Ended:
        """Count from the start."""
        return Ended(outcome=Outcome.OK, effects=Effects.COMPLETE, fields={"count": 1})


class Misfit(Right):
    """Tells a field that its observation does not have, so that all of them are dropped."""

    def ended(self) -> Ended:
        """Tell too much."""
        return Ended(outcome=Outcome.OK, effects=Effects.COMPLETE, fields={"count": self._count, "more": 1})


class Old(Right):
    """Takes another version than the current one."""

    kinds = {"wrong.do": 7}  # noqa: RUF012


class Foreign(Right):
    """Wants a kind that is not its unit's."""

    kinds = {"wrong.do": 1, "run": 1}  # noqa: RUF012


class Unclosed(Right):
    """Fails at its end."""

    async def close(self) -> None:
        """Fail."""
        raise RuntimeError("not closed")


class Silent(Right):
    """Fails without a word that a program could go by."""

    async def execute(self, request: Request, context: Context) -> Ended:
        """Fail."""
        return Ended(outcome=Outcome.FAILED, effects=Effects.COMPLETE)


class Unread(Right):
    """Calls everything a success, whatever its payload is."""

    async def execute(self, request: Request, context: Context) -> Ended:
        """Succeed."""
        return Ended(outcome=Outcome.OK, effects=Effects.COMPLETE)
