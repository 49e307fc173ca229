"""Bytecode of units: as Python itself would make it, for code that may look at its own docstrings."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from chronicled.runtimes.carrier.command import run_program
from chronicled.runtimes.carrier.recipe import PYTHON, Architecture

__all__ = ["compile_units"]

_ADVICE: Final = "make the carrier again; if that fails too, report it"

# What does not compile is left as it is: some packages ship templates that are no Python.
_SCRIPT: Final = """
import compileall, py_compile, sys
tree, seen_as = sys.argv[1:]
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
compileall.compile_dir(tree, quiet=2, stripdir=tree, prependdir=seen_as, invalidation_mode=mode)
"""


def compile_units(tree: Path, seen_as: str, base: Path, architecture: Architecture) -> None:
    """Compile every Python file in a tree that is one; without an interpreter that can, none: they work as they are.

    Args:
        tree: Where the files are.
        seen_as: Where the sandbox will see the tree.
        base: A carrier's base, whose interpreter is used if it runs here.
        architecture: Of the base.

    Raises:
        CarrierFailed: the interpreter failed.
    """
    library = base / "lib"
    if architecture.machine == os.uname().machine:
        interpreter = [str(library / architecture.loader), "--library-path", str(library), str(base / "bin/python3")]
    elif f"python{sys.version_info[0]}.{sys.version_info[1]}" == PYTHON:
        interpreter = [sys.executable]
    else:
        return
    command = [*interpreter, "-s", "-S", "-B", "-c", _SCRIPT, str(tree), seen_as]
    run_program(command, _ADVICE, environment={"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"})
