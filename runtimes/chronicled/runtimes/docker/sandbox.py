"""One sandbox of the docker runtime: the life and death of a container, as the engine proves them."""

from __future__ import annotations

import datetime
import time
from typing import Final

import anyio
import anyio.to_thread
import structlog

from chronicled.events.errors import SandboxError, SandboxUnreachable
from chronicled.runtimes.action_server import reaper
from chronicled.runtimes.docker import labels, premises
from chronicled.runtimes.docker.container import Container, State
from chronicled.runtimes.docker.engine import Engine
from chronicled.runtimes.docker.failure import EngineRefused, EngineUnreachable
from chronicled.runtimes.docker.kernel_kills import KernelKills
from chronicled.runtimes.docker.notices import Shortage, Stillness
from chronicled.runtimes.runtime import Handle, MemoryMark

__all__ = ["DockerSandbox", "Life", "ending_of", "moment_of"]

END_SECONDS: Final = 25.0
ANOTHERS: Final = "another_instance"
"""End of a sandbox, as far as this instance can tell, that is another's: this log is a copy of that one's."""
RETRY_SECONDS_MIN: Final = 0.05
RETRY_SECONDS_MAX: Final = 2.0
COMPLAIN_SECONDS: Final = 60.0
NOTICE_SECONDS: Final = 1.0
"""How long a notice of want of memory may come after the death that it explains."""
_SIGKILL_STATUS: Final = 137
SHORTAGE_NANOSECONDS: Final = 5 * 10**9
"""A kill so long after the last notice of want of memory is somebody's, not the kernel's for that want."""

_log = structlog.get_logger("chronicled.docker")


class Life:
    """One run of one container on one engine: whether it lasts, or is proven over.

    Args:
        engine: The engine.
        engine_id: Id of the engine that started it.
        container: Id of the container.
        started_at: When it was started, as the engine says: a container that was started again is another generation.
        instance: Whose it must be: a copy of a log knows of containers that are not its own.
        process: Number of its first process on its machine, once it was found alive.
    """

    def __init__(
        self, engine: Engine, engine_id: str, container: str, started_at: str, instance: str, process: int = 0
    ) -> None:
        self.engine = engine
        self.engine_id = engine_id
        self.container = container
        self.started_at = started_at
        self.instance = instance
        self.process = process

    async def ended(self) -> State | None:
        """Return the state that proves that nothing of it lives, None while it lasts.

        Raises:
            SandboxUnreachable: neither can be told: the engine does not answer, or is another one.
        """
        try:
            found = await self.engine.inspect(self.container)
            if found is not None:
                return self._judge(found)
            facts = await self.engine.facts(fresh=True)
        except EngineRefused as error:
            raise SandboxUnreachable(f"The engine cannot tell whether it lives: {error.detail}") from error
        if facts.id != self.engine_id:
            raise SandboxUnreachable(f"Another engine answers ({facts.id}), which says nothing of the sandbox's own.")
        return State(status="removed")

    def _judge(self, found: Container) -> State | None:
        state = found.state
        if found.labels.get(labels.INSTANCE) != self.instance:
            # Nothing is known of its life that would be this log's to tell, and nothing of it is ever touched.
            return State(status=ANOTHERS)
        if state.running and state.started_at == self.started_at:
            self.process = state.pid
            return None
        if state.running or state.status == "restarting":
            # Somebody has started it again: what ran in it is gone, and what runs now is nobody's.
            return State(status="restarted")
        return state


def ending_of(state: State, shortage: Shortage | None = None) -> str:
    """Return why a generation ended, from its container's last state and what is known of its want of memory."""
    if state.status in {"removed", "removing", "restarted", ANOTHERS}:
        return "removed" if state.status == "removing" else state.status
    reason = reaper.ending(state.exit_code)
    by_kernel = state.exit_code == _SIGKILL_STATUS or reason == "server-signal-9"
    if by_kernel and state.oom_killed and _just_then(state, shortage):
        return "oom_killed"
    return "killed" if state.exit_code == _SIGKILL_STATUS else reason


