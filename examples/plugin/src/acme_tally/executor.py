"""What runs inside the sandbox. It is constructed once and lives as long as the sandbox: it may keep what it likes."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec
from tabulate import tabulate

from acme_tally.kinds import Tally
from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server.executor import Context, Ended, Request, SandboxContext

__all__ = ["TallyExecutor"]


class TallyExecutor:
    """Counts words: for each lane, and for the sandbox as a whole."""

    kinds = {"acme.tally": 2}  # noqa: RUF012 - read once, by the action server
    """Which version of which kind it takes: the current one, older actions are brought there before they are sent."""

    def __init__(self, sandbox: SandboxContext) -> None:
        self._lanes: dict[str, Counter[str]] = {}
        self._total = 0

    async def execute(self, request: Request, context: Context) -> Ended:
        """Count the words of one action. A deadline or a cancel ends it as any coroutine is cancelled: at an await."""
        asked = msgspec.json.decode(request.payload, type=Tally)
        if "" in asked.words:
            # It ran to its end and did not get what it wanted; whoever asked reads why.
            return Ended(outcome=Outcome.FAILED, effects=Effects.NONE, reason="no_word", message="A word is empty.")
        counted = self._lanes.setdefault(context.lane.name, Counter())
        for word in asked.words:
            await asyncio.sleep(asked.pause_seconds)
            counted[word] += 1
            self._total += 1
            context.output.write(memoryview(f"{word}: {counted[word]}\n".encode()))
        counts = {word: counted[word] for word in asked.words}
        table = tabulate(sorted(counts.items()), headers=("word", "count"))
        context.output.write(memoryview(f"{table}\n".encode()))
        return Ended(outcome=Outcome.OK, effects=Effects.COMPLETE, fields={"counts": counts, "total": self._total})

    async def close(self) -> None:
        """Let go of everything: the sandbox ends."""
        self._lanes.clear()
