"""Settings of network policies: what sandboxes may reach, by a name that sessions use."""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = ["EGRESS_PORT", "AllowSettings", "NetworkSettings"]

EGRESS_PORT = 19128
"""Port on the loopback of a sandbox under which the proxy is reached: below those that the kernel gives out itself."""
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class AllowSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A policy that lets through what it lists, over a proxy, and nothing else."""

    allow: tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=300)], ...]
    """Hosts: `example.org`, `*.example.org` (what is below it), `*` (every public host), an address or a network
    (`10.1.0.0/16`). With ports: `example.org:443`, `host:8000-8100`, `host:*`; without any, 80 and 443."""
    private_networks: tuple[str, ...] = ()
    """Networks that allowed *names* may lead to although they are not public, e.g. `10.0.0.0/8`. Addresses that `allow`
    itself lists need no entry here."""
    connections_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 256
    """Connections of one sandbox at one time."""
    connections_per_second: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100
    """New connections of one sandbox; more wait."""
    bytes_max: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Bytes of one sandbox in all, both ways together; None sets no bound."""
    connect_seconds: Seconds = 15.0
    idle_seconds: Seconds = 600.0
    """A connection over which nothing goes for so long is closed."""


class NetworkSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The policies beside `none`."""

    open_offered: bool = True
    """Whether a session may ask for `open`: the engine's bridge, with the internet and the host's own networks."""
    policies: dict[Name, AllowSettings] = {}
    """By name; `none` and `open` are taken."""
