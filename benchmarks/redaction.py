"""Redaction of a stream with 0, 1 and 20 secrets, by what the stream holds; the floor is a SHA-256 of the same bytes.

python -m benchmarks.redaction
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator

from benchmarks.figure import Figure, report
from chronicled.events.secret_redaction import SecretRedaction

__all__ = ["measure"]

MEGABYTES = 8
STEP = 256 << 10
"""As the worker feeds it."""
MILLISECONDS_A_MEGABYTE_MAX = 100.0
"""10 MB/s with 20 secrets."""
LONGEST_STEP_SECONDS_MAX = 0.05


def contents() -> Iterator[tuple[str, bytes]]:
    """Yield what commands print, with a name; no secret is in it."""
    rng = random.Random(8)
    size = MEGABYTES << 20
    noise = rng.randbytes(size)
    lines = (
        f"2026-11-21T07:{n % 60:02} INFO  compiled module foo/bar_{n}.o in 0.{n % 1000} s (100% done)\n"
        for n in range(95_000)
    )
    yield "a build's log", "".join(lines).encode()
    yield "base64 in lines", base64.encodebytes(noise[: size * 3 // 4])
    yield "hex", noise[: size // 2].hex().encode()
    yield "binary", noise
    rows = [{"path": f'/a/b/{n}\n"quoted"', "text": f"héllo wörld {n}"} for n in range(80_000)]
    yield "JSON with escapes", json.dumps(rows).encode()
    yield "percent escapes alone", urllib.parse.quote(noise[: size // 4]).encode()


def with_hits(values: list[str]) -> bytes:
    """Return lines, one in twenty with a value."""
    line = "a line of what the command says as it goes along with its work\n"
    return "".join(
        f"the token is {values[n // 20 % len(values)]}\n" if n % 20 == 0 else line for n in range(80_000)
    ).encode()


def timed(data: bytes, feed: Callable[[bytes], object]) -> tuple[float, float]:
    """Return milliseconds a megabyte, and the seconds of the longest step."""
    begin, longest = time.perf_counter(), 0.0
    for at in range(0, len(data), STEP):
        before = time.perf_counter()
        feed(data[at : at + STEP])
        longest = max(longest, time.perf_counter() - before)
    return (time.perf_counter() - begin) * 1e9 / len(data), longest


def measure() -> list[Figure]:
    """Return the figures."""
    rng = random.Random(20)
    values = [rng.randbytes(30).hex()[: rng.randrange(12, 60)] for _ in range(20)]
    figures: list[Figure] = []
    longest = 0.0
    for name, data in [*contents(), ("every 20th line a secret", with_hits(values))]:
        floor, _ = timed(data, hashlib.sha256().update)
        for count in (0, 1, 20):
            redaction = SecretRedaction()
            if count:
                redaction.register("t", "s", {f"S{n}": [value] for n, value in enumerate(values[:count])})
            stream = redaction.stream("t", "s")
            taken, step = timed(data, stream.feed)
            longest = max(longest, step)
            limit = MILLISECONDS_A_MEGABYTE_MAX if count == 20 else None
            note = f"{1000 / taken:,.0f} MB/s, {taken / floor:.2f} of a SHA-256"
            figures.append(Figure(f"{name}, {count} secrets", taken, "ms/MB", limit, note))
    figures.append(Figure("longest step (256 KiB), in a thread", longest, "s", LONGEST_STEP_SECONDS_MAX))
    return figures


if __name__ == "__main__":
    sys.exit(0 if report("Redaction of a stream", measure()) else 1)
