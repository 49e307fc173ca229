"""What a lane's background jobs print between actions: gathered, and told sparsely."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from chronicled.events.clock import Clock
from chronicled.events.kinds.lifecycle import BackgroundOutput
from chronicled.events.limits import PROGRESS_BYTES_MAX, PROGRESS_COUNT_MAX, PROGRESS_INTERVAL_SECONDS
from chronicled.runtimes.output.summary import glimpse

__all__ = ["BackgroundTeller"]

LANES_MAX: Final = 256


class _Lane:
    __slots__ = ("newest", "size", "telling", "told", "told_at", "told_size", "torn")

    def __init__(self) -> None:
        self.newest = b""
        self.size = 0
        self.told = 0
        self.told_size = 0
        self.told_at: float | None = None
        self.telling = False
        self.torn = False


class BackgroundTeller:
    """Tells at most one `background_output` a second and lane, 4 KiB each, 64 a lane and generation.

    Args:
        clock: Measures the distance.
        later: Calls a function after so many seconds.
        publish: Publishes for a lane.
        spawn: Runs a coroutine function in the session's tasks.
        redact: Takes secrets out of a piece of output; told whether something is missing before or behind it.
    """

    def __init__(
        self,
        clock: Clock,
        later: Callable[[float, Callable[[], None]], object],
        publish: Callable[[str, BackgroundOutput], Coroutine[Any, Any, None]],
        spawn: Callable[[Callable[[], Coroutine[Any, Any, None]]], None],
        redact: Callable[[bytes, bool, bool], bytes],
    ) -> None:
        self._clock = clock
        self._later = later
        self._publish = publish
        self._spawn = spawn
        self._redact = redact
        self._lanes: dict[str, _Lane] = {}

    def add(self, name: str, data: bytes, size: int) -> None:
        """Take what a lane's background jobs printed; `size` counts all of it, `data` may be a part."""
        lane = self._lanes.get(name)
        if lane is None:
            if len(self._lanes) >= LANES_MAX:
                return
            lane = self._lanes[name] = _Lane()
        self._join(lane, data, gap=size > len(data))
        lane.size += max(size, len(data))
        if lane.telling or lane.told >= PROGRESS_COUNT_MAX:
            return
        lane.telling = True
        now = self._clock.monotonic()
        due = now if lane.told_at is None else lane.told_at + PROGRESS_INTERVAL_SECONDS
        # Even the first one waits a moment, so that what belongs together stays together.
        self._later(max(0.1, due - now), lambda: self._spawn(lambda: self._tell(name, lane)))

    def _join(self, lane: _Lane, data: bytes, *, gap: bool) -> None:
        if lane.torn:
            data = self._redact(data, True, False)
        lane.torn = gap
        newest = lane.newest + data
        if gap or len(newest) > PROGRESS_BYTES_MAX:
            # Before it is cut: half a secret would not be found any more.
            newest = self._redact(newest, False, gap)
        lane.newest = newest[-PROGRESS_BYTES_MAX:]

    async def _tell(self, name: str, lane: _Lane) -> None:
        # What comes next is told later, so that a secret which goes on there is cut here.
        text = glimpse(self._redact(lane.newest, False, True), PROGRESS_BYTES_MAX)
        shown, total = len(lane.newest), lane.size - lane.told_size
        lane.newest, lane.told_size, lane.torn = b"", lane.size, True
        lane.told += 1
        lane.told_at = self._clock.monotonic()
        lane.telling = False
        await self._publish(
            name, BackgroundOutput(output=text, output_bytes=total, dropped_bytes=max(0, total - shown))
        )
