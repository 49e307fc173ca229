"""A session with a container, through the daemon's API, and that container as somebody from outside reaches it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from tests.crash.victims import children_of, start_ticks
from tests.engine.fixture import Engine
from tests.integration.daemon.process import DaemonProcess, until

__all__ = ["Session"]

END_SECONDS = 30.0


class Session:
    """One session of a daemon.

    Args:
        daemon: Its daemon.
        engine: The engine of its sandboxes.
        name: Its name.
    """

    def __init__(self, daemon: DaemonProcess, engine: Engine, name: str) -> None:
        self.daemon = daemon
        self.name = name
        self.path = f"/v1/sessions/{name}"
        self._engine = engine

    @classmethod
    async def create(cls, daemon: DaemonProcess, engine: Engine, name: str = "s", **asked: Any) -> Session:
        """Create it."""
        answer = await daemon.post("/v1/sessions", {"session": name, **asked})
        assert answer.status == 201, answer
        return cls(daemon, engine, name)

    async def docker(self, *words: str) -> str:
        """Run the engine's own client."""
        return await asyncio.to_thread(self._engine, *words)

    # -- actions ---------------------------------------------------------------------------------------------------

    async def submit(self, command: str, lane: str = "main", **payload: Any) -> str:
        """Submit a command; return its id."""
        body = {"kind": "run", "lane": lane, "payload": {"command": command, **payload}}
        answer = await self.daemon.post(f"{self.path}/actions", body)
        assert answer.status == 202, answer
        return str(answer.json["action"]["id"])

    async def begin(self, command: str, lane: str = "main") -> str:
        """Submit a command and return its id once it runs in the sandbox: it has printed what it begins with."""
        action = await self.submit(f"echo begun; {command}", lane)

        async def begun() -> bool:
            found = (await self.daemon.get(f"{self.path}/actions/{action}")).json
            assert "observation" not in found, found
            async with self.daemon.client.get(f"http://daemon{self.path}/actions/{action}/output") as response:
                if response.status == 200:
                    async with asyncio.timeout(END_SECONDS):
                        return b"begun" in await response.content.readany()
            return False

        try:
            await until(begun, END_SECONDS)
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(f"{action} did not begin: {await self.story()}") from error
        return action

    async def ended(self, action: str, seconds: float = END_SECONDS) -> dict[str, Any]:
        """Wait for an action's end; return the payload of its terminal observation."""
        found: dict[str, Any] = {}

        async def over() -> bool:
            nonlocal found
            answer = (await self.daemon.get(f"{self.path}/actions/{action}")).json
            found = answer.get("observation", {}).get("payload", {})
            return bool(found)

        await until(over, seconds)
        return found

    async def run(self, command: str, lane: str = "main", **payload: Any) -> dict[str, Any]:
        """Submit a command and wait for its end."""
        return await self.ended(await self.submit(command, lane, **payload))

    async def story(self) -> str:
        """Return all that can be told of the session: its log, its containers, and what daemon and engine said."""
        found = await self.daemon.events(f"{self.path}/events")
        events = [(each["kind"], each["time"], each["payload"]) for each in found]
        containers = await self.docker("ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Status}} {{.Labels}}")
        return f"{events}\n{containers}\n{self.daemon.log_text()}"

    # -- what the log says -----------------------------------------------------------------------------------------

    async def told(self, *kinds: str) -> list[dict[str, Any]]:
        """Return the session's events of these kinds."""
        return [event for event in await self.daemon.events(f"{self.path}/events") if event["kind"] in kinds]

    async def tells(self, kind: str, count: int = 1, seconds: float = END_SECONDS) -> dict[str, Any]:
        """Wait until the log has so many events of the kind; return the last one's payload."""

        async def there() -> bool:
            return len(await self.told(kind)) >= count

        await until(there, seconds)
        found: dict[str, Any] = (await self.told(kind))[-1]["payload"]
        return found

    async def generations(self) -> list[str]:
        """Return its generations so far."""
        return [event["payload"]["generation"] for event in await self.told("generation_started")]

    # -- its container ---------------------------------------------------------------------------------------------

    async def container(self) -> str:
        """Return the id of its newest container."""
        return str((await self.told("generation_started"))[-1]["payload"]["handle"]["container"])

    async def state(self) -> str:
        """Return how its newest container is, as the engine tells; `gone` when it is not there."""
        words = ("ps", "--all", "--no-trunc", "--filter", f"id={await self.container()}", "--format", "{{.State}}")
        return await self.docker(*words) or "gone"

    async def is_gone(self, seconds: float = END_SECONDS) -> None:
        """Wait until its container is not there."""

        async def gone() -> bool:
            return await self.state() == "gone"

        await until(gone, seconds)

    async def process(self, which: str) -> int:
        """Return the host's id of a process of its container: `init` (the first), `reaper` or `server`."""
        init = int(await self.docker("inspect", "--format", "{{.State.Pid}}", await self.container()))
        if which == "init":
            return init
        (reaper,) = children_of(init)
        return reaper if which == "reaper" else min(children_of(reaper), key=start_ticks)

    async def kill_process(self, which: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to that process, from the host."""
        os.kill(await self.process(which), number)

    async def offer_to_kernel(self, which: str) -> None:
        """Have the kernel rather take this process than any other of the container when it wants memory."""
        process = await self.process(which)
        await asyncio.to_thread(Path(f"/proc/{process}/oom_score_adj").write_text, "1000")
