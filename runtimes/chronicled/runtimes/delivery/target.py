"""What the interpreter of a sandbox can load."""

from __future__ import annotations

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from typing import NamedTuple

from chronicled.runtimes.carrier.recipe import PYTHON, Architecture

__all__ = ["Target", "carried_target", "own_target"]

SUFFIXES = (".so", ".pyd", ".dylib")


class Target(NamedTuple):
    """An interpreter in sandboxes."""

    python: str
    """Minor version, e.g. `3.11`."""
    machine: str
    """Of its processors, as the kernel says."""
    suffixes: tuple[str, ...]
    """Ends of the names of compiled modules that it loads."""

    def loads(self, path: str) -> bool:
        """Return whether it can load that file, as its name says; what is not compiled, it can."""
        name = path.rsplit("/", 1)[-1]
        if not name.endswith(SUFFIXES) and ".so." not in name:
            return True
        if ".cpython-" in name or ".abi3." in name:
            return name.endswith(self.suffixes)
        # A library that a compiled module brings along: made for the machine that it was installed on.
        return ".so" in name and self.machine == os.uname().machine

    @property
    def words(self) -> str:
        """The interpreter, for people."""
        return f"CPython {self.python} on {self.machine}"


def own_target() -> Target:
    """Return the interpreter of this process, which runs the sandboxes of the process runtime too."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return Target(version, os.uname().machine, tuple(EXTENSION_SUFFIXES))


def carried_target(architecture: Architecture) -> Target:
    """Return the carried interpreter of an architecture."""
    version = PYTHON.removeprefix("python")
    tag = f".cpython-{version.replace('.', '')}-{architecture.machine}-linux-gnu.so"
    # Without a compiler's word for the machine the name of an abi3 module does not tell it.
    suffixes = (tag, ".abi3.so") if architecture.machine == os.uname().machine else (tag,)
    return Target(version, architecture.machine, suffixes)
