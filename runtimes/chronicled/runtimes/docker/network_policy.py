"""The seam to the networks of sandboxes: what a named policy does for one of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Protocol

import msgspec

from chronicled.events.errors import SandboxStartFailed
from chronicled.runtimes.runtime import SandboxSpec

__all__ = ["NO_NETWORK", "NetworkGrant", "NetworkPolicy", "NoNetwork", "policy_named"]


class NetworkGrant(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy gives to one sandbox; the container is made with it, and compared with it afterwards."""

    mode: str
    """The container's network mode: `none`, or the name of the network that it is made in."""
    networks: tuple[str, ...] = ()
    """Names of all networks that it shall be in once `attach` has returned."""
    environment: dict[str, str] = {}
    """Variables for its commands (`HTTPS_PROXY`, ...); the session's own win."""
    dns: tuple[str, ...] = ()
    hosts: dict[str, str] = {}
    """Addresses by name, for its `/etc/hosts`."""
    egress_port: int = 0
    """Port of its loopback that leads to `egress.sock` beside the worker's socket; 0 for none."""


NO_NETWORK: Final = NetworkGrant(mode="none", networks=("none",))


class NetworkPolicy(Protocol):
    """A named policy, e.g. `none`, `allow`, `open`."""

    @property
    def name(self) -> str:
        """What sessions call it."""
        ...

    async def prepare(self, spec: SandboxSpec) -> NetworkGrant:
        """Make what the sandbox's network needs, before its container.

        Raises:
            SandboxStartFailed: it cannot be given; nothing of it is left.
            EngineUnreachable: the engine does not answer.
        """
        ...

    async def resume(self, spec: SandboxSpec) -> None:
        """Take care again of the network of a sandbox that another worker had and that was found alive. Idempotent.

        Raises:
            SandboxStartFailed: it cannot be given; the sandbox lives on without.
        """
        ...

    async def attach(self, spec: SandboxSpec, container: str) -> None:
        """Connect the container, made and not yet started, to what `mode` does not cover. Raises as `prepare`."""
        ...

    async def release(self, sandbox: str) -> None:
        """Remove what the sandbox had. Its container is gone. Idempotent; it may never have had anything.

        Raises:
            SandboxError: something of it is left.
        """
        ...

    async def sweep(self, known: Collection[str], head: int) -> None:
        """Remove what sandboxes of this instance had that are neither known nor above the log's head.

        Raises:
            SandboxError: something of it is left.
        """
        ...


class NoNetwork:
    """`none`: only the loopback of its own."""

    name = "none"

    async def prepare(self, spec: SandboxSpec) -> NetworkGrant:
        """There is nothing to make."""
        return NO_NETWORK

    async def resume(self, spec: SandboxSpec) -> None:
        """There is nothing to take care of."""

    async def attach(self, spec: SandboxSpec, container: str) -> None:
        """There is nothing to connect."""

    async def release(self, sandbox: str) -> None:
        """There is nothing to remove."""

    async def sweep(self, known: Collection[str], head: int) -> None:
        """There is nothing to remove."""


def policy_named(policies: Mapping[str, NetworkPolicy], name: str) -> NetworkPolicy:
    """Return the policy.

    Raises:
        SandboxStartFailed: there is none of this name.
    """
    try:
        return policies[name]
    except KeyError:
        raise SandboxStartFailed(f"network: there is no policy {name!r} here, but {', '.join(policies)}") from None
