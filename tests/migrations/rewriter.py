"""A log for rewrites, with all that a log can hold; and a rewrite in a process of its own, to be killed.

python -m tests.migrations.rewriter OLD NEW [POINT N]
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from chronicled.events import faultpoint
from chronicled.events.codec import encode_json
from chronicled.events.envelope import ACTION, LIFECYCLE, OBSERVATION
from chronicled.events.kind import Payload, lifecycle
from chronicled.events.kinds import BUILTIN
from chronicled.events.registry import Registry
from chronicled.events.store import Append
from chronicled.migrations.builtin import DOWNCASTERS, UPCASTERS
from chronicled.migrations.chain import Chain, Further, Upcaster
from chronicled.migrations.vocabulary import Vocabulary
from chronicled.storage.blobs import FileBlobStore
from chronicled.storage.disk import SystemDisk
from chronicled.storage.leaf import payload_digest
from chronicled.storage.rewrite import rewrite, target
from chronicled.storage.sqlite import LOG_NAME, SqliteStore
from chronicled.storage.testing_drafts import DraftMaker

BLOB = b"what an action printed" * 5000
SECRET = b"sealed, for all that a rewrite knows"
CARRIED = ("instance.json", "secrets", "secrets.key")
ERASED = "to-be-forgotten"


class Visited(Payload, frozen=True, kw_only=True):
    """A kind as it was: two things in one event."""

    place: str
    weather: str


class VisitedNow(Payload, frozen=True, kw_only=True):
    """The same kind today."""

    place: str


class WeatherSeen(Payload, frozen=True, kw_only=True):
    """What became of the other thing."""

    weather: str


def _visited(payload: dict[str, Any]) -> dict[str, Any]:
    return {"place": payload["place"]}


def _weather(payload: dict[str, Any]) -> list[Further]:
    return [Further(LIFECYCLE, "test.weather_seen", {"weather": payload["weather"]})] if payload["weather"] else []


def words() -> Vocabulary:
    """Return the built-in kinds and two of our own, of which one becomes two."""
    kinds = (
        lifecycle("test.visited", Visited),
        lifecycle("test.visited", VisitedNow, version=2),
        lifecycle("test.weather_seen", WeatherSeen),
    )
    registry = Registry([*BUILTIN, *kinds])
    chain = Chain([*UPCASTERS, Upcaster(LIFECYCLE, "test.visited", 1, _visited, further=_weather)], DOWNCASTERS)
    registry.check()
    chain.check(registry)
    return Vocabulary(registry, chain)


def _begin(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    (directory / "instance.json").write_bytes(b'{"instance": "i"}')
    (directory / "secrets.key").write_bytes(b"key")
    (directory / "secrets" / "default" / "s").mkdir(parents=True)
    (directory / "secrets" / "default" / "s" / "record").write_bytes(SECRET)
    (directory / "spool").mkdir()
    (directory / "spool" / "left").write_bytes(b"of no use")


async def write(directory: Path, rounds: int = 3) -> None:
    """Write a log at rest: old versions, events that nobody can read, erased ones, blobs, two tenants, an end."""
    _begin(directory)
    blobs = FileBlobStore(str(directory / "blobs"), SystemDisk())
    blob = (await blobs.put(BLOB)).digest
    daemon, maker, other = DraftMaker("_system"), DraftMaker(), DraftMaker("other")
    started = b'{"version":"0","boot_id":"b","pid":1,"incarnation":"i","schema":1}'
    async with await SqliteStore.open(directory / LOG_NAME) as store:
        await store.append(Append((daemon.draft("daemon", "daemon_started", LIFECYCLE, started),), create=True))
        for each in (maker, other):
            for session in ("s", "t"):
                await store.append(each.create(session))
        for number in range(rounds):
            drafts = [maker.claimed("s")]
            for index in range(40):
                action = maker.action("s", f"make {number} {index}")
                action = replace(action, request=sha256(action.id.encode()).digest(), lane=f"lane-{index % 3}")
                drafts += [replace(action, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
                drafts += [maker.progress("s", action.id), maker.terminal("s", action.id, blobs=(blob,))]
            drafts += [
                maker.draft("t", "test.visited", LIFECYCLE, b'{"place":"\xc3\xa9","weather":"rain"}', source="client"),
                maker.draft("t", "test.visited", LIFECYCLE, b'{"place":"here","weather":""}'),
                maker.draft("t", "run", ACTION, b'{"command":["not","a","text"]}'),
                maker.draft("t", "nobody.knows", OBSERVATION, b"not even JSON"),
                replace(maker.draft("t", "message", ACTION, b'{"content":"from tomorrow"}'), version=99),
                maker.draft("t", "test.visited", LIFECYCLE, encode_json({"place": ERASED, "weather": "sun"})),
            ]
            misfit = next(draft for draft in drafts if draft.payload.startswith(b'{"command":['))
            drafts += [maker.terminal("t", misfit.id)]
            await store.append(Append(tuple(drafts)))
            action = other.action("s")
            await store.append(Append((action, other.terminal("s", action.id))))
        await store.append(Append((maker.closed("t"),)))
    _erase(directory / LOG_NAME)


def _erase(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows = connection.execute(
            "SELECT position, salt, payload FROM event WHERE instr(payload, ?)", (ERASED.encode(),)
        ).fetchall()
        assert rows, "something is to be erased"
        for position, salt, payload in rows:
            connection.execute(
                "UPDATE event SET payload = NULL, salt = NULL, erased_digest = ? WHERE position = ?",
                (payload_digest(salt, payload), position),
            )


def main() -> None:
    """Write the log anew; be killed on the way if that was asked for."""
    old, new, arguments = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    target.BATCH_ROWS = 50  # type: ignore[misc]  # so that a small log has a middle too
    if arguments:
        name, left = arguments[0], int(arguments[1])

        def arrive(point: str) -> None:
            nonlocal left
            if point == name:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        faultpoint.arm(arrive)
    rewrite(old, new, words(), CARRIED)


if __name__ == "__main__":
    main()
