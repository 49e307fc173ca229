"""The shape of the tree, as tests: what a linter does not see."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("daemon", "events", "migrations", "runtimes", "storage")
SOURCES = sorted(path for part in PARTS for path in (ROOT / part).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LINES_MAX = 450
FUNCTION_LINES_MAX = 70


def relative(path: Path) -> str:
    """Name a file as the repository does."""
    return str(path.relative_to(ROOT))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_no_part_turns_the_namespace_into_a_package() -> None:
    """A `chronicled/__init__.py` in one source root would hide all the others, and mypy would say Success."""
    assert not list(ROOT.glob("*/chronicled/__init__.py"))


def test_every_list_of_source_roots_names_the_same_folders() -> None:
    """A new part is one word in each list, and forgetting one breaks the install silently."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    folders = {path.parent.name for path in ROOT.glob("*/chronicled")}
    assert folders == set(PARTS)
    assert set(settings["hatch"]["build"]["dev-mode-dirs"]) == folders
    assert {name.split("/")[0] for name in settings["hatch"]["build"]["targets"]["wheel"]["packages"]} == folders
    assert set(settings["mypy"]["mypy_path"].split(",")) == folders
    assert set(settings["pyright"]["extraPaths"]) == folders
    packages = {f"chronicled.{path.name}" for path in ROOT.glob("*/chronicled/*") if (path / "__init__.py").exists()}
    assert set(settings["importlinter"]["root_packages"]) == packages
    assert all((path.parent / "py.typed").exists() for path in ROOT.glob("*/chronicled/*/__init__.py"))


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_file_is_one_concept_and_its_functions_fit_on_a_page(path: Path) -> None:
    """No file over 450 lines, no function over 70: the file that owns state must not eat the rest."""
    text = path.read_text()
    assert text.count("\n") <= LINES_MAX, f"{relative(path)} is too long: split it by concept"
    for node in functions(ast.parse(text)):
        lines = (node.end_lineno or 0) - node.lineno + 1
        assert lines <= FUNCTION_LINES_MAX, f"{relative(path)}:{node.lineno} {node.name} has {lines} lines"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_all_is_honest(path: Path) -> None:
    """`__all__` names what exists; a module that is imported by others has one."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts[1:]).removesuffix(".__init__")
    if path.name in {"__main__.py", "bootstrap.py"}:
        return
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", None)
    if exported is None:
        public = [
            node.name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_")
        ]
        assert not public or path.parent.name == "cli", f"{name} defines {public} but has no __all__"
    else:
        assert [entry for entry in exported if not hasattr(module, entry)] == []
        assert sorted(set(exported)) == sorted(exported)


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=relative)
def test_nothing_vague_and_nothing_left_undone(path: Path) -> None:
    """No `utils`, no notes to ourselves, no excuse without its reason."""
    assert path.stem not in {"utils", "helpers", "manager", "common", "misc"}, relative(path)
    if path == Path(__file__):
        return
    text = path.read_text()
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text), relative(path)
    for number, line in enumerate(text.splitlines(), 1):
        excuse = re.search(r"#\s*(noqa|type: ignore|pyright: ignore|pragma)(?!.*(--|  #|# .*# ))", line)
        assert not excuse or re.search(r"(noqa: \S+|ignore\[[^\]]+\])", line), f"{relative(path)}:{number}: say which"


@pytest.mark.parametrize("path", [path for path in TESTS if path.name.startswith("test_")], ids=relative)
def test_every_test_says_what_it_promises(path: Path) -> None:
    """A test's docstring is the promise that it checks; none is skipped or expected to fail without a reason."""
    text = path.read_text()
    for node in functions(ast.parse(text)):
        if node.name.startswith("test_"):
            assert ast.get_docstring(node), f"{relative(path)}:{node.lineno} {node.name} has no docstring"
    assert "mark.xfail" not in text or path == Path(__file__)


def test_the_project_knows_nothing_of_the_machine_it_was_written_on() -> None:
    """No absolute path of a developer's machine and no registry host stands in a tracked file."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    words = re.compile("/" + "work/|" + "/ro" + "ot/\\.pyenv|pypi\\." + "org|deb\\.debian\\." + "org|npmjs\\." + "org")
    for name in filter(None, names):
        path = ROOT / name
        if path.is_file() and path.suffix in {".py", ".md", ".toml", ".sh", "", ".json", ".c", ".service"}:
            found = words.search(path.read_text(errors="replace"))
            assert not found, f"{name}: {found and found[0]}"


def test_the_action_server_needs_nothing_but_msgspec() -> None:
    """Importing it brings in none of the daemon's libraries: a sandbox stays small and starts fast."""
    code = (
        "import sys, chronicled.runtimes.action_server.server\n"
        "unwanted = {'aiohttp', 'aiodocker', 'aiosqlite', 'anyio', 'structlog', 'sqlite3'}\n"
        "print(sorted(unwanted & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
