"""The example as an outsider meets it: installed from its folder into an environment of its own, judged, and used.

The environment has nothing of this checkout but what pip installs from it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
from tests.engine.fixture import NO_PYTHON, Engine
from tests.integration.daemon.process import DaemonProcess
from tests.integration.units.asking import created

ROOT = Path(__file__).parents[3]
PLUGIN = ROOT / "examples" / "plugin"
INSTALL_SECONDS = 240.0
TRIAL_SECONDS = 180.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(INSTALL_SECONDS + TRIAL_SECONDS)]


class Outside:
    """An environment of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.python = directory / "bin" / "python"

    def run(self, *words: str, seconds: float = TRIAL_SECONDS, directory: Path | None = None, code: int = 0) -> str:
        """Return what a program of the environment prints; it must end with that code."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))}
        program = (
            [str(self.python), *words] if words[0] == "-m" else [str(self.directory / "bin" / words[0]), *words[1:]]
        )
        done = subprocess.run(
            program, cwd=directory, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
        assert done.returncode == code, f"{words}: {done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Outside:
    """An environment with chronicled as a wheel, and the example with it."""
    directory = tmp_path_factory.mktemp("outside")
    venv.create(directory, with_pip=True)
    environment = Outside(directory)
    words = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(ROOT), f"{PLUGIN}[test]")
    environment.run(*words, seconds=INSTALL_SECONDS)
    return environment


@pytest.fixture
def daemon(outside: Outside, tmp_path: Path, engine: Engine) -> DaemonProcess:
    """A daemon of that environment with the unit loaded, not started."""

    class Outsider(DaemonProcess):
        def spawn(self) -> None:
            mine, sys.executable = sys.executable, str(outside.python)
            try:
                super().spawn()
            finally:
                sys.executable = mine

    return Outsider(
        tmp_path, "units.load=acme", "runtime.offered=process,docker,acme.box", f"docker.host={engine.host}"
    )


def test_the_example_passes_its_own_tests_and_the_kit(outside: Outside) -> None:
    """`pytest` in the example's folder runs the author's tests and the conformance kit, and all of them pass."""
    told = outside.run("pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", directory=PLUGIN)
    assert " passed" in told
    assert "skipped" not in told
    collected = outside.run("pytest", "--collect-only", "-q", "-p", "no:cacheprovider", directory=PLUGIN)
    for part in ("test_tally.py", "kit_static", "kit_executors", "TestRuntime"):
        assert part in collected


def test_the_kit_is_not_there_for_who_does_not_ask(outside: Outside, tmp_path: Path) -> None:
    """In a folder that names no unit, pytest collects what is there and nothing of ours."""
    (tmp_path / "test_own.py").write_text("def test_own() -> None:\n    pass\n")
    assert "1 passed" in outside.run("pytest", "-q", "-p", "no:cacheprovider", str(tmp_path), directory=tmp_path)


WRONG = """
from chronicled.events import Payload, action
from chronicled.migrations.unit import Unit
from chronicled.runtimes.process import ProcessRuntime


class Note(Payload, frozen=True):
    text: str


class Careless(ProcessRuntime):
    async def sweep(self, known, head=0):
        return []


def open_box(context):
    return Careless(context.directory)


UNIT = Unit(
    name="wrong",
    package="wrong_unit",
    kinds=(action("wrong.note", Note),),
    runtimes={"wrong.box": "wrong_unit:open_box"},
)
BROKEN = Unit(name="wrong", kinds=(action("note", Note),))
"""


def test_the_kit_fails_for_what_is_wrong(outside: Outside, tmp_path: Path) -> None:
    """No prefix, no lock, a runtime of another name that does not sweep: each has its test, and that one fails."""
    package = tmp_path / "wrong_unit"
    package.mkdir()
    (package / "__init__.py").write_text(WRONG)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\npythonpath = .\n"
    )
    options = ("-q", "-p", "no:cacheprovider", "-rA", "--chronicled-unit")
    told = outside.run("pytest", *options, "wrong_unit:BROKEN", directory=tmp_path, code=1)
    assert "does not bear the owner's prefix 'wrong'" in told
    only = "static or is_called or read_returns or sweep"
    told = outside.run("pytest", *options, "wrong_unit:UNIT", "-k", only, directory=tmp_path, code=1)
    for name, outcome in {
        "test_the_unit_loads": "PASSED",
        "test_the_lock_file_holds": "FAILED",
        "test_golden_events_are_read_and_written": "FAILED",
        "test_the_runtime_is_called_as_it_is_declared": "FAILED",
        "test_read_returns_what_write_wrote": "PASSED",
        "test_sweep_removes_what_is_not_known": "FAILED",
    }.items():
        assert any(line.startswith(outcome) and name in line for line in told.splitlines()), (name, told[-4000:])


def test_the_unit_is_listed_with_what_it_adds(outside: Outside, tmp_path: Path) -> None:
    """`chronicled plugins` tells installed from loaded, and imports nothing that is not asked for."""
    configuration = tmp_path / "c.toml"
    for text, state in (("", "installed"), ('[units]\nload = ["acme"]\n', "loaded")):
        configuration.write_text(text)
        (line,) = outside.run("chronicled", "plugins", "--json", "--config", str(configuration)).splitlines()
        plugin = json.loads(line)
        assert (plugin["name"], plugin["state"], plugin["release"]) == ("acme", state, "acme-tally 2.0.0")
    assert (plugin["kinds"], plugin["runtimes"]) == (["acme.tally 2"], ["acme.box"])


async def test_the_unit_works_in_every_runtime(daemon: DaemonProcess) -> None:
    """Process, an unmodified container without Python, and the unit's own runtime: state, output, rules, policy."""
    await daemon.start()
    try:
        for name, asked in {
            "process": {"runtime": "process"},
            "docker": {"runtime": "docker", "image": NO_PYTHON},
            "acme.box": {"runtime": "acme.box"},
        }.items():
            path = await created(daemon, name, **asked)
            first = await _tally(daemon, path, words=["a", "b", "a"], account="me")
            assert first["action"]["payload"]["account"] == "<secret:acme.account>"
            ended = first["observation"]["payload"]
            assert (ended["outcome"], ended["counts"], ended["total"]) == ("ok", {"a": 2, "b": 1}, 3), ended
            assert "word      count" in ended["output"]
            again = (await _tally(daemon, path, words=["a"]))["observation"]["payload"]
            assert again["counts"] == {"a": 3}
            rejected = (await _tally(daemon, path, words=["forbidden"]))["observation"]["payload"]
            assert (rejected["outcome"], rejected["reason"]) == ("rejected", "policy")
            shown = (await daemon.get(path)).json
            assert (shown["kinds"]["acme.tally"], shown["units"]) == (2, {"acme": "acme-tally 2.0.0"})
    finally:
        await daemon.aclose()


async def _tally(daemon: DaemonProcess, path: str, **payload: Any) -> dict[str, Any]:
    body = {"kind": "acme.tally", "payload": payload}
    answer = await daemon.post(f"{path}/actions", body, headers={"Prefer": "wait=60"})
    assert answer.status == 200, f"{answer}\n{daemon.log_text()}"
    found: dict[str, Any] = answer.json
    return found
