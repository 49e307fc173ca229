"""The handshake: which version two peers speak, and that who has none in common hears why."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.worker.sandboxes import Pipe

from chronicled.events.errors import ProtocolError, ProtocolMismatch, StaleFence
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.action_server.backlog import SpillRoom
from chronicled.runtimes.action_server.dial import refuse
from chronicled.runtimes.action_server.executor import ExecutorTable
from chronicled.runtimes.action_server.output_stream import OutputStreams
from chronicled.runtimes.action_server.protocol_range import OVERLAP, Spoken, agree
from chronicled.runtimes.action_server.server import ActionServer
from chronicled.runtimes.worker.handshake import Expected, shake_hands

AGREEING = [
    ((1, 1), (1, 1), 1),
    ((1, 3), (1, 1), 1),
    ((1, 3), (1, 2), 2),
    ((1, 3), (3, 5), 3),
    ((2, 4), (1, 3), 3),
    ((3, 5), (1, 3), 3),
    ((4, 6), (6, 8), 6),
]
DISAGREEING = [
    ((1, 3), (4, 6), "1 to 3, the worker 4 to 6; .* too old .*: restart the session"),
    ((4, 6), (1, 3), "4 to 6, the worker 1 to 3; .* of a newer release"),
    ((2, 2), (1, 1), "2, the worker 1; .* of a newer release"),
    ((3, 1), (1, 3), "3 to 1, the worker 1 to 3; one of these ranges is none"),
]


@pytest.mark.parametrize(("server", "worker", "version"), AGREEING)
def test_the_highest_common_version_is_spoken(server: tuple[int, int], worker: tuple[int, int], version: int) -> None:
    """Two ranges that overlap, be it in one version, agree on the highest that both have."""
    assert agree(Spoken(*server), Spoken(*worker)) == version


@pytest.mark.parametrize(("server", "worker", "words"), DISAGREEING)
def test_without_a_common_version_the_remedy_is_said(
    server: tuple[int, int], worker: tuple[int, int], words: str
) -> None:
    """The error names both ranges, which side is older, and what to do."""
    with pytest.raises(ProtocolMismatch, match=words):
        agree(Spoken(*server), Spoken(*worker))


def test_a_release_speaks_the_two_versions_before_its_own() -> None:
    """Who raises PROTOCOL keeps the two before it, so that sandboxes survive an upgrade."""
    assert 1 <= frames.PROTOCOL_MIN <= max(1, frames.PROTOCOL - OVERLAP)


def hello(**changes: Any) -> frames.Hello:
    """Return the Hello that is expected, with changes."""
    values: dict[str, Any] = {
        "protocol": frames.PROTOCOL,
        "protocol_min": frames.PROTOCOL_MIN,
        "build": "1",
        "boot_id": "boot",
        "generation": "generation",
        "token": "token",
        "fence": 0,
        "pid": 1,
        "start_ticks": 1,
        "kinds": ["run"],
    }
    return frames.Hello(**{**values, **changes})


async def shake(first: Any) -> Pipe:
    """Shake hands with somebody whose first frame this is; return their end."""
    ours, theirs = Pipe(), Pipe()
    ours.other, theirs.other = theirs, ours
    theirs.send(first)
    results = os.memfd_create("results")
    try:
        await shake_hands(
            ours,
            Expected(
                generation="generation",
                token="token",
                boot_id="boot",
                fence=5,
                results=results,
                unclaimed_seconds=1.0,
                seconds=5.0,
            ),
        )
    except ProtocolError as error:
        raise Refused(error, theirs) from error
    finally:
        os.close(results)
    return theirs


class Refused(Exception):
    """What the worker raised, and the end of who was refused."""

    def __init__(self, error: ProtocolError, theirs: Pipe) -> None:
        super().__init__(str(error))
        self.error = error
        self.theirs = theirs


@pytest.mark.parametrize("newest", [frames.PROTOCOL, frames.PROTOCOL + 1, frames.PROTOCOL + OVERLAP])
async def test_a_newer_server_is_spoken_to_in_the_workers_version(newest: int) -> None:
    """A server up to two versions ahead is welcomed, in the version of the worker."""
    theirs = await shake(hello(protocol=newest, protocol_min=max(1, newest - OVERLAP)))
    welcome = await theirs.receive()
    assert isinstance(welcome, frames.Welcome)
    assert welcome.protocol == frames.PROTOCOL


async def test_an_older_server_is_spoken_to_in_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """After two upgrades the worker still speaks what the sandbox speaks."""
    old = hello()
    monkeypatch.setattr(frames, "PROTOCOL", old.protocol + OVERLAP)
    monkeypatch.setattr(frames, "PROTOCOL_MIN", old.protocol)
    welcome = await (await shake(old)).receive()
    assert isinstance(welcome, frames.Welcome)
    assert welcome.protocol == old.protocol


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"protocol": 99, "protocol_min": 98}, "protocol-mismatch"),
        ({"protocol": 0, "protocol_min": 0}, "protocol-mismatch"),
        ({"protocol": 1, "protocol_min": 99}, "protocol-mismatch"),
        ({"transfers": ("pigeons",)}, "protocol-mismatch"),
        ({"token": "other"}, "refused"),
        ({"generation": "other"}, "refused"),
        ({"boot_id": "other"}, "refused"),
    ],
)
async def test_who_cannot_be_welcomed_hears_why(changes: dict[str, Any], code: str) -> None:
    """A refusal carries the code of the error tree and a sentence."""
    with pytest.raises(Refused) as refused:
        await shake(hello(**changes))
    refusal = await refused.value.theirs.receive()
    assert isinstance(refusal, frames.Refusal)
    assert refusal.code == code
    assert refusal.message


async def test_a_server_with_a_newer_worker_is_left_to_it() -> None:
    """A higher fence than the worker's own is no break of the protocol: somebody else has claimed the session."""
    with pytest.raises(StaleFence):
        await shake(hello(fence=9))


@pytest.mark.parametrize("version", [frames.PROTOCOL_MIN - 1, frames.PROTOCOL + 1])
async def test_a_server_refuses_a_version_that_it_does_not_speak(version: int, tmp_path: Path) -> None:
    """A worker that welcomes in a version out of the range of the Hello is told the range."""
    streams = OutputStreams("token", SpillRoom((str(tmp_path),)))
    server = ActionServer(ExecutorTable(), "/", lambda: None, streams)
    refusal = refuse(server, hello(), frames.Welcome(protocol=version, fence=1, transfer="descriptors"), [0])
    assert refusal is not None
    assert refusal.code == "protocol-mismatch"
    assert "is spoken here" in refusal.message
    good = frames.Welcome(protocol=frames.PROTOCOL, fence=1, transfer="descriptors")
    assert refuse(server, hello(), good, [0]) is None


def test_a_hello_of_a_later_version_can_be_read() -> None:
    """Fields that are not known here are passed over, so that a newer Hello can be refused or welcomed by its range."""
    raw = msgspec.to_builtins(hello(protocol=7, protocol_min=5))
    data = msgspec.msgpack.encode({**raw, "mood": "good", "limits": {"open_actions_max": 1, "dreams_max": 2}})
    read = msgspec.msgpack.decode(data, type=frames.ToWorker)
    assert isinstance(read, frames.Hello)
    assert (read.protocol_min, read.protocol) == (5, 7)
