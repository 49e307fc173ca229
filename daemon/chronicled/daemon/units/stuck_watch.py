"""Ends code of units that holds up the daemon: a step or a policy that never returns, a pattern without end.

All of that runs on the event loop's thread. A second thread looks whether the loop still turns. Where it does not, and
code of a unit is what runs there, a signal has the interpreter raise `UnitStuck` right in it: that works in loops, in
calls that block, and within the matching of a pattern. Time is counted in looks and in processor time, so that a
process that was stopped or starved is not taken for one that hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Final, NamedTuple

import structlog

from chronicled.events.rule_redaction import RuleState
from chronicled.events.unit_stuck import UnitStuck

__all__ = ["Culprit", "StuckWatch", "culprit"]

LOOK_SECONDS: Final = 0.25
PATIENCE: Final = 3
"""So many times the limit until the process ends, where being interrupted did not help."""
STEPS: Final = "chronicled.steps."
"""Name of the module that functions made of steps say they are of, with that of the steps behind it."""
RULES: Final = "chronicled.events.rule_redaction"
GUARDS: Final = frozenset(
    {
        "chronicled.daemon.former_requests",
        "chronicled.daemon.units.policy",
        "chronicled.events.codec",
        "chronicled.events.presentation",
        RULES,
    }
)
"""Modules that call units and take whatever they raise; nowhere else is anything raised."""

log: Any = structlog.get_logger("chronicled")


class Culprit(NamedTuple):
    """Whose code it is that runs."""

    unit: str
    where: str
    """Function, file and line."""
    guarded: bool
    """Whoever has called it takes whatever is raised."""


def culprit(frame: FrameType | None, owners: Mapping[str, str]) -> Culprit | None:
    """Return which unit's code runs in that frame or below it; None: none.

    Args:
        frame: The innermost one.
        owners: Names of units by the top-level packages of their modules.
    """
    unit = where = ""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if not unit:
            owner = owners.get(module.removeprefix(STEPS).partition(".")[0])
            rule = _rule(frame) if module == RULES else ""
            if owner is not None or rule:
                unit = owner or rule.partition(".")[0]
                where = f"{rule or frame.f_code.co_name} ({frame.f_code.co_filename}:{frame.f_lineno})"
        if unit and module in GUARDS:
            return Culprit(unit, where, guarded=True)
        frame = frame.f_back
    return Culprit(unit, where, guarded=False) if unit else None


def _rule(frame: FrameType) -> str:
    state = getattr(frame.f_locals.get("self"), "state", None)
    return state.name if isinstance(state, RuleState) else ""


class StuckWatch:
    """Watches the running event loop of the main thread.

    Args:
        owners: Names of units by the top-level packages of their modules.
        seconds: How long a unit may hold up the loop.
        end: Ends the process at once; called with what to tell.
    """

    def __init__(self, owners: Mapping[str, str], seconds: float, end: Callable[[BaseException], object]) -> None:
        self._owners = dict(owners)
        self._seconds = seconds
        self._end = end
        self._beats = 0
        self._ended: deque[Culprit] = deque(maxlen=16)
        self._over = threading.Event()
        self._main = threading.main_thread().ident or 0
        self._thread = threading.Thread(target=self._watch, name="units", daemon=True)
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin, in the main thread, with its loop running."""
        self._loop = asyncio.get_running_loop()
        signal.signal(signal.SIGVTALRM, self._interrupt)
        # A thread that matches a pattern without end lets no other run, this one neither; then the process ends, and
        # tells where it was.
        with contextlib.suppress(OSError, ValueError, RuntimeError, AttributeError):
            faulthandler.register(signal.SIGPROF, all_threads=True, chain=True)
        self._arm(self._seconds)
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        """End watching. Waits for the thread."""
        self._over.set()
        self._thread.join()
        if self._timer is not None:
            self._timer.cancel()
        self._arm(0.0)
        signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
        faulthandler.unregister(signal.SIGPROF)

    def _beat(self) -> None:
        assert self._loop is not None, "it was started"
        self._beats += 1
        self._timer = self._loop.call_later(LOOK_SECONDS, self._beat)

    def _watch(self) -> None:
        beats, looks = 0, 0
        limit = max(1, round(self._seconds / LOOK_SECONDS))
        while not self._over.wait(LOOK_SECONDS):
            self._arm(self._seconds)
            while self._ended:
                ended = self._ended.popleft()
                log.critical("unit_ended", unit=ended.unit, at=ended.where)
            if beats != self._beats:
                beats, looks = self._beats, 0
                continue
            looks += 1
            if looks % limit:
                continue
            frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]  # there is no other way
            found = culprit(frames.get(self._main), self._owners)
            if found is None:
                continue
            log.critical("unit_stuck", unit=found.unit, at=found.where, seconds=round(looks * LOOK_SECONDS, 1))
            if not found.guarded:
                continue
            if looks >= PATIENCE * limit:
                self._end(UnitStuck(f"the unit {found.unit!r} does not end: {found.where}"))
            signal.pthread_kill(self._main, signal.SIGVTALRM)

    def _arm(self, seconds: float) -> None:
        # In processor time, from now on: they fire only where this thread cannot run meanwhile.
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        signal.setitimer(signal.ITIMER_PROF, PATIENCE * seconds)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        found = culprit(frame, self._owners)
        if found is not None and found.guarded:
            # Told by the other thread: whatever was interrupted may be telling something itself.
            self._ended.append(found)
            raise UnitStuck(f"the unit {found.unit!r} held up the daemon for {self._seconds:g} s in {found.where}")
