"""Network policies: `none`, `open`, and allow lists by name.

A sandbox under an allow list has no network at all, as under `none`: nothing but the loopback of its own. What it may
reach it reaches over a proxy outside, through a Unix socket in the directory that it shares with the worker. So there
is no route to forget, no firewall to keep, and nothing on the engine to clean up; and it is the same on engines without
root, on others than Docker, and under gVisor.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Final

import aiohttp
import anyio
from aiodocker import DockerError

from chronicled.events.errors import ConfigurationError, SandboxError, SandboxStartFailed
from chronicled.events.kinds.lifecycle import NetworkDenied
from chronicled.runtimes.docker.egress import Egress
from chronicled.runtimes.docker.egress_rules import Rules
from chronicled.runtimes.docker.images_stream import Connect
from chronicled.runtimes.docker.network_policy import NetworkGrant, NetworkPolicy, NoNetwork
from chronicled.runtimes.docker.network_settings import EGRESS_PORT, AllowSettings, NetworkSettings
from chronicled.runtimes.news import News
from chronicled.runtimes.runtime import SandboxSpec

__all__ = ["AllowNetwork", "OpenNetwork", "network_policies", "proxy_environment"]

CALL_SECONDS: Final = 30.0
NONE, OPEN = "none", "open"
APART: Final = "com.docker.network.bridge.enable_icc"


def network_policies(
    settings: NetworkSettings, instance: str, connect: Connect, egress: Egress, news: News
) -> Mapping[str, NetworkPolicy]:
    """Return every policy by its name.

    Args:
        settings: What the operator lists.
        instance: Names what is made on the engine.
        connect: Returns the engine's client.
        egress: Where proxies run.
        news: Takes what was denied.

    Raises:
        ConfigurationError: a policy's name is taken, or an entry is not understood.
    """
    policies: dict[str, NetworkPolicy] = {NONE: NoNetwork()}
    if settings.open_offered:
        policies[OPEN] = OpenNetwork(instance, connect)
    for name, allowed in settings.policies.items():
        if name in {NONE, OPEN}:
            raise ConfigurationError(f"A network policy cannot be called {name!r}: that one is built in.")
        policies[name] = AllowNetwork(name, allowed, egress, news)
    return policies


def proxy_environment(port: int) -> dict[str, str]:
    """Return the variables by which commands find the proxy: each in both cases, since programs differ."""
    proxy, direct = f"http://127.0.0.1:{port}", "localhost,127.0.0.1,::1"
    found = {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "NO_PROXY": direct}
    # Node's own fetch reads none of them unless it is told to.
    return {**found, **{name.lower(): value for name, value in found.items()}, "NODE_USE_ENV_PROXY": "1"}


class AllowNetwork:
    """An allow list.

    Args:
        name: What sessions call it.
        settings: What it lets through.
        egress: Where its proxies run.
        news: Takes what was denied.

    Raises:
        ConfigurationError: an entry is not understood.
    """

    def __init__(self, name: str, settings: AllowSettings, egress: Egress, news: News) -> None:
        self.name = name
        self._settings = settings
        self._rules = Rules(settings.allow, settings.private_networks)
        self._egress = egress
        self._news = news
        self._sandboxes: set[str] = set()

    async def prepare(self, spec: SandboxSpec) -> NetworkGrant:
        """Start the sandbox's proxy; see `NetworkPolicy.prepare`."""
        await self.resume(spec)
        return NetworkGrant(
            mode="none", networks=("none",), environment=proxy_environment(EGRESS_PORT), egress_port=EGRESS_PORT
        )

    async def resume(self, spec: SandboxSpec) -> None:
        """Start the proxy of a sandbox that was found again; see `NetworkPolicy.resume`."""
        tell = partial(self._tell, spec.sandbox)
        await self._egress.open(spec.sandbox, spec.socket_directory, self.name, self._settings, self._rules, tell)
        self._sandboxes.add(spec.sandbox)

    async def attach(self, spec: SandboxSpec, container: str) -> None:
        """There is nothing to connect."""

    async def release(self, sandbox: str) -> None:
        """End the sandbox's proxy."""
        self._sandboxes.discard(sandbox)
        await self._egress.close(sandbox)

    async def sweep(self, known: Collection[str], head: int) -> None:
        """End the proxies of sandboxes that are not known any more."""
        for sandbox in self._sandboxes.difference(known):
            await self.release(sandbox)

    async def _tell(self, sandbox: str, denied: NetworkDenied) -> None:
        await self._news.tell(sandbox, "network_denied", denied)


