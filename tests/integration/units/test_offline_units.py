"""Commands that read a data directory by themselves load the units of the daemon's configuration."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chronicled.daemon.instance import load_instance
from chronicled.events import Append
from chronicled.events.envelope import Draft
from chronicled.storage.sqlite import LOG_NAME, SqliteStore

Command = Callable[..., subprocess.CompletedProcess[str]]
CONFIGURED = '[units]\nload = ["beta.unit:PLAIN"]\n'
BROKEN = '[units]\nload = ["beta.unit:PLAIN", "beta.unit:ABSENT"]\n'
V0_EVENT = (
    '{"id": 0, "timestamp": "2025-01-01T00:00:00", "source": "user", "action": "message", '
    '"args": {"content": "hi", "image_urls": null, "wait_for_response": false}, "message": "hi"}'
)


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """A data directory whose log holds an action of a unit's kind."""
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    load_instance(str(directory), fresh=True)
    ids = "01900000-0000-7000-8000-{:012d}".format
    async with await SqliteStore.open(directory / LOG_NAME) as store:
        begin = Draft("default", "s", ids(1), "session_created", 2, "lifecycle", b'{"runtime":"process"}')
        done = Draft("default", "s", ids(2), "beta.do", 1, "action", b'{"what":"turn","text":"abc"}')
        await store.append(Append((begin, done), create=True))
    return directory


@pytest.fixture
def command(packages: Path, tmp_path: Path) -> Command:
    """The command line, with the units' packages on its path and a home of its own."""

    def run(*arguments: str | Path, configuration: str = CONFIGURED) -> subprocess.CompletedProcess[str]:
        folder = tmp_path / "config" / "chronicled"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.toml").write_text(configuration)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CHRONICLED_")}
        return subprocess.run(
            [sys.executable, "-m", "chronicled.cli", *arguments],
            env=environment | {"PYTHONPATH": str(packages), "XDG_CONFIG_HOME": str(tmp_path / "config")},
            capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip

    return run


def test_a_log_is_read_with_the_units_that_the_daemon_loads(command: Command, data: Path) -> None:
    """What the daemon can read, `migrate status` and `events --data` can; without the units it is opaque."""
    status = command("migrate", "status", "--data", data, "--deep")
    assert status.returncode == 0, status.stdout + status.stderr
    without = command("migrate", "status", "--data", data, "--deep", "--no-units")
    assert (without.returncode, "beta.do" in without.stdout) == (1, True)
    named = command("migrate", "status", "--data", data, "--unit", "beta.unit:PLAIN", configuration="")
    assert named.returncode == 0, named.stdout + named.stderr
    assert '"opaque"' not in command("events", "--data", data, "--json").stdout
    assert '"opaque"' in command("events", "--data", data, "--json", "--no-units").stdout


@pytest.mark.parametrize("verb", ["status", "import", "rewrite", "export"])
def test_a_broken_unit_is_told_and_there_is_a_way_on(command: Command, data: Path, tmp_path: Path, verb: str) -> None:
    """Nothing is read as if the configuration had not named it; `--no-units` says that this is meant."""
    events = tmp_path / "v0" / "events"
    events.mkdir(parents=True)
    (events / "0.json").write_text(V0_EVENT)
    arguments: dict[str, tuple[str | Path, ...]] = {
        "status": ("--data", data),
        "import": ("--data", data, tmp_path / "v0", "--timezone", "UTC"),
        "rewrite": (data, tmp_path / "new"),
        "export": ("s", "--format", "jsonl", "--data", data),
    }
    refused = command("migrate", verb, *arguments[verb], configuration=BROKEN)
    assert refused.returncode == 4, refused.stdout + refused.stderr
    assert "has no attribute 'ABSENT'" in refused.stderr
    assert "--no-units" in refused.stderr
    gone = command("migrate", verb, *arguments[verb], "--no-units", configuration=BROKEN)
    assert gone.returncode in (0, 1), gone.stdout + gone.stderr


@pytest.mark.parametrize(("verb", "code"), [("status", 0), ("export", 4)])
def test_a_unit_that_is_skipped_is_missed_where_it_is_needed(
    command: Command, data: Path, verb: str, code: int
) -> None:
    """`units.skip_broken` holds for looking on, with a word of it; not for what goes out, which its rules guard."""
    arguments = ("s", "--format", "jsonl", "--data", data) if verb == "export" else ("--data", data)
    found = command("migrate", verb, *arguments, configuration=f"{BROKEN}skip_broken = true\n")
    assert found.returncode == code, found.stdout + found.stderr
    assert "beta.unit:ABSENT" in found.stderr


def test_an_import_knows_the_units_of_the_configuration(command: Command, data: Path, tmp_path: Path) -> None:
    """It loads them as the daemon does, into a log that has their events."""
    events = tmp_path / "v0" / "events"
    events.mkdir(parents=True)
    (events / "0.json").write_text(V0_EVENT)
    found = command("migrate", "import", "--data", data, tmp_path / "v0", "--timezone", "UTC")
    assert found.returncode == 0, found.stdout + found.stderr
    assert command("migrate", "status", "--data", data, "--deep").returncode == 0
