"""What of our own code goes into a sandbox."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from chronicled.runtimes.carrier import CarrierFailed
from chronicled.runtimes.carrier.closure import closure

IMPORT_ALL = """
import importlib, pathlib, sys
root = pathlib.Path(sys.argv[1])
sys.path += sys.argv[1:]
for path in sorted(root.rglob("*.py")):
    name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
    if not name.endswith("__main__"):
        importlib.import_module(name)
ours = [module for name, module in sys.modules.items() if name.startswith("chronicled.")]
print(len(ours), {str(pathlib.Path(module.__file__).is_relative_to(root)) for module in ours})
"""


def test_it_is_complete(tmp_path: Path) -> None:
    """Every module of the closure can be imported where there is nothing but the closure and msgspec."""
    sources = closure()
    ours, other = tmp_path / "ours", tmp_path / "other"
    for path, source in sources.items():
        (ours / path).parent.mkdir(parents=True, exist_ok=True)
        (ours / path).write_bytes(source)
    other.mkdir()
    (other / "msgspec").symlink_to(Path(msgspec.__file__).parent)
    command = [sys.executable, "-I", "-S", "-c", IMPORT_ALL, str(ours), str(other)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(len(sources)), "{'True'}"], done.stderr


def test_it_holds_nothing_that_a_sandbox_has_no_use_for() -> None:
    """The action server is in it whole; worker, runtimes, storage and daemon are not."""
    sources = closure()
    assert "chronicled/runtimes/action_server/bootstrap.py" in sources
    assert "chronicled/runtimes/action_server/server_process.py" in sources
    foreign = (
        "daemon",
        "client",
        "cli",
        "storage",
        "migrations",
        "runtimes/worker",
        "runtimes/carrier",
        "runtimes/docker",
    )
    assert [path for path in sources if path.startswith(tuple(f"chronicled/{name}" for name in foreign))] == []


def test_a_root_that_is_not_installed_is_an_error() -> None:
    """A carrier without what it was asked to hold is not made."""
    with pytest.raises(CarrierFailed, match=r"chronicled\.runtimes\.nowhere"):
        closure(["chronicled.runtimes.nowhere"])
