"""Networks and images of sessions, through a whole daemon with its engine."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.engine.fixture import DEBIAN
from tests.integration.daemon.process import Answer, DaemonProcess
from tests.integration.docker.host import docker
from tests.integration.network.place import Internet
from tests.stream_server import stream_server

from chronicled.daemon.containers import instance_label

pytestmark = pytest.mark.usefixtures("engine", "carrier")


class Served:
    """A daemon whose policy `web` lets a server on this machine's loopback through, by its name."""

    def __init__(self, daemon: DaemonProcess, internet: Internet) -> None:
        self.daemon = daemon
        self.internet = internet

    async def session(self, name: str, network: str) -> Answer:
        """Create a session under a policy."""
        body = {"session": name, "runtime": "docker", "image": DEBIAN, "sandbox": {"network": network}}
        return await self.daemon.post("/v1/sessions", body)

    async def run(self, session: str, command: str) -> dict[str, Any]:
        """Return the payload of a command's observation."""
        action = {"kind": "run", "payload": {"command": command}}
        answer = await self.daemon.post(f"/v1/sessions/{session}/actions", action, headers={"Prefer": "wait=60"})
        assert answer.status == 200, answer
        payload: dict[str, Any] = answer.json["observation"]["payload"]
        return payload

    async def denials(self, session: str, count: int) -> list[dict[str, Any]]:
        """Return what was denied, once that many tries are in the session's stream."""
        async with asyncio.timeout(20):
            while True:
                events = await self.daemon.events(f"/v1/sessions/{session}/events", "kind=network_denied")
                payloads: list[dict[str, Any]] = [event["payload"] for event in events]
                if sum(each["count"] for each in payloads) >= count:
                    return payloads


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """A daemon with policies, and what stands for the internet."""
    internet = Internet()
    folder = tmp_path / "config/chronicled"
    folder.mkdir(parents=True)
    (tmp_path / "d").mkdir()
    daemon = DaemonProcess(tmp_path / "d", environment={"XDG_CONFIG_HOME": str(tmp_path / "config")})
    async with stream_server(internet.serve) as internet.port:
        policy = f'allow = ["localhost:{internet.port}"]\nprivate_networks = ["127.0.0.0/8"]\n'
        (folder / "config.toml").write_text(f"[network.policies.web]\n{policy}")
        yield Served(await daemon.start(), internet)
        await daemon.aclose()
    # The daemon would remove its bridge with the next sweep, a minute later.
    instance = json.loads((daemon.data / "instance.json").read_text())["instance"]
    label = f"label=chronicled.instance={instance_label(instance, str(daemon.data))}"
    for network in docker("network", "ls", "-q", "-f", label).split():
        docker("network", "rm", network)


async def test_a_session_reaches_what_its_policy_lists(served: Served) -> None:
    """What is listed answers, what is refused stands in the stream, and a kill -9 of the daemon changes neither."""
    assert (await served.session("s", "web")).status == 201
    # Without the exception for loopback names, as any other host would be asked for.
    ask = f"NO_PROXY= no_proxy= curl -sS --max-time 10 http://localhost:{served.internet.port}/"
    found = await served.run("s", ask)
    assert (found["exit_code"], found["output"]) == (0, "hello from outside\n")
    await served.run(
        "s", "echo kept > file; curl -s http://denied.example/ http://denied.example/ https://other.example/"
    )
    denied = await served.denials("s", 3)
    # Told in one event or in several, as they came.
    told = Counter[tuple[str, str, int, str]]()
    for each in denied:
        told[each["policy"], each["host"], each["port"], each["reason"]] += each["count"]
    assert told == {("web", "denied.example", 80, "not_allowed"): 2, ("web", "other.example", 443, "not_allowed"): 1}
    await served.daemon.kill()
    await served.daemon.disconnect()
    await served.daemon.start()
    found = await served.run("s", f"cat file; {ask}")
    assert (found["exit_code"], found["output"]) == (0, "kept\nhello from outside\n")


async def test_a_session_without_a_policy_has_no_network(served: Served) -> None:
    """`none` has a loopback and nothing else, `open` a route, and an unknown policy is refused by name."""
    assert (await served.session("n", "none")).status == 201
    found = await served.run("n", "ls /sys/class/net; env | grep -ci proxy")
    assert found["output"] == "lo\n0\n"
    assert (await served.session("o", "open")).status == 201
    found = await served.run("o", "ls /sys/class/net; ip route | wc -l")
    assert found["output"] == "eth0\nlo\n2\n"
    refused = await served.session("x", "elsewhere")
    assert refused.status == 422
    assert "elsewhere" in refused.json["detail"]
    assert served.internet.received == []
