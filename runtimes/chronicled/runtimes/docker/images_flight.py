"""Single flight: many ask for the same, one is on its way, and it goes on as long as one of them waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

from chronicled.events.errors import ChronicledError, ImageError, ImageUnreachable
from chronicled.runtimes.docker.images_progress import PROGRESS_SECONDS, Listener, Track

__all__ = ["Flights"]

T = TypeVar("T")


class _Flight(Generic[T]):
    def __init__(self, track: Track) -> None:
        self.track = track
        self.scope = anyio.CancelScope()
        self.landed = anyio.Event()
        self.waiters = 0
        self.result: T | None = None
        self.error: ChronicledError | None = None


class Flights(Generic[T]):
    """What is on its way, by key.

    Args:
        tasks: Owns the flights: they are nobody's who waits.
    """

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._flights: dict[str, _Flight[T]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._flights

    async def join(
        self,
        key: str,
        track: Callable[[], Track],
        fly: Callable[[Track], Awaitable[T]],
        listener: Listener | None = None,
    ) -> T:
        """Return what the flight of that key brings, begun if there is none.

        Args:
            key: What makes two requests the same.
            track: Makes the flight's track.
            fly: Does the work; called for the first who asks.
            listener: Takes reports, at most one a second and in any case the last; awaited beside the flight, which
                never waits for it.

        Raises:
            ChronicledError: what `fly` raised, to all who wait.

        Cancellation: the flight goes on for the others; with the last of them it is cancelled.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(track())
            self._tasks.start_soon(self._run, key, flight, fly)
        flight.waiters += 1
        try:
            if listener is not None:
                await _tell(flight.track, listener)
            await flight.landed.wait()
        finally:
            flight.waiters -= 1
            if flight.waiters == 0 and not flight.landed.is_set():
                # Whoever comes from here on begins anew.
                self._flights.pop(key, None)
                flight.scope.cancel()
        if flight.error is not None:
            raise flight.error
        assert flight.result is not None
        return flight.result

    async def _run(self, key: str, flight: _Flight[T], fly: Callable[[Track], Awaitable[T]]) -> None:
        try:
            with flight.scope:
                flight.result = await fly(flight.track)
                if not flight.track.over:
                    flight.track.set("done")
            if flight.result is None and flight.error is None:
                flight.error = ImageUnreachable("It was given up: nobody waited for it any more.")
                flight.track.set("cancelled")
        except ChronicledError as error:
            flight.error = error
            flight.track.set("failed", error=error.detail)
        except Exception as error:
            # One that went wrong must not end the others of the same task group.
            flight.error = ImageError(f"Something failed inside: {type(error).__name__}: {error}")
            flight.track.set("failed", error=flight.error.detail)
        finally:
            if not flight.track.over:
                flight.error = flight.error or ImageUnreachable("The worker is stopping.")
                flight.track.set("cancelled")
            if self._flights.get(key) is flight:
                del self._flights[key]
            flight.landed.set()


async def _tell(track: Track, listener: Listener) -> None:
    while True:
        version = track.version
        report = track.report()
        await listener(report)
        if report.status in {"done", "failed", "cancelled"}:
            return
        with anyio.move_on_after(PROGRESS_SECONDS):
            while not track.over:
                await track.changed(track.version)
        await track.changed(version)
