"""`chronicled image`: list, build, prefetch and prune images."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from chronicled.cli import printing
from chronicled.cli.connection import add_connection, client_command
from chronicled.cli.exit_code import ACTION_FAILED, OK
from chronicled.cli.session import pairs
from chronicled.client import Client
from chronicled.events.kinds.lifecycle import ImageProgress

__all__ = ["configure"]

SHORT = 19


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's subcommands."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    ls = verbs.add_parser("ls", help="list the engine's images, and what is built or fetched")
    build = verbs.add_parser("build", help="build an image from a folder, or from a Dockerfile on stdin")
    build.add_argument("name", metavar="NAME", help="`path[:tag]`; the full name to use is printed")
    build.add_argument("context", metavar="FOLDER", nargs="?", default=".", help="`-` is a Dockerfile on stdin")
    build.add_argument("-f", "--file", metavar="PATH", default="Dockerfile", help="the Dockerfile in the folder")
    build.add_argument("--arg", metavar="KEY=VALUE", action="append", default=[], help="build argument")
    build.add_argument("--target", metavar="STAGE", help="stage to end at")
    build.add_argument("--fresh", action="store_true", help="run every step anew")
    prefetch = verbs.add_parser("prefetch", help="fetch images before they are needed")
    prefetch.add_argument("images", metavar="IMAGE", nargs="+")
    prefetch.add_argument("--pull", choices=("missing", "always", "never"), help="when to ask the registry")
    prune = verbs.add_parser("prune", help="remove images that the daemon brought and nobody uses")
    prune.add_argument("--unused", metavar="SECONDS", type=float, help="for how long unused (default: the daemon's)")
    # An engine that does not answer is told at once to who only looks.
    for verb, job, patient in (
        (ls, _list, False),
        (build, _build, True),
        (prefetch, _prefetch, True),
        (prune, _prune, False),
    ):
        add_connection(verb)
        verb.set_defaults(execute=client_command(job, patient=patient))


async def _list(client: Client, options: argparse.Namespace) -> int:
    shown = await client.images.list()
    if options.json:
        printing.json_line(shown)
        return OK
    rows = [_row(each) for each in shown["images"]]
    printing.table([("IMAGE", "DIGEST", "SIZE", "ORIGIN", "LAST USE", "CONTAINERS"), *rows])
    for job in shown["jobs"]:
        printing.note(_line(job["image"], job["status"], job["bytes_done"], job["bytes_total"], job["step"]))
    return OK


def _row(each: dict[str, Any]) -> tuple[str, ...]:
    digest = (each["digest"] or each["id"])[:SHORT]
    used = (each["used"] or "-")[:19]
    return (each["image"], digest, _size(each["size_bytes"]), each["origin"], used, str(each["containers"]))


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"


async def _build(client: Client, options: argparse.Namespace) -> int:
    context: str | bytes = options.context
    if context == "-":
        context = await asyncio.to_thread(sys.stdin.buffer.read)
    ended = await client.images.build(
        options.name,
        context,
        dockerfile=options.file,
        arguments=pairs(options.arg, "--arg"),
        target=options.target,
        fresh=options.fresh,
        told=_tell,
    )
    return _report([ended], options)


async def _prefetch(client: Client, options: argparse.Namespace) -> int:
    return _report(await client.images.prefetch(options.images, pull=options.pull, told=_tell), options)


async def _prune(client: Client, options: argparse.Namespace) -> int:
    gone = await client.images.prune(options.unused)
    if options.json:
        printing.json_line(gone)
        return OK
    for each in gone["images"]:
        printing.line(each["image"])
    printing.note(f"{len(gone['images'])} removed")
    return OK


def _tell(report: ImageProgress) -> None:
    printing.progress(_line(report.image, report.status, report.bytes_done, report.bytes_total, report.step))


def _line(image: str, status: str, done: int, total: int, step: str) -> str:
    far = f" {_size(done)} of {_size(total)}" if total else ""
    return f"{image}: {status}{far} {step}".rstrip()


def _report(ended: Sequence[ImageProgress], options: argparse.Namespace) -> int:
    printing.progress("")
    for each in ended:
        if options.json:
            printing.json_line(each)
        elif each.status == "done":
            printing.line(each.image)
        else:
            printing.error(each.error or f"{each.image}: {each.status}")
    return OK if all(each.status == "done" for each in ended) else ACTION_FAILED