class OpenNetwork:
    """`open`: a bridge of this instance's own, over which sandboxes do not reach each other.

    What it does not stop: whatever this host can reach, its own addresses, its private networks and a cloud's metadata
    service among them. It is for sandboxes that are trusted with that.
    """

    name = OPEN

    def __init__(self, instance: str, connect: Connect) -> None:
        self._network = f"chronicled-open-{instance}"[:63]
        self._labels = {"chronicled.instance": instance, "chronicled.network": OPEN}
        self._connect = connect
        self._making = anyio.Lock()

    async def prepare(self, spec: SandboxSpec) -> NetworkGrant:
        """Make the bridge where it is not there."""
        async with self._making:
            try:
                with anyio.fail_after(CALL_SECONDS):
                    await self._ensure()
            except (DockerError, aiohttp.ClientError, OSError) as error:
                raise SandboxStartFailed(f"network: the bridge cannot be made: {error}") from None
        return NetworkGrant(mode=self._network, networks=(self._network,))

    async def _ensure(self) -> None:
        docker = await self._connect()
        networks: Any = docker.networks
        for found in await networks.list(filters={"name": [self._network]}):
            if found["Name"] == self._network:
                self._check(found)
                return
        version: dict[str, Any] = await docker.version()
        components: list[dict[str, Any]] = version.get("Components") or []
        if any("Podman" in str(each.get("Name")) for each in components):
            # It takes the option that keeps sandboxes from each other, and does not heed it.
            raise SandboxStartFailed("network: Podman cannot keep sandboxes from each other on a bridge: use a list.")
        await networks.create(
            {
                "Name": self._network,
                "CheckDuplicate": True,
                "Driver": "bridge",
                "Options": {APART: "false"},
                "Labels": self._labels,
            }
        )

    async def _remove(self) -> None:
        docker = await self._connect()
        networks: Any = docker.networks
        for found in await networks.list(filters={"label": [f"{k}={v}" for k, v in self._labels.items()]}):
            await (await networks.get(found["Id"])).delete()

    def _check(self, found: Mapping[str, Any]) -> None:
        labels: dict[str, str] = found.get("Labels") or {}
        options: dict[str, str] = found.get("Options") or {}
        if not self._labels.items() <= labels.items() or options.get(APART) != "false":
            raise SandboxStartFailed(f"network: {self._network} is there, and not as it was made: remove it.")

    async def resume(self, spec: SandboxSpec) -> None:
        """It is the engine's to keep."""

    async def attach(self, spec: SandboxSpec, container: str) -> None:
        """There is nothing more to connect."""

    async def release(self, sandbox: str) -> None:
        """The bridge is for all sandboxes, and stays."""

    async def sweep(self, known: Collection[str], head: int) -> None:
        """Remove the bridge when there is no sandbox that could be in it."""
        try:
            # Nobody who has just been told that it is there may find it gone: known comes before prepared.
            async with self._making:
                if not known:
                    with anyio.fail_after(CALL_SECONDS):
                        await self._remove()
        except DockerError as error:
            if error.status not in {403, 404, 409}:
                raise SandboxError(f"network: the bridge cannot be removed: {error.message}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise SandboxError(f"network: the bridge cannot be removed: {error}") from None
