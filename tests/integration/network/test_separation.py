"""Sandboxes do not reach each other, whatever their policy."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.integration.docker.host import docker
from tests.integration.network.place import Commands, open_place

from chronicled.events.errors import SandboxStartFailed
from chronicled.events.sandbox import SandboxRequest
from chronicled.runtimes.testing import make_spec

pytestmark = pytest.mark.usefixtures("engine", "carrier")

SERVER = "import socket; s=socket.create_server(('0.0.0.0', 9999)); s.accept()"
LISTEN = f'(python3 -c "{SERVER}" &); until grep -q ":270F 00000000:0000 0A " /proc/net/tcp; do :; done'
"""Returns once it listens (0A): a connection of before is still in the table for a while."""


def address_of(container: str) -> str:
    """Return the container's address on whatever network it is in."""
    networks = json.loads(docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", container))
    return str(next(iter(networks.values()))["IPAddress"])


async def reaches(shell: Commands, address: str, port: int = 9999) -> bool:
    """Tell whether the sandbox can connect to an address."""
    code, _ = await shell.run(f"timeout 3 bash -c 'echo > /dev/tcp/{address}/{port}'")
    return code == 0


async def test_open_sandboxes_reach_the_network_and_not_each_other(tmp_path: Path) -> None:
    """Two sandboxes under `open` have a route out and no way to each other; on a network without that rule they do."""
    async with open_place(tmp_path) as place, place.sandbox("open") as one, place.sandbox("open") as other:
        await one.run(LISTEN)
        address = address_of(one.container)
        assert (await other.run("ls /sys/class/net"))[1].split() == ["eth0", "lo"]
        assert await reaches(one, "127.0.0.1")
        await one.run(LISTEN)
        assert not await reaches(other, address)
        # Negative control: the same two on a bridge where containers may speak to each other.
        name = f"chronicled-test-{place.runtime.instance}"
        docker("network", "create", name)
        try:
            for shell in (one, other):
                docker("network", "connect", name, shell.container)
            networks = json.loads(docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", one.container))
            assert await reaches(other, networks[name]["IPAddress"])
        finally:
            for shell in (one, other):
                docker("network", "disconnect", "-f", name, shell.container)
            docker("network", "rm", name)


async def test_the_open_bridge_goes_with_the_last_sandbox(tmp_path: Path) -> None:
    """The bridge is made once, carries the instance's label, and is swept away when no sandbox is left."""
    async with open_place(tmp_path) as place:
        label = f"label=chronicled.instance={place.runtime.instance}"
        async with place.sandbox("open") as shell:
            assert len(docker("network", "ls", "-q", "-f", label).split()) == 1
            await place.runtime.sweep((shell.sandbox,), head=1 << 62)
            assert len(docker("network", "ls", "-q", "-f", label).split()) == 1
        await place.runtime.sweep((), head=1 << 62)
        assert docker("network", "ls", "-q", "-f", label) == ""


@pytest.mark.parametrize("of_ours", [True, False], ids=["joined up", "a stranger's"])
async def test_a_bridge_that_is_not_as_it_was_made_is_not_used(tmp_path: Path, of_ours: bool) -> None:
    """A network of that name over which sandboxes reach each other, or that somebody else has made, is refused."""
    async with open_place(tmp_path) as place:
        instance = place.runtime.instance
        labels = [f"--label=chronicled.instance={instance}", "--label=chronicled.network=open"]
        apart = ["--opt=com.docker.network.bridge.enable_icc=false"]
        name = f"chronicled-open-{instance}"[:63]
        docker("network", "create", *(labels if of_ours else apart), name)
        try:
            with pytest.raises(SandboxStartFailed, match=f"network: {name} is there, and not as it was made"):
                await place.runtime.start(make_spec(tmp_path, request=SandboxRequest(network="open")))
        finally:
            docker("network", "rm", name)


async def test_a_sweep_takes_the_bridge_from_nobody_who_comes(tmp_path: Path) -> None:
    """A sandbox that becomes known while the sweep is at it finds the bridge, or makes another."""
    async with open_place(tmp_path) as place:
        async with place.sandbox("open"):
            pass
        policy = place.runtime.networks["open"]
        known: set[str] = set()
        spec = make_spec(tmp_path, request=SandboxRequest(network="open"))

        async def come() -> str:
            known.add(spec.sandbox)
            return (await policy.prepare(spec)).mode

        for _ in range(5):
            known.clear()
            sweeping = asyncio.create_task(policy.sweep(known, 1))
            name, _ = await asyncio.gather(come(), sweeping)
            assert docker("network", "ls", "-q", "-f", f"name={name}")
