"""What the documents name is there: commands with their options, settings, files, tests and routes."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from chronicled import cli
from chronicled.daemon.configuration import Configuration, load

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/*.md"), *ROOT.glob("examples/**/*.md")]
)
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in DOCUMENTS}
REFUSES = 2
"""Exit code of argparse."""


def commands(text: str) -> Iterator[str]:
    """Yield the commands of ours that a page has a reader type: lines of blocks, and words in backticks."""
    fenced = "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    indented = "\n".join(re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE))
    # What stands far to the right of an indented command says what it does.
    indented = re.sub(r"(?<=\S) {3,}.*$", "", indented, flags=re.MULTILINE)
    yield from re.findall(r"^((?:[A-Z_]+=\S+ )*chronicled .*)$", f"{fenced}\n{indented}", re.MULTILINE)
    yield from re.findall(r"`(chronicled [a-z][^`\n]*)`", text)


def words_of(line: str) -> list[str]:
    """Return a command's words up to where the shell does something else with it; empty where it is prose."""
    found: list[str] = []
    splitter = shlex.shlex(line, posix=True, punctuation_chars=True)
    splitter.whitespace_split = True
    for word in splitter:
        if set(word) <= set("|&;<>()"):
            break
        found.append(word)
    while found and found[0] != "chronicled":
        found.pop(0)
    return found[1:]


def refusal(words: list[str]) -> str:
    """Return what the command line has against these words, empty where it would go on."""
    name = next((word for word in words if not word.startswith("-")), None)
    parser = cli._parser(name)  # pyright: ignore[reportPrivateUsage] -- only parsed, nothing is to be done
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            _, unknown = parser.parse_known_args(words)
        except SystemExit as ended:
            # Forms in prose leave out what is plain, such as the command that is to be run.
            return said.getvalue().strip() if ended.code == REFUSES and "are required" not in said.getvalue() else ""
        except argparse.ArgumentTypeError as error:
            return str(error)
    return f"unknown: {unknown}" if unknown else ""


@pytest.mark.parametrize("page", PAGES)
def test_the_command_line_takes_what_a_page_has_typed(page: str) -> None:
    """Every command in every page has a verb and options that there are."""
    wrong: list[str] = []
    for line in commands(PAGES[page]):
        # `pause|resume`, `[-r]`, `...`: forms that stand for several commands.
        for alternative in _spelled_out(line):
            words = words_of(alternative)
            if words and (said := refusal(words)):
                wrong.append(f"{alternative}\n    {said.splitlines()[-1]}")
    assert not wrong, "\n".join(wrong)


def _spelled_out(line: str) -> list[str]:
    line = re.sub(r"\[(-[^\]]+)\]", r"\1", re.sub(r"\[[A-Z]+\]", "", line))
    line = re.sub(r"\s+#.*$", "", line)
    line = re.sub(r"(?<= )N(?= )", "1", re.sub(r" \d?>.*$", "", line))
    if line.rstrip().endswith("\\"):
        return []
    found = [line]
    if alternatives := re.search(r"(?<= )[a-z-]+(?:\|[a-z-]+)+(?= )", line):
        found = [line.replace(alternatives[0], word) for word in alternatives[0].split("|")]
    # A command's name alone, in prose, stands for all of its verbs.
    return [each for each in found if not re.fullmatch(r"chronicled [a-z]+( [a-z-]+)?", each.strip()) or "`" in each]


def test_what_is_typed_is_looked_at() -> None:
    """Negative control: verbs and options that there are not are refused, what is in the pages is found."""
    assert refusal(["session", "frobnicate"])
    assert refusal(["run", "--nonsense", "x"])
    assert not refusal(["run", "--", "ls", "-la"])
    assert sum(len(list(commands(text))) for text in PAGES.values()) > 60


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_settings_that_there_are(page: str) -> None:
    """Every `section.key` in backticks, and every TOML block, is of the configuration."""
    sections = {field.name: field.type for field in msgspec.structs.fields(Configuration)}
    for name in re.findall(r"`([a-z_]+\.[a-z_]+)(?: = [^`]*)?`", PAGES[page]):
        section, key = name.split(".")
        if section not in sections or key in {
            "sqlite",
            "lock",
            "py",
            "md",
            "json",
            "key",
            "token",
            "sock",
            "service",
            "toml",
        }:
            continue
        assert key in {field.name for field in msgspec.structs.fields(sections[section])}, name


@pytest.mark.parametrize("page", PAGES)
def test_the_settings_of_a_page_are_taken(page: str, tmp_path: Path) -> None:
    """Every TOML block of a page is a configuration that loads."""
    for number, block in enumerate(re.findall(r"^```toml\n(.*?)^```$", PAGES[page], re.MULTILINE | re.DOTALL)):
        if block.startswith(("[project", "[build-system", "[tool")):
            continue  # a distribution's
        (tmp_path / f"{number}.toml").write_text(block)
        load(str(tmp_path / f"{number}.toml"), {})


@pytest.mark.parametrize("page", PAGES)
def test_a_page_sends_nobody_to_a_file_that_is_not_there(page: str) -> None:
    """Every path of the repository in backticks exists."""
    roots = ("docs/", "deploy/", "tests/", "examples/", "benchmarks/")
    for path in re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", PAGES[page]):
        if path.startswith(roots) and not path.startswith("tests/golden/units"):
            assert (ROOT / path).exists() or (ROOT / path).parent.joinpath(Path(path).name + ".py").exists(), path


def test_the_architecture_says_where_each_invariant_is_shown() -> None:
    """I1 to I10 each name a test that is there, by file and function."""
    table = PAGES["ARCHITECTURE.md"].split("## Invariants")[1].split("\n## ")[0]
    rows = {row[0]: row[1] for row in re.findall(r"^\| (I\d+) \|.*\|([^|]*)\|$", table, re.MULTILINE)}
    assert sorted(rows, key=lambda name: int(name[1:])) == [f"I{number}" for number in range(1, 11)]
    for name, shown in rows.items():
        named = re.findall(r"`(tests/[\w/]+\.py|[\w/]+\.py)::(\w+)`", shown)
        assert named, f"{name} names no test"
        for path, function in named:
            assert re.search(rf"def {function}\b", (ROOT / path).read_text()), f"{name}: {path}::{function}"
