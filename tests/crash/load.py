"""Clients that submit without pause, retry under the same id for as long as it takes, and follow the log."""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections.abc import Callable, Mapping

from tests.crash.ledger import SHAPES, Ledger, Seen, Submission
from tests.crash.served import Daemon
from tests.crash.wire import Answer, Api, Disconnected

__all__ = ["Clients", "Fleet", "Follower"]

CLIENTS = 4
OPEN_PER_CLIENT_MAX = 4
LANES = ("main", "side")
PAUSE_SECONDS = 0.03
CANCEL_SHARE = 0.05
RERUN_SHARE = 0.5
"""Share of the actions that may run in a fresh generation when theirs was lost before they ran."""
SETTLE_SECONDS_MAX = 60.0
FINAL = {400, 403, 404, 409, 412, 413, 422}
"""Answers that another try would not change."""


async def insist(
    daemon: Daemon, api: Api, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """Send the same request until a whole and final answer comes, however often the daemon dies meanwhile."""
    while True:
        await daemon.up.wait()
        try:
            answer = await api.call(method, path, body, headers)
        except Disconnected:
            await asyncio.sleep(0.01)
            continue
        if answer.status < 300 or answer.status in FINAL:
            return answer
        if answer.status not in {503, 507}:
            raise AssertionError(f"{method} {path}: {answer.status} {answer.body[:500]!r}")
        await asyncio.sleep(0.02)


class Fleet:
    """The sessions that clients submit to; one that was used up is closed and replaced by a new one."""

    def __init__(
        self, daemon: Daemon, api: Api, ledger: Ledger, size: int, asked: Mapping[str, object] | None = None
    ) -> None:
        self.names: list[str] = []
        self.created: list[str] = []
        self._daemon = daemon
        self._api = api
        self._ledger = ledger
        self._size = size
        self._asked = asked or {}
        """What else each session asks for."""

    async def fill(self) -> None:
        """Create sessions until there are enough."""
        while len(self.names) < self._size:
            name = f"s{len(self.created)}"
            self.created.append(name)
            # The key makes a retry safe: 200 says that the lost answer was a 201.
            key = {"Idempotency-Key": name}
            answer = await insist(
                self._daemon, self._api, "POST", "/v1/sessions", {**self._asked, "session": name}, key
            )
            assert answer.status in {200, 201}, answer
            self.names.append(name)

    async def replace(self, name: str) -> None:
        """Close a session, with whatever is queued in it, and create another."""
        if name in self.names:
            self.names.remove(name)
            answer = await insist(self._daemon, self._api, "DELETE", f"/v1/sessions/{name}")
            if answer.status != 200:
                self._ledger.violation(f"acked session {name} is gone: {answer}")
        await self.fill()


class Clients:
    """Tasks that submit; their number of open actions is bounded."""

    def __init__(self, daemon: Daemon, api: Api, ledger: Ledger, fleet: Fleet, chance: random.Random) -> None:
        self._daemon = daemon
        self._api = api
        self._ledger = ledger
        self._fleet = fleet
        self._chance = chance
        self.stopping = False

    async def run(self) -> None:
        """Submit until `stopping`, then wait for the end of what is open."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._client())

    async def _client(self) -> None:
        async with asyncio.TaskGroup() as group:
            room = asyncio.Semaphore(OPEN_PER_CLIENT_MAX)
            while not self.stopping:
                await room.acquire()
                submission = self._next()
                group.create_task(self._carry(submission, room.release))
                await asyncio.sleep(self._chance.uniform(0, 2 * PAUSE_SECONDS))

    def _next(self) -> Submission:
        shape = self._chance.choices(SHAPES, [shape.weight for shape in SHAPES])[0]
        chosen = Submission(
            id=str(uuid.UUID(int=self._chance.getrandbits(128), version=4)),
            session=self._chance.choice(self._fleet.names),
            lane=self._chance.choice(LANES),
            shape=shape,
            on_state_loss="run" if self._chance.random() < RERUN_SHARE else "reject",
        )
        self._ledger.submissions[chosen.id] = chosen
        return chosen

    async def _carry(self, submission: Submission, done: Callable[[], None]) -> None:
        payload = {"command": self._ledger.command(submission), "on_state_loss": submission.on_state_loss}
        body = {"id": submission.id, "kind": "run", "lane": submission.lane, "payload": payload}
        path = f"/v1/sessions/{submission.session}/actions"
        headers = {"Prefer": "wait=10"} if self._chance.random() < 0.3 else {}
        try:
            answer = await insist(self._daemon, self._api, "POST", path, body, headers)
            if answer.status >= 300:
                self._ledger.refused(submission, answer.problem)
                return
            self._ledger.acked(submission, bytes(answer.members["action"]))
            if self._chance.random() < 0.1:
                # A client that lost its answer asks again, also long after the end.
                await asyncio.sleep(self._chance.uniform(0, 0.5))
                again = await insist(self._daemon, self._api, "POST", path, body)
                self._ledger.acked(submission, bytes(again.members["action"]))
            if self._chance.random() < CANCEL_SHARE:
                await asyncio.sleep(self._chance.uniform(0, 0.5))
                # It may have ended meanwhile (409); that it ends, once and honestly, is checked like for any other.
                await insist(self._daemon, self._api, "POST", f"{path}/{submission.id}/cancel", {})
            with contextlib.suppress(TimeoutError):
                # What does not end is found by the last check, with more to say about it.
                await asyncio.wait_for(submission.done.wait(), SETTLE_SECONDS_MAX)
        finally:
            done()


class Follower:
    """One reader of the whole log from its start, over as many connections as the kills make it need."""

    def __init__(self, daemon: Daemon, api: Api, ledger: Ledger, notice: Callable[[Seen], None]) -> None:
        self._daemon = daemon
        self._api = api
        self._ledger = ledger
        self._notice = notice
        self.cursor = "0"
        self.connections = 0

    async def run(self) -> None:
        """Follow for ever; positions must rise, whatever happens to the connection."""
        last = 0
        while True:
            await self._daemon.up.wait()
            self.connections += 1
            try:
                async for frame in self._api.events("/v1/events", self.cursor):
                    self.cursor = frame.id.decode()
                    if not frame.data:
                        continue
                    event = self._ledger.see(frame.data)
                    if event.position <= last or not self.cursor.startswith(f"{event.position}@"):
                        self._ledger.violation(f"position {event.position} came after {last} as {self.cursor}")
                    last = event.position
                    self._notice(event)
            except Disconnected:
                await asyncio.sleep(0.01)
