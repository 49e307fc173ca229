"""After any log and any number of restarts, projections say what a fold from the first event says."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.projections.fixtures import CODEC, Writer, everything, facts, fresh_folds, is_over

from chronicled.events.envelope import Event
from chronicled.storage.memory import MemoryStore
from chronicled.storage.projections import Projections, open_projections

STEPS = (
    *("run", "run_side", "message", "end", "end_last", "cancel", "type", "claim", "close"),
    *("sandbox", "sandbox_b", "removed", "removed_b", "started", "started_b", "ended", "ended_b", "restarted"),
    *("restart", "crash", "save"),
)


class Scene:
    """One log, its projections, and the actions that are open in each session."""

    def __init__(self, directory: Path, store: MemoryStore) -> None:
        self.path = directory / "projections.sqlite"
        self.store = store
        self.open: dict[int, list[Event]] = {}
        self.closed: set[int] = set()

    async def step(self, name: str, number: int) -> None:
        """Write what the step says, if the session is in a state to take it."""
        writer = Writer(self.store, f"s{number}")
        opened = self.open.get(number)
        if opened is None:
            opened = self.open[number] = []
            await writer.create()
        if name in {"run", "run_side", "message"} and number in self.closed:
            return
        if name == "close":
            self.closed.add(number)
        if name in {"run", "run_side"}:
            opened.append(await writer.run(lane="main" if name == "run" else "side"))
        elif name in {"end", "end_last", "cancel", "type"}:
            await self._about_an_action(writer, name, opened)
        else:
            suffix = "b" if name.endswith("_b") else "a"
            steps: dict[str, Any] = {
                "message": writer.message,
                "claim": writer.claim,
                "close": writer.close,
                "sandbox": lambda: writer.sandbox(suffix),
                "removed": lambda: writer.removed(suffix),
                "started": lambda: writer.started("a", suffix),
                "ended": lambda: writer.ended("a", suffix),
                "restarted": lambda: writer.restarted("main"),
            }
            await steps[name.removesuffix("_b")]()

    async def _about_an_action(self, writer: Writer, name: str, opened: list[Event]) -> None:
        if not opened:
            return
        if name == "cancel":
            await writer.cancel(opened[-1])
        elif name == "type":
            await writer.type(opened[0])
        else:
            await writer.end(opened.pop(0 if name == "end" else -1))

    async def check(self, projections: Projections) -> None:
        """Compare everything with a fold from the start."""
        await projections.settle()
        log = await everything(self.store) if self.store.head else []
        fresh = fresh_folds(log)
        for key, fold in fresh.items():
            known = projections.find(key.tenant, key.session)
            if known is None:
                assert is_over(fold)
            else:
                assert facts(known) == facts(fold)
        live = [key for key, fold in fresh.items() if not is_over(fold)]
        assert projections.unfinished() == live
        summaries, at_end = await projections.page("default", 0, 100)
        assert at_end
        assert [each.session for each in summaries] == [key.session for key in fresh]
        for summary, fold in zip(summaries, fresh.values(), strict=True):
            assert summary == await projections.session("default", summary.session)
            assert (summary.position, summary.fence) == (fold.position, fold.fence)
            assert (summary.closed, summary.open_actions) == (fold.closed is not None, len(fold))


def copy_files(path: Path, copy: Path) -> None:
    """Keep the files as `kill -9` would leave them at this moment: whatever was written, no orderly close."""
    for suffix in ("", "-wal"):
        if os.path.exists(f"{path}{suffix}"):
            shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")


def put_back(path: Path, copy: Path) -> None:
    """Put the kept files in place of the present ones."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
        if os.path.exists(f"{copy}{suffix}"):
            os.replace(f"{copy}{suffix}", f"{path}{suffix}")


async def play(steps: list[tuple[str, int]]) -> None:
    """Run the steps; `restart` ends the projections in order, `crash` as a kill does."""
    store = await MemoryStore.open()
    with tempfile.TemporaryDirectory() as name:
        scene, copy = Scene(Path(name), store), Path(name) / "copy.sqlite"
        remaining = [*steps, ("restart", 0)]
        while remaining:
            async with open_projections(scene.path, store, CODEC, save_seconds=3600) as projections:
                await scene.check(projections)
                step = ""
                while remaining and step not in {"restart", "crash"}:
                    step, number = remaining.pop(0)
                    if step == "save":
                        await projections.save()
                        assert projections.failure is None
                    elif step not in {"restart", "crash"}:
                        await scene.step(step, number)
                await scene.check(projections)
                if step == "crash":
                    copy_files(scene.path, copy)
            if step == "crash":
                put_back(scene.path, copy)
        async with open_projections(scene.path, store, CODEC) as projections:
            assert projections.events_folded == 0
            await scene.check(projections)
    await store.aclose()


@settings(max_examples=150, deadline=None)
@example([("started", 0), ("save", 0), ("ended", 0), ("ended_b", 0), ("run", 0)])
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 2)), max_size=60))
def test_a_restart_anywhere_changes_nothing(steps: list[tuple[str, int]]) -> None:
    """Any order of events, saves, restarts and crashes ends in the fold of the whole log."""
    asyncio.run(play(steps))
