"""A whole daemon over an engine that is not the usual one, and sessions on it, spoken to as a client does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from tests.integration.action_server.shell_cases import CASES, PLACES, PROGRAMS, needs
from tests.integration.action_server.steps import Step
from tests.integration.daemon.process import Answer, DaemonProcess, until

from chronicled.daemon.containers import instance_label

__all__ = ["INSTANCE", "Served", "Session", "closed", "open_daemon", "play", "play_all"]

INSTANCE: Final = "chronicled.instance"
WAIT_SECONDS: Final = 60
LANES_AT_ONCE: Final = 3
_OF_PROCESSES: Final = frozenset({"nothing of the daemon's environment"})
"""Cases of what only the process runtime has: a home of the sandbox's own."""


class Served:
    """A daemon, and where its engine is.

    Args:
        daemon: The process.
        host: Address of the engine.
    """

    def __init__(self, daemon: DaemonProcess, host: str) -> None:
        self.daemon = daemon
        self.host = host

    async def ask(self, image: str, sandbox: Mapping[str, Any] | None = None, **more: Any) -> Answer:
        """Ask for a session."""
        body = {"runtime": "docker", "image": image, "sandbox": dict(sandbox or {}), **more}
        return await self.daemon.post("/v1/sessions", body)

    async def session(self, image: str, sandbox: Mapping[str, Any] | None = None, **more: Any) -> Session:
        """Create a session."""
        answer = await self.ask(image, sandbox, **more)
        assert answer.status == 201, answer
        return Session(self.daemon, answer.json["session"])

    @property
    def label(self) -> str:
        """What this instance's containers are known by."""
        instance = json.loads((self.daemon.data / "instance.json").read_text())["instance"]
        return f"{INSTANCE}={instance_label(instance, str(self.daemon.data))}"

    async def restart(self) -> None:
        """End the daemon with SIGKILL and start it again."""
        await self.daemon.kill()
        await self.daemon.disconnect()
        await self.daemon.start()


class Session:
    """One session.

    Args:
        daemon: Whose.
        name: Its name.
    """

    def __init__(self, daemon: DaemonProcess, name: str) -> None:
        self.daemon = daemon
        self.name = name
        self.path = f"/v1/sessions/{name}"

    async def act(self, kind: str, payload: Mapping[str, Any], lane: str = "main") -> dict[str, Any]:
        """Run an action to its end and return the observation's payload, with the action's id as `action`."""
        body = {"kind": kind, "payload": dict(payload), "lane": lane}
        answer = await self.daemon.post(f"{self.path}/actions", body, headers={"Prefer": f"wait={WAIT_SECONDS}"})
        assert answer.status == 200, answer
        found: dict[str, Any] = answer.json["observation"]["payload"]
        return found | {"action": answer.json["action"]["id"]}

    async def run(self, command: str, lane: str = "main", **options: Any) -> dict[str, Any]:
        """Run a command to its end; as `act`."""
        return await self.act("run", {"command": command, **options}, lane)

    async def output(self, action: str) -> bytes:
        """Return all that an action printed."""
        answer = await self.daemon.get(f"{self.path}/actions/{action}/output")
        assert answer.status == 200, answer
        return answer.data

    async def begin(self, command: str, lane: str = "main", **options: Any) -> str:
        """Submit a command and return its id once it runs."""
        body = {"kind": "run", "payload": {"command": command, **options}, "lane": lane}
        answer = await self.daemon.post(f"{self.path}/actions", body)
        assert answer.status == 202, answer
        action: str = answer.json["action"]["id"]

        async def runs() -> bool:
            return await self.status(action) != "queued"

        await until(runs)
        return action

    async def status(self, action: str) -> str:
        """Return the status of an action."""
        found: str = (await self.daemon.get(f"{self.path}/actions/{action}")).json["status"]
        return found

    async def ended(self, action: str, seconds_max: float = 20.0) -> dict[str, Any]:
        """Return the observation's payload of an action once it has ended."""

        async def over() -> bool:
            return await self.status(action) not in {"queued", "running"}

        await until(over, seconds_max)
        view = (await self.daemon.get(f"{self.path}/actions/{action}")).json
        payload: dict[str, Any] = view["observation"]["payload"]
        return payload

    async def ask(self, word: str) -> None:
        """Ask for a pause, a resumption, a restart."""
        answer = await self.daemon.post(f"{self.path}/{word}")
        assert answer.status == 202, answer

    async def close(self) -> None:
        """Close it."""
        assert (await self.daemon.call("DELETE", self.path)).status in {200, 202, 204}

    async def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the payloads of its events of a kind."""
        return [event["payload"] for event in await self.daemon.events(f"{self.path}/events", f"kind={kind}")]

    async def container(self) -> str:
        """Return the name of its sandbox's container."""
        started = await self.daemon.events(f"{self.path}/events", "kind=generation_started")
        sandbox: str = started[-1]["payload"]["sandbox"]
        return sandbox


