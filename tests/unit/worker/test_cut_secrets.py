"""Secrets that lie across the places where the worker cuts what an action server says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.worker.stream_log import StreamWorkerLog
from tests.unit.worker.world import TENANT, World, running

from chronicled.events.codec import Codec
from chronicled.events.envelope import Draft, Event
from chronicled.events.registry import builtin_registry
from chronicled.events.secret_redaction import SecretRedaction
from chronicled.events.worker_log import SessionKey
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.worker.observation import TEXT_BYTES_MAX

VALUE = "kT9#bQ2vLw7pZx4mHd8s"
PIECES = (VALUE[:6].encode(), VALUE[-6:].encode())


class ForestalledLog(StreamWorkerLog):
    """A log in which somebody else ends each action just before its end is published, without a word."""

    async def publish(self, key: SessionKey, fence: int, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        """Publish, after the other has."""
        if drafts[-1].terminal:
            last = drafts[-1]
            bare = msgspec.json.encode({"outcome": "unknown", "effects": "possible"})
            await super().publish(key, fence, [msgspec.structs.replace(last, id=last.id[::-1], payload=bare)])
        return await super().publish(key, fence, drafts)


def across(length: int) -> str:
    """Return a text in which half of the value stands before that length."""
    return "." * (length - len(VALUE) // 2) + VALUE


def redacting(world: World) -> None:
    """Have the world know the value, in its codec and in its workers."""
    redaction = SecretRedaction()
    redaction.register(TENANT, "s", {"KEY": [VALUE]})
    world.redaction = redaction
    world.codec = Codec(builtin_registry(), redaction=redaction)


@pytest.mark.parametrize(
    "said",
    [
        {"message": across(TEXT_BYTES_MAX)},
        {"reason": across(TEXT_BYTES_MAX)},
        {"deadline": across(TEXT_BYTES_MAX)},
        {"fields": {"working_directory": "....." + VALUE * 4000}},
    ],
    ids=["message", "reason", "deadline", "a field"],
)
async def test_no_half_of_a_secret_is_left_where_a_result_is_cut(
    tmp_path: Path, said: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is too long is cut after the value was replaced: neither half of it stands in the log."""
    plain = frames.Result

    def wordy(**fields: Any) -> frames.Result:
        return plain(**{**fields, **said})

    async with World.open(tmp_path) as world:
        redacting(world)
        async with running(world.worker()):
            await world.create()
            assert (await world.ended(await world.submit("ok"))).outcome == "ok"
            monkeypatch.setattr("tests.unit.worker.sandboxes.frames.Result", wordy)
            assert (await world.ended(await world.submit("ok"))).outcome == "ok"
        log = b"\n".join(bytes(event.payload) for event in await world.events())
        assert b"....." in log, "it was told, and cut"
        assert [piece for piece in PIECES if piece in log] == []


async def test_no_half_of_a_secret_is_left_of_a_late_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came too late is kept, cut, and holds no half of a value either."""
    plain = frames.Result

    def wordy(**fields: Any) -> frames.Result:
        values: dict[str, Any] = {**fields, "message": across(TEXT_BYTES_MAX)}
        return plain(**values)

    monkeypatch.setattr("tests.unit.worker.sandboxes.frames.Result", wordy)
    async with World.open(tmp_path) as world:
        redacting(world)
        log = ForestalledLog(world.store, world.stream, world.blobs, world.codec, "tester")
        async with running(world.worker(log)):
            await world.create()
            assert (await world.ended(await world.submit("ok"))).outcome == "unknown"

            async def told() -> bool:
                return bool(await world.events("late_result"))

            await world.until(told)
        (late,) = await world.events("late_result")
        assert b"....." in bytes(late.payload)
        assert [piece for piece in PIECES if piece in bytes(late.payload)] == []
