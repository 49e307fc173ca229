"""A server that has fallen into the wrong hands: whatever it says, the session goes on, and its log stays readable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.worker.world import World

from chronicled.events.ids import check_name
from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server import frames

HUGE = (1 << 64) - 1


def result(action: str, **fields: Any) -> frames.Result:
    """Return a result."""
    values: dict[str, Any] = {"action": action, "outcome": Outcome.OK, "effects": Effects.COMPLETE, **fields}
    return frames.Result(**values)


HOSTILE: dict[str, list[Any]] = {
    "background of lanes that cannot be": [
        frames.Background(lane=lane, data=b"x", size=1)
        for lane in ("", " ", "a b", "a\nb", "../x", "\0", "\u202e", "x" * 1000, "..", "é")
    ],
    "background of sizes that cannot be": [
        frames.Background(lane="main", data=b"x", size=size) for size in (-1, -HUGE // 2, HUGE, HUGE, 0)
    ],
    "outputs of nothing": [frames.Output(action=action, size=HUGE) for action in ("", "x" * 5000, "\0")],
    "waiting of nothing": [frames.Waiting(action="nothing", waiting=True)],
    "starts of nothing": [frames.Started(action="nothing")],
    "results of nothing": [result(action) for action in ("", "\n", "x" * 5000, "01a1fdd7-6d40-7e10-a1fd-2b83d397cd76")],
    "answers that nobody asked for": [frames.Status(running=["a", ""], done=["b" * 1000])],
    "content that nobody sends": [frames.ContentCredit(action="a", taken=-5, limit=HUGE)],
}


@pytest.mark.parametrize("what", sorted(HOSTILE))
async def test_frames_of_a_hostile_server_do_not_end_the_session(tmp_path: Path, what: str) -> None:
    """They are dropped, or told as far as they can be; actions run on in the same generation."""
    async with World.open(tmp_path) as world, world.working():
        await world.create()
        assert (await world.ended(await world.submit("ok"))).outcome == "ok"
        (server,) = world.host.alive.values()
        assert server.link is not None
        for frame in HOSTILE[what]:
            server.link.send(frame)
        # Longer than what is told sparsely waits.
        assert (await world.ended(await world.submit("slow 1500"))).outcome == "ok"
        assert world.host.alive == {server.spec.sandbox: server}
        assert len(await world.events("session_claimed")) <= 1
        assert len(await world.events("generation_started")) == 1
        told = await world.events("background_output")
        assert bool(told) == (what == "background of sizes that cannot be")
        for event in await world.events():
            assert check_name(event.lane, "lane") == event.lane
            world.codec.decode(event)


SAID: list[dict[str, Any]] = [
    {"output_bytes": HUGE},
    {"output_bytes": -HUGE // 2, "output_dropped_bytes": HUGE},
    {"duration_seconds": float("nan"), "deadline": "\0" * 100, "reason": "\ud7ff" * 10_000},
    {"fields": {"exit_code": HUGE, "outcome": "failed", "output": "forged", "output_digest": "0" * 64}},
    {"fields": {"exit_code": {"deep": [[[[[[]]]]]]}}},
]


@pytest.mark.parametrize("said", SAID, ids=["-".join(each) for each in SAID])
async def test_a_hostile_result_ends_its_action_and_nothing_else(
    tmp_path: Path, said: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It becomes an observation that can be read, of the outcome that was said, without what it cannot have."""
    plain = frames.Result

    def forged(**fields: Any) -> frames.Result:
        return plain(**{**fields, **said})

    async with World.open(tmp_path) as world, world.working():
        await world.create()
        assert (await world.ended(await world.submit("ok"))).outcome == "ok"
        monkeypatch.setattr("tests.unit.worker.sandboxes.frames.Result", forged)
        ended = await world.ended(await world.submit("say hello"))
        assert ended.outcome == "ok"
        assert ended.output in {"hello", ""}
        monkeypatch.undo()
        assert (await world.ended(await world.submit("ok"))).outcome == "ok"
        assert len(await world.events("generation_started")) == 1
