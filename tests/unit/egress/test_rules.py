"""What an allow list lets through, and which addresses it never does."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronicled.events.errors import ConfigurationError
from chronicled.runtimes.docker.egress_address import BadHost, is_permitted, normal_host
from chronicled.runtimes.docker.egress_rules import Rules

PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "168.63.129.16",
    "::ffff:168.63.129.16",
    "100.64.0.1",
    "192.0.0.8",
    "198.18.0.1",
    "192.88.99.1",
    "3fff::1",
    "100::1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "::a9fe:a9fe",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001:0:7f00:1::1",
    "fe80::1",
    "fec0::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "2001:db8::1",
]


@pytest.mark.parametrize("text", PRIVATE)
def test_what_is_not_public_is_not_permitted(text: str) -> None:
    """No form of a private, local, metadata or reserved address may be connected to unless it is named."""
    assert not is_permitted(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ["1.1.1.1", "8.8.8.8", "::ffff:8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_what_is_public_is_permitted(text: str) -> None:
    """The guard against private addresses does not refuse everything (negative control of the test above)."""
    assert is_permitted(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    ("network", "address", "permitted"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("10.0.0.0/8", "192.168.0.1", False),
        ("0.0.0.0/0", "10.1.2.3", True),
        ("0.0.0.0/0", "169.254.169.254", False),
        ("169.0.0.0/8", "169.254.169.254", False),
        ("169.254.169.254/32", "169.254.169.254", True),
        ("::/0", "fd00:ec2::254", False),
        ("fd00:ec2::254/128", "fd00:ec2::254", True),
        ("::/0", "fe80::1", False),
    ],
)
def test_a_network_permits_itself_and_metadata_only_by_name(network: str, address: str, permitted: bool) -> None:
    """A permitted network opens its addresses; a cloud's metadata opens only where the network is that narrow."""
    assert is_permitted(ipaddress.ip_address(address), [ipaddress.ip_network(network)]) is permitted


@given(st.ip_addresses(v=6))
def test_an_inner_address_is_judged_like_the_outer(address: ipaddress.IPv6Address) -> None:
    """Whatever IPv6 address is permitted, an IPv4 address within it is permitted by itself too."""
    inner = address.ipv4_mapped or address.sixtofour
    if inner is not None and is_permitted(address):
        assert is_permitted(inner)


@given(st.ip_addresses(v=4))
def test_mapping_an_address_changes_nothing(address: ipaddress.IPv4Address) -> None:
    """An IPv4 address is permitted exactly when its IPv6-mapped form is."""
    assert is_permitted(address) == is_permitted(ipaddress.ip_address(f"::ffff:{address}"))


@pytest.mark.parametrize(
    "text",
    ["2130706433", "0x7f000001", "127.1", "0177.0.0.1", "127.0.0.1.", "1.2.3", "a b", "", ".", "a..b", "-a.b",
     "é.example", "fe80::1%eth0", "[::1", "x" * 64, ".".join(["a" * 60] * 5), "a/b",
     "a@b", "a:b", "0x7f.1", "exa\nmple"],
)  # fmt: skip
def test_what_readers_could_take_differently_is_no_host(text: str) -> None:
    """Numbers that C libraries read as addresses, zones, and names of other letters are refused."""
    with pytest.raises(BadHost):
        normal_host(text)


def test_hosts_have_one_form() -> None:
    """Case, a dot at the end and the spelling of an address make no difference."""
    assert normal_host("A.Example.org.") == "a.example.org"
    assert normal_host("[0:0::0:1]") == "::1"
    assert normal_host("a_b-c.example") == "a_b-c.example"


def test_rules_cover_what_they_say() -> None:
    """Exact names, what is below a name, addresses and networks, each at its ports and at no other."""
    rules = Rules(
        ["a.example.org", "*.example.com:443", "git.example:22-23", "10.1.0.0/16:5432", "[::1]:8080", "all.example:*"]
    )
    allowed = [
        ("a.example.org", 80), ("a.example.org", 443), ("a.example.com", 443), ("a.b.example.com", 443),
        ("git.example", 23),
        ("10.1.9.9", 5432), ("::1", 8080), ("all.example", 1), ("all.example", 65535),
    ]  # fmt: skip
    denied = [
        ("a.example.org", 8080), ("x.a.example.org", 443), ("a.example.org.evil.example", 443), ("example.com", 443),
        ("a.example.com", 80), ("badexample.com", 443), ("git.example", 24), ("10.2.0.1", 5432),
        ("10.1.0.1", 80), ("::2", 8080),
    ]  # fmt: skip
    assert [each for each in allowed if not rules.allows(*each)] == []
    assert [each for each in denied if rules.allows(*each)] == []


def test_private_networks_are_for_names_and_rules_for_addresses() -> None:
    """A name may lead where `private_networks` says; an address only where a rule names it."""
    rules = Rules(["*", "10.0.0.1:80"], ["10.0.0.0/8"])
    assert [str(each) for each in rules.networks("git.example", 80)] == ["10.0.0.0/8"]
    assert [str(each) for each in rules.networks("10.0.0.1", 80)] == ["10.0.0.1/32"]
    assert rules.networks("10.0.0.2", 80) == []


@pytest.mark.parametrize(
    "text", ["", "a:0", "a:70000", "a:x", "a:9-1", "http://a", "*.", "10.0.0.0/99", "*.10", "a b", "::1%x"]
)
def test_an_entry_that_means_nothing_is_refused(text: str) -> None:
    """A mistake in a policy is told when it is read, not when a sandbox stands before a closed door."""
    with pytest.raises(ConfigurationError):
        Rules([text])
