"""From a host that a policy allows to a connection: resolved once, each address judged, and just that one dialled."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from anyio import CapacityLimiter, to_thread
from anyio.abc import SocketStream

from chronicled.runtimes.docker.egress_address import Address, is_permitted, parse_address
from chronicled.runtimes.docker.egress_denials import Reason
from chronicled.runtimes.docker.egress_rules import Rules

__all__ = ["Denied", "DialFailed", "Resolve", "dial", "system_resolve"]

ADDRESSES_MAX: Final = 8
RESOLVERS_MAX: Final = 16
Resolve = Callable[[str], Awaitable[list[str]]]
"""Returns the addresses of a name; OSError when there are none."""


class Denied(Exception):
    """Raised for what the policy does not allow."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


class DialFailed(Exception):
    """Raised when what is allowed does not answer."""


def system_resolve() -> Resolve:
    """Return a resolver over this machine's own; few look-ups run at one time, however many ask."""
    room = CapacityLimiter(RESOLVERS_MAX)

    async def resolve(name: str) -> list[str]:
        found = await to_thread.run_sync(_look_up, name, abandon_on_cancel=True, limiter=room)
        return list(dict.fromkeys(found))

    return resolve


def _look_up(name: str) -> list[str]:
    try:
        # With a dot at the end the machine's search domains stay out of it.
        found = socket.getaddrinfo(name + ".", None, type=socket.SOCK_STREAM)
    except OSError:
        # What stands in the hosts file stands there without one.
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


async def dial(rules: Rules, host: str, port: int, resolve: Resolve, seconds: float) -> SocketStream:
    """Return a connection to a host that the rules allow.

    What was judged is what is dialled: the name is not resolved a second time, so no answer of a name server can lead
    elsewhere. The name is not even looked up where the rules do not allow it.

    Raises:
        Denied: the rules do not allow the host, or it leads to addresses that are not public.
        DialFailed: it does not answer.
    """
    if not rules.allows(host, port):
        raise Denied("not_allowed")
    with anyio.move_on_after(seconds) as waiting:
        addresses = await _addresses(host, resolve)
        networks = rules.networks(host, port)
        permitted = [address for address in addresses if is_permitted(address, networks)]
        if not permitted:
            raise Denied("private_address")
        for address in permitted:
            try:
                return await anyio.connect_tcp(str(address), port)
            except OSError:
                continue
    raise DialFailed("It did not answer in time." if waiting.cancelled_caught else "It refuses connections.")


async def _addresses(host: str, resolve: Resolve) -> list[Address]:
    literal = parse_address(host)
    if literal is not None:
        return [literal]
    try:
        texts = await resolve(host)
    except OSError:
        raise Denied("unresolved") from None
    parsed = [parse_address(text) for text in texts[:ADDRESSES_MAX] if "%" not in text]
    return [address for address in parsed if address is not None]
