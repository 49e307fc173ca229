"""Hosts and addresses: what a name may look like, and which addresses are nobody's business by default."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from typing import Final

__all__ = ["Address", "BadHost", "Network", "is_permitted", "normal_host", "parse_address"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
# What C libraries read as an address although it is none in its normal form: 2130706433, 0x7f.1, 127.1.
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL: Final = ipaddress.ip_network("64:ff9b:1::/48")
_COMPATIBLE: Final = ipaddress.ip_network("::/96")
_SITE_LOCAL: Final = ipaddress.ip_network("fec0::/10")
_LINK_LOCAL: Final = (ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fe80::/10"))
"""Where clouds keep their metadata: never opened by a wider network."""
_METADATA_V6: Final = ipaddress.ip_network("fd00:ec2::/32")
_METADATA_PUBLIC: Final = ipaddress.ip_network("168.63.129.16/32")
"""Where one cloud (Azure) answers its machines, secrets among other things: a public address, and no public host."""
_SPECIAL: Final = tuple(
    ipaddress.ip_network(text)
    for text in ("192.0.0.0/24", "192.88.99.0/24", "100::/64", "2001::/23", "2001:20::/28", "3fff::/20", "5f00::/16")
)
"""Of IANA's registries of special addresses, those that Python does not know as such in every version."""


class BadHost(ValueError):
    """Raised for what is neither a name nor an address in its normal form."""


def parse_address(text: str) -> Address | None:
    """Return the address in the text, bracketed or not; None when it is a name."""
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if "%" in inner:
        # A zone means an interface of this machine.
        raise BadHost(text)
    try:
        return ipaddress.ip_address(inner)
    except ValueError:
        if ":" in inner or text.startswith("["):
            raise BadHost(text) from None
        return None


def normal_host(text: str) -> str:
    """Return the host in the one form in which it is compared: lower case, no dot at the end, addresses compressed.

    Raises:
        BadHost: it is neither a host name of ASCII letters nor an address in its normal form.
    """
    address = parse_address(text)
    if address is not None:
        return str(address)
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    if not name or len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise BadHost(text)
    if _NUMBER.fullmatch(labels[-1]):
        raise BadHost(text)
    return name


def is_permitted(address: Address, networks: Sequence[Network] = ()) -> bool:
    """Tell whether an address may be connected to: a public one that is not this machine's, or one of the networks.

    Every form of an address within an address (IPv4-mapped, 6to4, NAT64, Teredo) counts as the inner one too.
    """
    inner = _inner(address)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if any(_holds(network, mapped or address) for network in networks):
        return True
    return all(_is_public(each) for each in (address, *inner) if not _is_wrapper(each)) and not any(
        _is_own(each) for each in (address, *inner)
    )


def _holds(network: Network, address: Address) -> bool:
    if address not in network:
        return False
    # `0.0.0.0/0` means the private networks, and never the machine's metadata.
    for special in (*_LINK_LOCAL, _METADATA_V6):
        if address in special:
            return network.version == special.version and network.prefixlen >= special.prefixlen
    return True


def _inner(address: Address) -> tuple[Address, ...]:
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 0xFFFF):
        return (ipaddress.IPv4Address(int(address) & 0xFFFFFFFF),)
    return ()


def _is_wrapper(address: Address) -> bool:
    return isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None


def _is_public(address: Address) -> bool:
    if any(address in network for network in (_SITE_LOCAL, _NAT64_LOCAL, _COMPATIBLE, _METADATA_PUBLIC, *_SPECIAL)):
        return False
    if address.is_multicast or address.is_unspecified or address.is_loopback or address.is_link_local:
        return False
    return address.is_global and not (isinstance(address, ipaddress.IPv4Address) and address.is_reserved)


def _is_own(address: Address) -> bool:
    """Tell whether it is an address of this very machine: what listens there is not meant for sandboxes."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # Only an address of one's own can be bound.
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