def _just_then(state: State, shortage: Shortage | None) -> bool:
    """Return whether the last want of memory can have been the end: the engine's mark stays from an earlier one too."""
    if shortage is None or not shortage.count:
        return True
    finished = moment_of(state.finished_at)
    return not finished or finished + 10**9 - shortage.last_nanoseconds < SHORTAGE_NANOSECONDS


def moment_of(written: str) -> int:
    """Return a time as the engine writes it, in Unix nanoseconds, rounded down to a second; 0 where it is none."""
    try:
        # The engine writes nanoseconds, which Python's own parser does not take.
        return int(datetime.datetime.fromisoformat(written[:19] + "+00:00").timestamp()) * 10**9
    except ValueError:
        return 0


class DockerSandbox:
    """A container that runs.

    Args:
        life: Its run.
        boot_id: Of the machine that it runs on; empty where that is not known.
        shortage: What is known of its want of memory.
        stillness: Tells that somebody may have paused it.
        socket_directory: Where its server was told who it is; None where nothing of that is on this host.
        phases: How long the parts of its start took.
        image_digest: What its image's name stood for.
    """

    def __init__(
        self,
        life: Life,
        *,
        boot_id: str,
        shortage: Shortage,
        stillness: Stillness,
        socket_directory: str | None,
        phases: dict[str, float] | None = None,
        image_digest: str | None = None,
    ) -> None:
        self._life = life
        self._boot_id = boot_id
        self._shortage = shortage
        self._stillness = stillness
        self._kills = KernelKills(life.process if boot_id else 0, life.container)
        self._socket_directory = socket_directory
        self._phases = phases or {}
        self._image_digest = image_digest
        self._reason = ""

    @property
    def handle(self) -> Handle:
        """Container, run and engine, and the boot of a machine that is this one."""
        return {
            "container": self._life.container,
            "started_at": self._life.started_at,
            "engine": self._life.engine_id,
            "boot_id": self._boot_id,
        }

    @property
    def phases(self) -> dict[str, float]:
        """Seconds of `pull`, `network`, `create`, `start` and `inspect`; empty for one found again."""
        return self._phases

    @property
    def image_digest(self) -> str | None:
        """What brings back the same image."""
        return self._image_digest

    async def greeted(self) -> None:
        """Destroy what its server was told at its start; see `Sandbox.greeted`."""
        if self._socket_directory is None:
            return
        try:
            await anyio.to_thread.run_sync(premises.untell, self._socket_directory)
        except OSError as error:
            raise SandboxError(f"The sandbox's settings cannot be removed: {error.strerror}") from error

    async def wait_ended(self) -> str:
        """Return why it ended once the engine proves that it has; outlasts restarts of the engine.

        Reasons: `ended`, `terminated`, `server-signal-N`, `server-exit-N` (the action server's end), `killed`,
        `killed-signal-N` (somebody ended the container), `oom_killed`, `removed`, `restarted`.
        """
        wait, complained = RETRY_SECONDS_MIN, anyio.current_time()
        while not self._reason:
            try:
                await self._life.engine.wait(self._life.container)
                wait = RETRY_SECONDS_MIN
            except (EngineRefused, EngineUnreachable):
                # It says nothing of the container: the engine may be on its way back.
                pass
            try:
                if await self._conclude():
                    break
            except SandboxUnreachable as error:
                if anyio.current_time() - complained > COMPLAIN_SECONDS:
                    complained = anyio.current_time()
                    _log.warning("sandbox_unreachable", container=self._life.container, detail=error.detail)
            await anyio.sleep(wait)
            wait = min(2 * wait, RETRY_SECONDS_MAX)
        return self._reason

    async def kill(self) -> int:
        """Kill the container, all its processes at once; see `Sandbox.kill`. It counts as one.

        What is left of the container stays, for its last words, until `Runtime.remove`.
        """
        deadline = anyio.current_time() + END_SECONDS
        wait, killed, trouble = RETRY_SECONDS_MIN, 0, ""
        while True:
            try:
                if await self._conclude():
                    return killed
                if await self._life.engine.kill(self._life.container):
                    killed = 1
                with anyio.move_on_after(1.0):
                    await self._life.engine.wait(self._life.container)
                if await self._conclude():
                    return killed
            except (EngineRefused, SandboxUnreachable) as error:
                trouble = error.detail
            if anyio.current_time() > deadline:
                raise SandboxUnreachable(
                    f"Container {self._life.container[:12]} could not be proven dead in {END_SECONDS:g} s: {trouble}"
                )
            await anyio.sleep(wait)
            wait = min(2 * wait, RETRY_SECONDS_MAX)

    async def _conclude(self) -> bool:
        """Return whether it is proven over; from then on the reason stands. Raises as `Life.ended`."""
        if not self._reason:
            state = await self._life.ended()
            if state is None:
                return False
            if state.status == "restarted":
                await self._remove_restarted()
            self._reason = self._reason or ending_of(state, self._shortage)
        return True

    async def _remove_restarted(self) -> None:
        try:
            await self._life.engine.remove(self._life.container)
        except EngineRefused as error:
            raise SandboxUnreachable(f"Somebody started it again, and it cannot be removed: {error.detail}") from error

    async def pause(self) -> None:
        """Freeze every process of it; see `Sandbox.pause`."""
        await self._freeze(frozen=True)

    async def resume(self) -> None:
        """Let it go on; see `Sandbox.resume`."""
        await self._freeze(frozen=False)

    async def _freeze(self, *, frozen: bool) -> None:
        engine, container = self._life.engine, self._life.container
        refusal = "the engine did it, and undid it"
        for _ in range(2):
            found = await engine.inspect(container)
            if found is None or not found.state.running:
                raise SandboxError("It does not run: it cannot be paused or resumed.")
            if found.state.paused == frozen:
                return
            try:
                await (engine.pause(container) if frozen else engine.unpause(container))
                return
            except EngineRefused as error:
                # Somebody else may have been faster.
                refusal = error.detail
        raise SandboxError(f"It could not be paused or resumed: {refusal}")

    async def wait_moved(self) -> None:
        """Return when the engine tells of a pause or its end, or may have missed telling; see `Sandbox.wait_moved`."""
        await self._stillness.hinted()

    async def stands_still(self) -> bool:
        """Return what the engine says; see `Sandbox.stands_still`."""
        try:
            found = await self._life.engine.inspect(self._life.container)
        except EngineRefused as error:
            raise SandboxUnreachable(f"The engine cannot tell whether it stands still: {error.detail}") from error
        return found is not None and found.state.running and found.state.paused

    def memory_mark(self) -> MemoryMark:
        """Return the present moment, with the kernel's count where it can be read; see `Sandbox.memory_mark`."""
        return MemoryMark(time.time_ns(), self._kills.read())

    async def ran_out_of_memory(self, since: MemoryMark) -> bool:
        """Return what the kernel's count says, else the engine's notices; see `Sandbox.ran_out_of_memory`.

        Without any notice the mark counts that the engine sets once for all of a container's life.
        """
        kills = self._kills.read()
        if kills is not None and (since.kills is not None or not kills):
            return kills > (since.kills or 0)
        with anyio.move_on_after(NOTICE_SECONDS):
            await self._shortage.after(since.nanoseconds)
        if self._shortage.count:
            return self._shortage.last_nanoseconds > since.nanoseconds
        try:
            found = await self._life.engine.inspect(self._life.container)
        except (EngineRefused, EngineUnreachable):
            return False
        return found is not None and found.state.oom_killed