@asynccontextmanager
async def open_daemon(directory: Path, host: str, **docker: str) -> AsyncGenerator[Served]:
    """Run a daemon whose engine is at `host`, with these settings of `docker`; its sessions are closed at the end."""
    settings = [f"docker.{name}={value}" for name, value in docker.items()]
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    daemon = DaemonProcess(directory, f"docker.host={host}", *settings)
    try:
        yield Served(await daemon.start(), host)
    finally:
        await daemon.aclose()


async def play(session: Session, case: str, lane: str) -> None:
    """Run a case of the shell table in a lane; fail where a command ends otherwise than it must."""
    for step in CASES[case]:
        found = await session.run(step.command, lane, **step.options)
        _judge(case, step, found, await session.output(found["action"]))


def _judge(case: str, step: Step, found: Mapping[str, Any], output: bytes) -> None:
    told = (case, step.command[:80], {name: found[name] for name in found if name != "output"}, output[-300:])
    if isinstance(step.output, bytes):
        assert output == step.output, told
    else:
        assert step.output.fullmatch(output), told
    if step.code is None:
        assert (found["outcome"], found["signal"], found["effects"]) == ("killed", 9, "possible"), told
    elif step.code >= 0:
        assert found["exit_code"] == step.code, told
        assert found["outcome"] == ("ok" if step.code == 0 else "failed"), told
        assert found["effects"] == "complete", told
        assert found["terminal_restarted"] is step.restarted, told


async def play_all(session: Session, without: Collection[str] = (), every: int = 1) -> int:
    """Run the cases whose programs the sandbox has, each in a lane of its own; return how many.

    Args:
        session: Created with FROM_SESSION=yes in its environment.
        without: Cases that are left out.
        every: Only each n-th case.
    """
    asked = (
        f"for p in {PROGRAMS}; do type -P $p >/dev/null && echo $p; done;"
        f" for p in {' '.join(PLACES)} /bin/kill /bin/true; do [ -d $p -o -x $p ] && echo $p; done;"
        " (: </dev/tty) 2>/dev/null && echo /dev/tty; timeout --version 2>&1 | grep -q coreutils && echo gnu"
    )
    offered = {"hints", *(await session.run(asked, "offer"))["output"].split()}
    cases = [case for case in CASES if needs(case) <= offered and case not in {*without, *_OF_PROCESSES}][::every]
    gate = asyncio.Semaphore(LANES_AT_ONCE)
    wrong: list[str] = []

    async def one(number: int, case: str) -> None:
        async with gate:
            try:
                await play(session, case, f"case-{number}")
            except AssertionError as error:
                wrong.append(str(error))

    async with asyncio.TaskGroup() as tasks:
        for number, case in enumerate(cases):
            tasks.create_task(one(number, case))
    assert not wrong, "\n".join(wrong)
    return len(cases)


async def closed(served: Served, session: Session, seconds_max: float = 20.0) -> None:
    """Close a session and return when nothing of it is left to do."""
    await session.close()

    async def over() -> bool:
        return await served.daemon.metric("sessions_unfinished") == 0

    await until(over, seconds_max)
