"""`chronicled completion`: what a shell may complete, names of sessions and ids of open actions too."""

from __future__ import annotations

import argparse
import asyncio
import importlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from chronicled.cli import printing
from chronicled.cli.exit_code import OK
from chronicled.events.errors import ChronicledError

__all__ = ["configure"]

ASK_SECONDS: Final = 1.0
"""How long a person who has pressed Tab waits for a daemon at the most."""
WORDS_MAX: Final = 200
SCRIPT: Final = """\
_chronicled() {
    local IFS=$'\\n'
    local words="$(chronicled completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)"
    COMPREPLY=($(compgen -W "$words" -- "$2"))
}
complete -o default -F _chronicled chronicled
"""
NAMES: Final = frozenset({"session", "name"})
IDS: Final = frozenset({"action", "id"})
"""What positional arguments and options that take a session's name, or an action's id, are called."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "shell", choices=("bash", "words"), help='`bash` prints a script: eval "$(chronicled completion bash)"'
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help="what stands on the line, up to the word to complete")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Print the script, or what may stand in the place of the last word, one each line."""
    if options.shell == "bash":
        printing.line(SCRIPT.rstrip("\n"))
        return OK
    for word in completions(options.words or [""])[:WORDS_MAX]:
        printing.line(word)
    return OK


def completions(words: Sequence[str]) -> list[str]:
    """Return what may stand in the place of the last word; nothing where a file, or anything, may."""
    from chronicled.cli import COMMANDS

    *before, last = words
    if not before:
        return sorted(COMMANDS)
    if before[0] not in COMMANDS:
        return []
    parser = argparse.ArgumentParser(prog=before[0])
    importlib.import_module(f"chronicled.cli.{before[0]}").configure(parser)
    rest = before[1:]
    while (verbs := _verbs(parser)) is not None:
        if not rest:
            return sorted(verbs)
        if rest[0] not in verbs:
            return []
        parser, rest = verbs[rest[0]], rest[1:]
    options = {text: action for action in parser._actions for text in action.option_strings}
    wanted: argparse.Action | None = options.get(rest[-1]) if rest else None
    if wanted is None or wanted.nargs == 0:
        if last.startswith("-"):
            return sorted(options)
        wanted = _positional(parser, options, rest)
    return [] if wanted is None else _values(wanted, _given(rest, "--session"))


def _verbs(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser] | None:
    # argparse tells of its subcommands through what it keeps for itself alone.
    kind: type[Any] = argparse._SubParsersAction  # pyright: ignore[reportPrivateUsage, reportUnknownVariableType, reportUnknownMemberType] -- see above
    found: Any = next((each for each in parser._actions if isinstance(each, kind)), None)
    return None if found is None else found.choices


def _positional(
    parser: argparse.ArgumentParser, options: dict[str, argparse.Action], words: Sequence[str]
) -> argparse.Action | None:
    """Return the positional argument whose turn it is."""
    skips, count = False, 0
    for word in words:
        if skips or word in options:
            skips = not skips and options[word].nargs != 0
        else:
            count += 1
    known = [each for each in parser._actions if not each.option_strings]
    return known[min(count, len(known) - 1)] if known else None


def _given(words: Sequence[str], option: str) -> str | None:
    return next((value for name, value in pairwise(words) if name == option), None)


def _values(wanted: argparse.Action, session: str | None) -> list[str]:
    if wanted.choices is not None:
        return [str(each) for each in wanted.choices]
    if wanted.dest not in NAMES | IDS:
        return []
    try:
        return asyncio.run(_asked(session if wanted.dest in IDS else None, ids=wanted.dest in IDS))
    except (ChronicledError, TimeoutError, OSError):
        return []


async def _asked(session: str | None, *, ids: bool) -> list[str]:
    """Return names of open sessions, or ids of open actions of a session."""
    from chronicled.client import connect

    async with asyncio.timeout(ASK_SECONDS), connect(retry_seconds=0.0) as client:
        if not ids:
            return [each["session"] async for each in client.sessions() if each["status"] == "open"]
        if session is None:
            return []
        found = await client.session(session, create=False)
        return [each.action.id async for each in found.open_actions()]
