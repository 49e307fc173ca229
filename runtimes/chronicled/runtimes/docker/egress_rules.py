"""Rules of an allow list: hosts by name, by what is below a name, by address or network, each with its ports."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

import msgspec

from chronicled.events.errors import ConfigurationError
from chronicled.runtimes.docker.egress_address import BadHost, Network, normal_host, parse_address

__all__ = ["Rule", "Rules", "parse_rule"]

PORTS_DEFAULT: Final = ((80, 80), (443, 443))


class Rule(msgspec.Struct, frozen=True):
    """One entry. Exactly one of name, suffix, network is set, or none of them: every host."""

    ports: tuple[tuple[int, int], ...]
    name: str | None = None
    suffix: str | None = None
    """`.example.com` for `*.example.com`."""
    network: Network | None = None

    def covers(self, host: str, port: int) -> bool:
        """Tell whether a host in its normal form, at that port, is what the rule names."""
        if not any(first <= port <= last for first, last in self.ports):
            return False
        if self.name is not None:
            return host == self.name
        if self.suffix is not None:
            return host.endswith(self.suffix)
        if self.network is not None:
            address = parse_address(host)
            return address is not None and address in self.network
        return True


class Rules:
    """An allow list.

    Args:
        texts: Its entries as configured.
        private: Networks that names may lead to although they are not public.

    Raises:
        ConfigurationError: an entry is not understood; says which.
    """

    def __init__(self, texts: Sequence[str], private: Sequence[str] = ()) -> None:
        self._rules = [parse_rule(text) for text in texts]
        self._private = [_network(text) for text in private]

    def allows(self, host: str, port: int) -> bool:
        """Tell whether a host in its normal form may be reached at that port, as far as its name tells."""
        return any(rule.covers(host, port) for rule in self._rules)

    def is_address(self, host: str) -> bool:
        """Tell whether the host is an address, so that a rule that allows it trusts whatever answers there."""
        return parse_address(host) is not None

    def networks(self, host: str, port: int) -> list[Network]:
        """Return the networks, beside the public ones, that this host may lead to."""
        listed = [rule.network for rule in self._rules if rule.network is not None and rule.covers(host, port)]
        return listed if parse_address(host) is not None else list(self._private)


def parse_rule(text: str) -> Rule:
    """Return what an entry means.

    Raises:
        ConfigurationError: it is not understood.
    """
    host, ports = _split(text)
    try:
        if host == "*":
            return Rule(ports)
        if host.startswith("*."):
            return Rule(ports, suffix="." + normal_host(host[2:]))
        if "/" in host:
            return Rule(ports, network=_network(host))
        address = parse_address(host)
        if address is not None:
            return Rule(ports, network=ipaddress.ip_network(address))
        return Rule(ports, name=normal_host(host))
    except BadHost:
        raise ConfigurationError(
            f"{text!r} in a network policy is neither a host name (ASCII; `*.` in front for what is below it), nor an "
            "address, nor a network."
        ) from None


def _split(text: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    bracket = text.rfind("]")
    colon = text.rfind(":")
    if colon <= bracket or (bracket < 0 and text.count(":") > 1):
        # No port; the second is an IPv6 address without brackets.
        return text, PORTS_DEFAULT
    host, port = text[:colon], text[colon + 1 :]
    if port == "*":
        return host, ((1, 65535),)
    first, _, last = port.partition("-")
    if not (first.isdecimal() and (last or first).isdecimal() and 1 <= int(first) <= int(last or first) <= 65535):
        raise ConfigurationError(f"{text!r} in a network policy: the port is a number, FIRST-LAST or `*`.")
    return host, ((int(first), int(last or first)),)


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text.strip("[]"))
    except ValueError as error:
        raise ConfigurationError(f"{text!r} in a network policy is no network: {error}.") from None
