"""Single flight: who shares what, who ends it, and what each hears."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from chronicled.events.errors import ImageError, ImageNotFound, ImageUnreachable
from chronicled.events.kinds.lifecycle import ImageProgress
from chronicled.runtimes.docker.images_flight import Flights
from chronicled.runtimes.docker.images_progress import Track


class Work:
    """A piece of work that can be held, and fail."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun = 0
        self.cancelled = 0
        self.go = anyio.Event()
        self.error = error

    def track(self) -> Track:
        """Return a track."""
        return Track("image", "pull")

    async def fly(self, track: Track) -> str:
        """Do it."""
        self.begun += 1
        track.set("running")
        try:
            await self.go.wait()
        except BaseException:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return "done"


async def test_a_failure_is_everybodys_and_the_next_begins_anew() -> None:
    """All who wait get the same error, other flights go on, and whoever asks later starts afresh."""
    work, other = Work(ImageNotFound("no such image")), Work()
    async with anyio.create_task_group() as owner:
        flights: Flights[str] = Flights(owner)
        errors: list[Exception] = []

        async def ask() -> None:
            try:
                await flights.join("a", work.track, work.fly)
            except ImageNotFound as error:
                errors.append(error)

        async with anyio.create_task_group() as waiting:
            for _ in range(5):
                waiting.start_soon(ask)
            waiting.start_soon(flights.join, "b", other.track, other.fly)
            await anyio.wait_all_tasks_blocked()
            work.go.set()
            await anyio.wait_all_tasks_blocked()
            assert len(errors) == 5
            assert "a" not in flights
            assert "b" in flights
            other.go.set()
        work.error = None
        assert await flights.join("a", work.track, work.fly) == "done"
        assert (work.begun, other.begun) == (2, 1)


async def test_only_the_last_who_leaves_ends_a_flight() -> None:
    """Each of many may give up; the work is cancelled with the last of them, and never before."""
    work = Work()
    async with anyio.create_task_group() as owner:
        flights: Flights[str] = Flights(owner)
        scopes = [anyio.CancelScope() for _ in range(3)]

        async def ask(scope: anyio.CancelScope) -> None:
            with scope:
                await flights.join("a", work.track, work.fly)

        for scope in scopes:
            owner.start_soon(ask, scope)
        await anyio.wait_all_tasks_blocked()
        for index, scope in enumerate(scopes):
            assert work.cancelled == 0
            scope.cancel()
            await anyio.wait_all_tasks_blocked()
            assert ("a" in flights) is (index < 2)
        assert (work.begun, work.cancelled) == (1, 1)


async def test_a_mistake_of_ours_is_told_and_ends_nobody_else() -> None:
    """An error that is none of ours becomes one for those who wait, and the owner's other tasks live on."""
    work, other = Work(RuntimeError("oops")), Work()
    work.go.set()
    async with anyio.create_task_group() as owner:
        flights: Flights[str] = Flights(owner)
        with pytest.raises(ImageError, match="RuntimeError: oops"):
            await flights.join("a", work.track, work.fly)
        other.go.set()
        assert await flights.join("b", other.track, other.fly) == "done"


async def test_the_owners_end_is_an_error_to_those_who_wait() -> None:
    """When the owner stops, nobody waits for ever: each hears that it was given up."""
    work = Work()
    heard: list[ImageProgress] = []

    async def listen(report: ImageProgress) -> None:
        heard.append(report)

    async with anyio.create_task_group() as waiting, anyio.create_task_group() as owner:
        flights: Flights[str] = Flights(owner)

        async def ask() -> None:
            with pytest.raises(ImageUnreachable):
                await flights.join("a", work.track, work.fly, listen)

        waiting.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        owner.cancel_scope.cancel()
    assert heard[-1].status == "cancelled"


async def test_a_slow_listener_holds_up_nobody() -> None:
    """A listener that never returns delays its own end alone; a broken one is its own caller's error."""
    work = Work()
    work.go.set()

    async def stuck(_: ImageProgress) -> None:
        await anyio.sleep_forever()

    async def broken(_: ImageProgress) -> None:
        raise ImageError("the log is full")

    async with anyio.create_task_group() as owner:
        flights: Flights[str] = Flights(owner)
        slow = anyio.CancelScope()

        async def ask() -> None:
            with slow:
                await flights.join("a", work.track, work.fly, stuck)

        owner.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        assert await flights.join("a", work.track, work.fly) == "done"
        with pytest.raises(ImageError, match="log is full"):
            await flights.join("c", work.track, work.fly, broken)
        slow.cancel()


def test_progress_adds_up_what_the_engine_tells() -> None:
    """Layers are summed, finished ones count whole, and what is malformed changes nothing."""
    track = Track("image", "pull")
    messages: list[dict[str, Any]] = [
        {"status": "Pulling from a/b", "id": "1"},
        {"status": "Downloading", "id": "l1", "progressDetail": {"current": 5, "total": 10}},
        {"status": "Downloading", "id": "l2", "progressDetail": {"current": 1, "total": 20}},
        {"status": "Downloading", "id": "l3", "progressDetail": {"current": "x", "total": None}},
        {"status": "Download complete", "id": "l1", "progressDetail": {}},
        {"status": 7, "id": 8, "progressDetail": "x"},
        {},
    ]
    for message in messages:
        track.take(message)
    report = track.report()
    assert (report.bytes_done, report.bytes_total) == (11, 30)
    track.set("done", digest="sha256:x")
    assert (track.report().status, track.report().step) == ("done", "")
