"""`chronicled files`: put files into a session's sandbox, get them out, and see what is there."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from chronicled.cli import printing
from chronicled.cli.connection import add_connection, client_command
from chronicled.cli.exit_code import ACTION_FAILED, OK, TIMEOUT
from chronicled.client import Client, Outcome
from chronicled.client.archives import packed
from chronicled.client.ending import Ending
from chronicled.client.session import Session

__all__ = ["configure"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's subcommands."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    put = verbs.add_parser("put", help="put a file, or a folder's tree, into the sandbox")
    put.add_argument("local", metavar="LOCAL", help="file or folder; `-` is a file from stdin")
    put.add_argument("remote", metavar="REMOTE", help="the file, or the folder below which the tree goes")
    put.add_argument("--mode", metavar="OCTAL", type=_octal, help="permission bits of a file, e.g. 0755")
    get = verbs.add_parser("get", help="get a file, or what is in a folder, out of the sandbox")
    get.add_argument("remote", metavar="REMOTE")
    get.add_argument("local", metavar="LOCAL", help="file, or with -r the folder below which it goes; `-` is stdout")
    get.add_argument("-r", "--recursive", action="store_true", help="REMOTE is a folder; to stdout it is a tar archive")
    ls = verbs.add_parser("ls", help="list what is in a folder of the sandbox")
    ls.add_argument("remote", metavar="REMOTE", nargs="?", default=".")
    ls.add_argument("--depth", type=int, default=1, choices=range(1, 65), metavar="N", help="how far to go down")
    ls.add_argument("-l", "--long", action="store_true", help="with mode, size and time")
    for verb, job in ((put, _put), (get, _get), (ls, _list)):
        verb.add_argument("--session", required=True, metavar="NAME")
        verb.add_argument("--lane", default="main", help="where relative paths begin is where this lane is")
        add_connection(verb)
        verb.set_defaults(execute=client_command(job, patient=True))


async def _session(client: Client, options: argparse.Namespace) -> Session:
    return await client.session(options.session, create=False)


def _octal(text: str) -> str:
    if re.fullmatch("0?[0-7]{3}", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not three octal digits, e.g. 755; other bits are not taken")
    return text.zfill(4)


async def _put(client: Client, options: argparse.Namespace) -> int:
    session = await _session(client, options)
    lane, mode = options.lane, options.mode
    if options.local == "-":
        with tempfile.TemporaryFile() as file:
            await asyncio.to_thread(shutil.copyfileobj, sys.stdin.buffer, file)
            ending = await session.send_content(file, options.remote, tree=False, mode=mode, lane=lane)
    elif await asyncio.to_thread(os.path.isdir, options.local):
        async with packed(options.local) as (archive, packing):
            for each in packing.left_out:
                printing.error(f"{each['name']} is left out: {each['reason']}")
            if packing.left_out_count > len(packing.left_out):
                printing.error(f"{packing.left_out_count} entries are left out in all")
            ending = await session.send_content(archive, options.remote, tree=True, lane=lane)
    else:
        ending = await session.upload(options.local, options.remote, mode=mode, lane=lane)
    return _report(ending, options, f"{ending.payload.get('bytes_written')} bytes")


async def _get(client: Client, options: argparse.Namespace) -> int:
    session = await _session(client, options)
    if options.local != "-":
        ending = await session.download(options.remote, options.local, tree=options.recursive, lane=options.lane)
        return _report(ending, options, f"{ending.payload.get('bytes_read')} bytes")
    with tempfile.TemporaryDirectory() as directory:
        archive = Path(directory) / "content"
        ending = await session.download(
            options.remote, archive, tree=options.recursive, extract=False, lane=options.lane
        )
        if ending.ok:
            with archive.open("rb") as file:
                await asyncio.to_thread(shutil.copyfileobj, file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return OK
    return _report(ending, options, "")


async def _list(client: Client, options: argparse.Namespace) -> int:
    session = await _session(client, options)
    async for entry in session.list_files(options.remote, depth=options.depth, lane=options.lane):
        if options.json:
            printing.json_line(entry)
        else:
            printing.line(_row(entry, long=options.long))
    return OK


def _row(entry: dict[str, Any], *, long: bool) -> str:
    name = "".join(each if each.isprintable() else "\ufffd" for each in entry["name"])
    mark = {"directory": "/", "symlink": "@", "fifo": "|", "socket": "="}.get(entry["type"], "")
    if not long:
        return name + mark
    time = (entry["modified"] or "")[:19]
    pointed = f" -> {entry['target']}" if entry["target"] is not None else ""
    return f"{entry['mode']} {entry['size']:>12} {time:<19} {name}{mark}{pointed}"


def _report(ending: Ending, options: argparse.Namespace, done: str) -> int:
    for each in ending.payload.get("left_out", ()):
        printing.error(f"{each['name']} is not there as it was: {each['reason']}")
    if options.json:
        printing.json_line({"action": ending.action, "observation": ending.observation})
    elif not ending.ok:
        printing.error(ending.message or f"it ended {ending.outcome}")
    else:
        printing.note(f"{done}: {ending.payload.get('path')}")
    if ending.outcome is Outcome.TIMEOUT:
        return TIMEOUT
    return OK if ending.ok else ACTION_FAILED
