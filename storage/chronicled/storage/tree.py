"""One RFC 6962 tree over all leaves, in position order; how they were grouped into commits leaves no trace in it.

Only the frontier is kept: the roots of the perfect subtrees from left to right, at most one per bit of the size.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

__all__ = ["EMPTY_ROOT", "Frontier"]

EMPTY_ROOT: Final = sha256(b"").digest()
"""Root of a tree without leaves (RFC 6962, 2.1)."""


class Frontier:
    """The tree's right edge: enough to append leaves and to tell the root.

    A leaf given here is already a leaf hash. Appending costs one hash on average, the root at most one per bit of size.
    """

    __slots__ = ("nodes", "size")

    def __init__(self, size: int = 0, nodes: list[bytes] | None = None) -> None:
        self.size = size
        self.nodes: list[bytes] = [] if nodes is None else nodes

    @classmethod
    def load(cls, size: int, data: bytes) -> Frontier:
        """Restore what `dump` gave.

        Raises:
            ValueError: `data` cannot be the frontier of a tree of that size.
        """
        if size < 0 or len(data) != 32 * size.bit_count():
            raise ValueError(f"not the frontier of a tree of {size} leaves")
        return cls(size, [data[start : start + 32] for start in range(0, len(data), 32)])

    def dump(self) -> bytes:
        """Return the nodes, left to right, 32 bytes each."""
        return b"".join(self.nodes)

    def copy(self) -> Frontier:
        """Return an independent copy."""
        return Frontier(self.size, self.nodes.copy())

    def append(self, leaf: bytes) -> None:
        """Add the next leaf."""
        size = self.size
        self.size = size + 1
        nodes = self.nodes
        while size & 1:
            leaf = sha256(b"\x01" + nodes.pop() + leaf).digest()
            size >>= 1
        nodes.append(leaf)

    def root(self) -> bytes:
        """Return the tree's root."""
        if not self.nodes:
            return EMPTY_ROOT
        root = self.nodes[-1]
        for node in reversed(self.nodes[:-1]):
            root = sha256(b"\x01" + node + root).digest()
        return root
