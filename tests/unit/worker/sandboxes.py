"""Scripted sandboxes in memory: an action server that keeps the protocol's promises and counts every effect.

What an action does is its command: `ok`, `fail`, `say TEXT`, `talk TEXT` (and go on for a while), `hang` (until it is
cancelled), `deaf` (hang, and do not answer a cancel), `stay` (until a later worker has asked what runs), `slow N`
(yields N times), `restart` (ok, but the lane's shell is lost), `die` (the server dies over it).
"""

# The protocols say what each method promises; repeated here it would be noise.
# ruff: noqa: D102

from __future__ import annotations

import asyncio
import json
import os
import struct
import zlib
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from chronicled.events.errors import SandboxError, SandboxStartFailed, SandboxUnreachable
from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.action_server.connection import Peer
from chronicled.runtimes.runtime import Handle, Report, RuntimeDefaults, SandboxDefaults, SandboxSpec
from chronicled.runtimes.worker.link import Accept

KINDS = ["run", "read", "write"]


class Pipe:
    """One end of a link in memory; what is sent through one end is received from the other."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        self.other: Pipe | None = None
        self.closed = False
        self.peer: Peer | None = None
        self.on_send: Callable[[Any], bool] = lambda _frame: True

    def send(self, frame: Any, descriptor: int | None = None, content: int | None = None) -> None:
        if self.closed or self.other is None or not self.on_send(frame):
            return
        self.other.inbox.put_nowait((frame, None if descriptor is None else os.dup(descriptor)))

    async def receive(self) -> Any:
        if self.closed and self.inbox.empty():
            return None
        item = await self.inbox.get()
        return None if item is None else item[0]

    def close(self) -> None:
        for end in (self, self.other):
            if end is not None and not end.closed:
                end.closed = True
                end.inbox.put_nowait(None)


def pipes() -> tuple[Pipe, Pipe]:
    """Return both ends of a new link."""
    one, two = Pipe(), Pipe()
    one.other, two.other = two, one
    return one, two


class Server:
    """The action server of one generation."""

    def __init__(self, host: Host, spec: SandboxSpec) -> None:
        self.host = host
        self.spec = spec
        self.fence = 0
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.results: dict[str, frames.Result] = {}
        self.known: set[str] = set()
        self.settled: set[str] = set()
        self.asked = asyncio.Event()
        self.link: Pipe | None = None
        self.spool: int | None = None
        self.ended = asyncio.Event()
        self.reason = ""
        self.frozen = False
        self.stuck = False
        self.unseen = 0
        """How often it cannot be looked at."""
        self.strange = asyncio.Event()
        """Set when somebody has paused it, or let it go on."""
        self.main = asyncio.get_running_loop().create_task(self.run())

    async def run(self) -> None:
        while True:
            accept = await self.host.listener(self.spec.socket_directory)
            link, far = pipes()
            serving = asyncio.ensure_future(accept(far))
            try:
                await self._converse(link)
            finally:
                link.close()
                if self.link is link:
                    self.link = None
            await asyncio.wait([serving], timeout=1)
            await asyncio.sleep(0.001)

    async def _converse(self, link: Pipe) -> None:
        link.send(
            frames.Hello(
                protocol=1,
                protocol_min=1,
                build="scripted",
                boot_id=self.host.boot_id,
                generation=self.spec.generation,
                token=self.spec.token,
                fence=self.fence,
                pid=1,
                start_ticks=1,
                kinds=KINDS,
            )
        )
        while (item := await link.inbox.get()) is not None:
            self._take(link, item[0], item[1])

    def _take(self, link: Pipe, frame: Any, descriptor: int | None) -> None:
        match frame:
            case frames.Welcome():
                if frame.fence < self.fence:
                    link.close()
                    return
                self.fence, self.link = frame.fence, link
                if self.spool is not None:
                    os.close(self.spool)
                self.spool = descriptor
                for action, result in self.results.items():
                    if action not in self.settled:
                        link.send(result)
            case frames.Query():
                done = [action for action in self.results if action not in self.settled]
                running = list(self.tasks)
                if not self.host.dedupes:
                    running, done = [], []
                link.send(frames.Status(running=running, done=done))
                self.asked.set()
            case frames.Dispatch():
                self._dispatch(frame, descriptor)
            case frames.Cancel():
                task = self.tasks.get(frame.action)
                if task is not None and frame.action not in self.host.deaf:
                    task.cancel()
            case frames.Settle():
                self.settled.add(frame.action)
            case frames.Input() | frames.Interrupt():
                self.host.requests[frame.action].append(frame)
            case _:
                pass

    def _dispatch(self, frame: frames.Dispatch, descriptor: int | None) -> None:
        assert descriptor is not None
        assert not self.frozen, "nothing is sent to what stands still"
        self.host.dispatched.append(frame.action)
        if frame.action in self.known and self.host.dedupes:
            os.close(descriptor)
            result = self.results.get(frame.action)
            if result is not None and self.link is not None:
                self.link.send(result)
            return
        self.known.add(frame.action)
        self.host.effects[frame.action] += 1
        self.host.started.append(frame.action)
        self.tasks[frame.action] = asyncio.get_running_loop().create_task(self._execute(frame, descriptor))

    async def _execute(self, frame: frames.Dispatch, descriptor: int) -> None:
        command, _, rest = json.loads(frame.payload).get("command", "ok").partition(" ")
        outcome, effects, size, lost = Outcome.OK, Effects.COMPLETE, 0, False
        try:
            if command == "fail":
                outcome = Outcome.FAILED
            elif command in {"say", "talk"}:
                size = os.write(descriptor, rest.encode())
                if self.link is not None:
                    self.link.send(frames.Output(action=frame.action, size=size))
                await asyncio.sleep(0.02 if command == "talk" else 0)
            elif command == "slow":
                for _ in range(int(rest or 3)):
                    await asyncio.sleep(0.001)
            elif command in {"hang", "deaf"}:
                if command == "deaf":
                    self.host.deaf.add(frame.action)
                await asyncio.Event().wait()
            elif command == "stay":
                self.host.staying.set()
                await self.asked.wait()
            elif command == "restart":
                lost = True
            elif command == "die":
                self.die("server-signal-9")
                return
        except asyncio.CancelledError:
            if self.ended.is_set() or self.reason:
                return
            outcome, effects = Outcome.CANCELLED, Effects.POSSIBLE
        finally:
            os.close(descriptor)
        fields: dict[str, Any] = {"exit_code": {"ok": 0, "failed": 1}.get(outcome)}
        fields |= self.host.fields.get(frame.action, {})
        result = frames.Result(
            action=frame.action,
            outcome=outcome,
            effects=effects,
            output_bytes=size,
            duration_seconds=0.001,
            state_lost=lost,
            fields=fields,
        )
        self._spool(result)
        self.results[frame.action] = result
        self.tasks.pop(frame.action, None)
        if self.link is not None:
            self.link.send(result)

    def _spool(self, result: frames.Result) -> None:
        if self.spool is None:
            return
        body = msgspec.msgpack.encode(result)
        os.lseek(self.spool, 0, os.SEEK_END)
        os.write(self.spool, struct.pack("!II", len(body), zlib.crc32(body)) + body)

    def move_by_a_stranger(self, *, frozen: bool = True) -> None:
        self.frozen = frozen
        self.strange.set()

    def die(self, reason: str) -> int:
        if self.reason:
            return 0
        self.reason = reason
        count = 1 + len(self.tasks)
        for task in (*self.tasks.values(), self.main):
            task.cancel()
        self.tasks.clear()
        if self.link is not None:
            self.link.close()
        if self.spool is not None:
            os.close(self.spool)
            self.spool = None
        self.host.alive.pop(self.spec.sandbox, None)
        self.ended.set()
        return count


class ScriptedSandbox(SandboxDefaults):
    """A sandbox as the worker holds it."""

    def __init__(self, server: Server) -> None:
        self.server = server

    @property
    def handle(self) -> Handle:
        return {"sandbox": self.server.spec.sandbox}

    async def wait_ended(self) -> str:
        await self.server.ended.wait()
        return self.server.reason

    async def kill(self) -> int:
        await asyncio.sleep(0)
        return self.server.die("killed")

    async def pause(self) -> None:
        if not self.server.host.can_pause:
            await super().pause()
        self.server.frozen = True

    async def resume(self) -> None:
        if not self.server.host.can_pause:
            await super().resume()
        if self.server.reason or self.server.stuck:
            raise SandboxError("The script says so.")
        self.server.frozen = False

    async def wait_moved(self) -> None:
        await self.server.strange.wait()
        self.server.strange.clear()

    async def stands_still(self) -> bool:
        if self.server.unseen:
            self.server.unseen -= 1
            raise SandboxUnreachable("The script says so.")
        return self.server.frozen


class Host(RuntimeDefaults):
    """The machine that the sandboxes live on; it outlives every worker. A `Runtime`, and a `Listen`."""

    name = "process"
    isolated = False

    def __init__(self) -> None:
        self.can_pause = False
        self.boot_id = "boot"
        self.dedupes = True
        self.starts_fail = 0
        self.removals_fail = 0
        self.removals = 0
        self.start_failure: Exception = SandboxStartFailed("The script says so.")
        self.alive: dict[str, Server] = {}
        self.effects: Counter[str] = Counter()
        self.started: list[str] = []
        self.dispatched: list[str] = []
        """Also what a server has answered without running it."""
        self.deaf: set[str] = set()
        self.staying = asyncio.Event()
        self.fields: dict[str, dict[str, Any]] = {}
        self.requests: defaultdict[str, list[Any]] = defaultdict(list)
        self.accepts: dict[str, Accept] = {}
        self._listening = asyncio.Event()

    @property
    def pauses(self) -> bool:
        return self.can_pause

    async def listener(self, directory: str) -> Accept:
        while directory not in self.accepts:
            await self._listening.wait()
        return self.accepts[directory]

    @asynccontextmanager
    async def listen_in(self, directory: str, accept: Accept) -> AsyncGenerator[None]:
        links: list[Any] = []

        async def serve(link: Any) -> None:
            links.append(link)
            await accept(link)

        self.accepts[directory] = serve
        listening, self._listening = self._listening, asyncio.Event()
        listening.set()
        try:
            yield
        finally:
            if self.accepts.get(directory) is serve:
                del self.accepts[directory]
            for link in links:
                link.close()

    async def start(self, spec: SandboxSpec, report: Report | None = None) -> ScriptedSandbox:
        await asyncio.sleep(0)
        if self.starts_fail:
            self.starts_fail -= 1
            raise self.start_failure
        server = self.alive[spec.sandbox] = Server(self, spec)
        return ScriptedSandbox(server)

    async def attach(self, handle: Handle, spec: SandboxSpec) -> ScriptedSandbox | None:
        server = self.alive.get(str(handle["sandbox"]))
        return None if server is None else ScriptedSandbox(server)

    async def remove(self, sandbox: str) -> None:
        self.removals += 1
        if self.removals_fail:
            self.removals_fail -= 1
            raise SandboxUnreachable("The script says so.")
        if sandbox in self.alive:
            self.alive[sandbox].die("removed")

    async def sweep(self, known: Collection[str], head: int = 0) -> Sequence[str]:
        gone = [sandbox for sandbox in self.alive if sandbox not in known]
        for sandbox in gone:
            self.alive[sandbox].die("swept")
        return gone

    def reboot(self) -> None:
        for server in list(self.alive.values()):
            server.die("reboot")
        self.boot_id = f"{self.boot_id}+"

    async def aclose(self) -> None:
        servers = list(self.alive.values())
        for server in servers:
            server.die("closed")
        await asyncio.sleep(0)
