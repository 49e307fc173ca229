"""Bytecode, made beforehand: the carrier is read-only, and a sandbox must not compile at each start."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from chronicled.runtimes.carrier.command import run_program
from chronicled.runtimes.carrier.failure import CarrierFailed
from chronicled.runtimes.carrier.recipe import PYTHON, Architecture

__all__ = ["compile_tree"]

_ADVICE: Final = "make the carrier again; if that fails too, report it"

# Runs in the carried interpreter where that can run here. Sources are not looked at again: `unchecked-hash`. Docstrings
# stay in the sources alone: without them an idle server is 0.6 MB smaller. The same source gives the same bytes: one
# process, in order, and file names as they will be in the sandbox.
_SCRIPT: Final = """
import ast, importlib._bootstrap_external as external, importlib.util, os, sys
root, seen_as = sys.argv[1:]
documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
def undocumented(source):
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            text = node.body.pop(0)
            node.body = node.body or [ast.copy_location(ast.Pass(), text)]
    return tree
for folder, folders, names in os.walk(root):
    folders.sort()
    for name in sorted(names):
        if not name.endswith(".py"):
            continue
        path = os.path.join(folder, name)
        with open(path, "rb") as file:
            source = file.read()
        code = compile(undocumented(source), seen_as + path[len(root):], "exec", dont_inherit=True)
        data = external._code_to_hash_pyc(code, importlib.util.source_hash(source), False)
        target = importlib.util.cache_from_source(path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            file.write(data)
"""


def compile_tree(tree: Path, seen_as: str, base: Path, architecture: Architecture) -> None:
    """Compile every Python file in a tree.

    Args:
        tree: Where the files are.
        seen_as: Where the sandbox will see the tree.
        base: A carrier's base, whose interpreter is used if it runs here.
        architecture: Of the base.

    Raises:
        CarrierFailed: a file does not compile, or no interpreter of the carried version is here.
    """
    library = base / "lib"
    if architecture.machine == os.uname().machine:
        interpreter = [str(library / architecture.loader), "--library-path", str(library), str(base / "bin/python3")]
    else:
        interpreter = [_matching_python()]
    command = [*interpreter, "-s", "-S", "-B", "-c", _SCRIPT, str(tree), seen_as]
    run_program(command, _ADVICE, environment={"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"})


def _matching_python() -> str:
    """Return an interpreter of the carried minor version: its bytecode is the same on every architecture."""
    if f"python{sys.version_info[0]}.{sys.version_info[1]}" == PYTHON:
        return sys.executable
    if path := shutil.which(PYTHON):
        return path
    raise CarrierFailed(f"A carrier of another architecture is compiled by a {PYTHON} of this machine: install one.")
