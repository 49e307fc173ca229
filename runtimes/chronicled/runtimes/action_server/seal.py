"""Seals: what proves to the worker that a result comes from its action server, where the way between is not their own.

A seal is a BLAKE2b hash under a key that is derived from the token of the generation. Only the worker and the server
know the token: the server reads it before anything of the agent's runs, and its memory is closed to others.
"""

from __future__ import annotations

# Not through hashlib: that loads OpenSSL, which is a quarter of an idle server's memory.
from _blake2 import blake2b
from typing import Final

import msgspec

from chronicled.runtimes.action_server.frames import Result

__all__ = ["SEAL_BYTES", "derive", "seal", "seal_result"]

SEAL_BYTES: Final = 16
_encoder: Final = msgspec.msgpack.Encoder()


def derive(token: str, purpose: bytes) -> bytes:
    """Return a key for one purpose (at most 16 bytes); from one key nothing can be said of token or other keys."""
    return blake2b(token.encode(errors="surrogatepass"), digest_size=32, person=purpose).digest()


def seal(key: bytes, *parts: bytes | bytearray | memoryview) -> bytes:
    """Return the seal of the parts, one after another."""
    hashed = blake2b(key=key, digest_size=SEAL_BYTES)
    for part in parts:
        hashed.update(part)
    return hashed.digest()


def seal_result(key: bytes, result: Result) -> bytes:
    """Return the seal of a result, whatever seal it bears."""
    return seal(key, _encoder.encode(msgspec.structs.replace(result, seal=b"")))
