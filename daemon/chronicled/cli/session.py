"""`chronicled session`: create, list, show and close sessions."""

from __future__ import annotations

import argparse
import contextlib
import math
from typing import Any, cast

import msgspec

from chronicled.cli import printing
from chronicled.cli.connection import add_connection, client_command
from chronicled.cli.exit_code import OK, exit_code_of
from chronicled.cli.secret_values import FROM_HELP, read_values
from chronicled.client import ActionStatus, Client
from chronicled.events.errors import ChronicledError, InvalidRequest, NotReachable
from chronicled.events.sandbox import SandboxRequest

__all__ = ["asked", "configure", "pairs", "seconds"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's subcommands."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    create = verbs.add_parser("create", help="create a session")
    create.add_argument("name", nargs="?", help="its name (default: one is made)")
    create.add_argument("--runtime", help="provider of its sandbox")
    create.add_argument("--image", help="image of its sandbox")
    create.add_argument("--label", metavar="KEY=VALUE", action="append", default=[])
    create.add_argument("--env", metavar="KEY=VALUE", action="append", default=[], help="variable of every command")
    create.add_argument("--secret", metavar="NAME[=PATH]", action="append", default=[], help=f"secret; {FROM_HELP}")
    create.add_argument("--life", metavar="SECONDS", type=seconds, help="when it closes by itself")
    create.add_argument("--idle", metavar="SECONDS", type=seconds, help="how long it may stay idle before it closes")
    create.add_argument(
        "--sandbox",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="what its sandbox is given: network=NAME memory_bytes=N user=UID:GID ...; values are JSON or plain text",
    )
    ls = verbs.add_parser("ls", help="list sessions")
    ls.add_argument("--open", action="store_true", help="leave out those that are closed")
    show = verbs.add_parser("show", help="show a session")
    actions = verbs.add_parser("actions", help="list what runs in it, and what waits for its turn")
    close = verbs.add_parser("close", help="close sessions; their record stays")
    pause = verbs.add_parser("pause", help="stop its sandbox once nothing runs; the next action resumes it")
    resume = verbs.add_parser("resume", help="let its paused sandbox go on")
    restart = verbs.add_parser("restart", help="end its sandbox and its files; the next action meets a new one")
    restart.add_argument("--reason", default="", help="for the record")
    keep_alive = verbs.add_parser("keep-alive", help="begin its idle time anew")
    asking = (pause, resume, restart, keep_alive)
    close.add_argument("name", nargs="+")
    for verb in (show, actions, *asking):
        verb.add_argument("name")
    for verb, word in zip(asking, ("pause", "resume", "restart", "keep-alive"), strict=True):
        verb.set_defaults(word=word)
    jobs = ((create, _create), (ls, _list), (show, _show), (actions, _actions), (close, _close))
    for verb, job in (*jobs, *((verb, _ask) for verb in asking)):
        add_connection(verb)
        verb.set_defaults(execute=client_command(job))


def seconds(text: str) -> float:
    """Read a number of seconds; argparse tells of what is none."""
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return number


def pairs(texts: list[str], what: str) -> dict[str, str]:
    """Read KEY=VALUE options.

    Raises:
        InvalidRequest: one of them has no `=`.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InvalidRequest(f"{what} takes KEY=VALUE, not {text!r}.")
        found[key] = value
    return found


async def _create(client: Client, options: argparse.Namespace) -> int:
    session = await client.create_session(
        options.name,
        runtime=options.runtime,
        image=options.image,
        labels=pairs(options.label, "--label"),
        environment=pairs(options.env, "--env"),
        life_seconds=options.life,
        idle_seconds=options.idle,
        sandbox=asked(options.sandbox),
        secrets=read_values(options.secret),
    )
    shown = await session.show()
    if options.json:
        printing.json_line(shown)
    else:
        printing.line(session.name)
        if not shown.get("isolated", True):
            printing.note(f"The {shown['runtime']} runtime does not isolate: run only what you trust.")
    return 0


def asked(texts: list[str]) -> dict[str, Any]:
    """Read what a sandbox is given: each value as JSON of its field's type, or else as the text that it is.

    Raises:
        InvalidRequest: there is no such field, or the value does not fit it.
    """
    fields = {field.name: field.type for field in msgspec.structs.fields(SandboxRequest)}
    found: dict[str, Any] = {}
    for name, text in pairs(texts, "--sandbox").items():
        if name not in fields:
            raise InvalidRequest(f"--sandbox knows {', '.join(fields)}, not {name!r}.")
        try:
            found[name] = msgspec.to_builtins(_fitting(text, fields[name]))
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"--sandbox {name}={text}: {error}.") from None
    return found


def _fitting(text: str, kind: Any) -> Any:
    try:
        value = msgspec.json.decode(text.encode())
    except msgspec.DecodeError:
        return msgspec.convert(text, kind)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        # A text that happens to be JSON too, such as the user 1000.
        with contextlib.suppress(msgspec.ValidationError):
            return msgspec.convert(text, kind)
        raise


async def _ask(client: Client, options: argparse.Namespace) -> int:
    session = await client.session(options.name, create=False)
    match options.word:
        case "pause":
            event = await session.pause()
        case "resume":
            event = await session.resume()
        case "keep-alive":
            event = await session.keep_alive()
        case _:
            event = await session.restart(options.reason)
    if options.json:
        printing.json_line({"event": msgspec.to_builtins(event)})
    return 0


async def _list(client: Client, options: argparse.Namespace) -> int:
    shown = [each async for each in client.sessions() if not options.open or each["status"] == "open"]
    if options.json:
        for each in shown:
            printing.json_line(each)
        return 0
    printing.table([("SESSION", "STATUS", "RUNTIME", "OPEN", "CREATED"), *(_row(each) for each in shown)])
    return 0


def _row(shown: dict[str, Any]) -> tuple[str, ...]:
    return (shown["session"], shown["status"], shown["runtime"], str(shown["open_actions"]), shown["created"][:19])


async def _show(client: Client, options: argparse.Namespace) -> int:
    session = await client.session(options.name, create=False)
    shown = await session.show()
    if options.json:
        printing.json_line(shown)
    else:
        for key, value in shown.items():
            printing.line(f"{key}: {_plain(value)}")
    return 0


async def _actions(client: Client, options: argparse.Namespace) -> int:
    session = await client.session(options.name, create=False)
    if options.json:
        async for each in session.open_actions():
            printing.json_line(each)
        return OK
    rows = [_open_row(each) async for each in session.open_actions()]
    printing.table([("ID", "LANE", "STATUS", "SINCE", "ACTION"), *rows])
    return OK


def _open_row(opened: ActionStatus) -> tuple[str, ...]:
    action, status = opened.action, "needs input" if opened.needs_input else opened.status
    return (action.id, action.lane, status, action.time[:19], printing.action_text(action))


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={each}" for key, each in cast("dict[str, Any]", value).items()) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


async def _close(client: Client, options: argparse.Namespace) -> int:
    """Close each; one that cannot be closed is told, and keeps no other open."""
    code = OK
    for name in options.name:
        try:
            session = await client.session(name, create=False)
            await session.close()
        except NotReachable:
            raise
        except ChronicledError as error:
            printing.error(error.detail)
            code = code or exit_code_of(error)
            continue
        if options.json:
            printing.json_line(await session.show())
    return code
