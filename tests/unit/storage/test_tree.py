"""The tree is RFC 6962's, whatever the order of calls."""

from __future__ import annotations

from hashlib import sha256

import pytest

from chronicled.storage.tree import EMPTY_ROOT, Frontier

# Inputs and roots of the reference implementation of RFC 6962 (certificate-transparency, merkletree tests).
INPUTS = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def naive_root(leaves: list[bytes]) -> bytes:
    """Compute the root as RFC 6962 defines it: split at the largest power of two below the size."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01" + naive_root(leaves[:split]) + naive_root(leaves[split:])).digest()


def test_roots_are_those_of_the_reference() -> None:
    """The published test vectors hold at every size."""
    frontier = Frontier()
    assert frontier.root() == EMPTY_ROOT
    for data, root in zip(INPUTS, ROOTS, strict=True):
        frontier.append(sha256(b"\x00" + data).digest())
        assert frontier.root().hex() == root


def test_roots_are_those_of_the_definition() -> None:
    """The frontier gives what the recursive definition gives, at every size to 300 and through every dump."""
    leaves: list[bytes] = []
    frontier = Frontier()
    for size in range(300):
        assert frontier.root() == naive_root(leaves)
        frontier = Frontier.load(frontier.size, frontier.dump())
        assert frontier.size == size
        leaves.append(sha256(str(size).encode()).digest())
        frontier.append(leaves[-1])


def test_a_copy_is_independent() -> None:
    """A batch that fails leaves the tree as it was."""
    frontier = Frontier()
    for number in range(5):
        frontier.append(bytes([number]) * 32)
    before = frontier.root()
    frontier.copy().append(bytes(32))
    assert (frontier.size, frontier.root()) == (5, before)


def test_a_damaged_frontier_is_refused() -> None:
    """Bytes that cannot be a frontier of that size are not taken for one."""
    for size, length in ((3, 32), (4, 64), (-1, 0), (1, 31)):
        with pytest.raises(ValueError, match="frontier"):
            Frontier.load(size, bytes(length))
