"""What every command that talks to a daemon has in common: its options, and the client."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import Final

from chronicled.client import Client, connect
from chronicled.events.errors import InvalidRequest, Unavailable
from chronicled.events.versions import CURRENT, Versions

__all__ = ["RECONNECT_SECONDS", "STARTING_SECONDS", "add_connection", "client_command", "token_of", "with_client"]

RECONNECT_SECONDS: Final = 30.0
"""How long a daemon that was there may stay away."""
STARTING_SECONDS: Final = 2.0
"""How long one that was just started may take: `chronicled serve &`, and then the next line of a script."""


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the daemon is and how to print."""
    parser.add_argument("--socket", metavar="PATH", help="the daemon's Unix socket, or an http:// URL")
    parser.add_argument("--token-file", metavar="FILE", help="bearer token for a URL (default: CHRONICLED_TOKEN)")
    parser.add_argument("--json", action="store_true", help="print JSON, one value a line")


def token_of(file: str | None) -> str | None:
    """Return the bearer token from the file, else from the environment.

    Raises:
        InvalidRequest: the file cannot be read.
    """
    if file is None:
        return os.environ.get("CHRONICLED_TOKEN") or None
    try:
        with open(file, encoding="ascii") as stream:
            return stream.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The token file {file} cannot be read: {error}.") from None


def with_client(
    options: argparse.Namespace,
    job: Callable[[Client], Awaitable[int]],
    *,
    retry_seconds: float = 0.0,
    versions: Versions = CURRENT,
) -> int:
    """Run `job` with a client of the daemon that the options name, and return its exit code.

    Raises:
        ChronicledError: what the job raised; `NotReachable` when no daemon answers within `retry_seconds`.
    """

    async def run() -> int:
        token = token_of(options.token_file)
        async with connect(options.socket, token=token, retry_seconds=retry_seconds, versions=versions) as client:
            return await job(client)

    return asyncio.run(run())


def client_command(
    job: Callable[[Client, argparse.Namespace], Awaitable[int]], *, patient: bool = False
) -> Callable[[argparse.Namespace], int]:
    """Return a command's `execute` that gives `job` a client; see `with_client`.

    A `patient` one takes time, and so goes on where the daemon goes away meanwhile and comes back.
    """

    async def patiently(client: Client, options: argparse.Namespace) -> int:
        with contextlib.suppress(Unavailable):
            # Who is not there at all is told so now, and not after all the patience.
            await client.until_ready(STARTING_SECONDS)
        return await job(client, options)

    def execute(options: argparse.Namespace) -> int:
        if not patient:
            return with_client(options, lambda client: job(client, options), retry_seconds=STARTING_SECONDS)
        return with_client(options, lambda client: patiently(client, options), retry_seconds=RECONNECT_SECONDS)

    return execute
