"""`chronicled migrate import` from the outside: what it prints, how it ends, and what it never opens."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.imports.conversations import pairs, run, write_files

SECONDS_MAX = 60
PROGRAM = ("-m", "chronicled.cli")
WATCHED = """
import json, sys
opened, done = [], []
FORBIDDEN = {"pickle.find_class", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.fork"}
def watch(event, arguments):
    if event == "open":
        opened.append(str(arguments[0]))
    elif event in FORBIDDEN:
        done.append(event)
from chronicled.cli import main
sys.addaudithook(watch)
code = main()
with open(sys.argv[-1] + ".seen", "w") as stream:
    json.dump({"opened": opened, "done": done}, stream)
sys.exit(code)
"""


def command(*arguments: str | Path, program: tuple[str, ...] = PROGRAM) -> subprocess.CompletedProcess[str]:
    """Run the verb."""
    return migrate("import", *arguments, program=program)


def migrate(verb: str, *arguments: str | Path, program: tuple[str, ...] = PROGRAM) -> subprocess.CompletedProcess[str]:
    """Run another verb."""
    return subprocess.run(
        [sys.executable, *program, "migrate", verb, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        stdin=subprocess.DEVNULL,
        check=False,
    )


LEAKED = "hunter2-correct-horse"


@pytest.fixture
def conversation(tmp_path: Path) -> Path:
    """A conversation's folder."""
    return write_files(tmp_path / "conversation", pairs(10))


def test_what_it_prints(conversation: Path, tmp_path: Path) -> None:
    """A line for a person, or JSON; the report is JSON Lines, one line a record."""
    data = tmp_path / "data"
    done = command(conversation, "--data", data, "--json", "--report", tmp_path / "report.jsonl")
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert (outcome["session"], outcome["records"], outcome["events"]) == ("conversation", 10, 10)
    assert outcome["shapes"] == {"event action run": 5, "event observation run": 5}
    lines = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert [line["record"]["key"] for line in lines] == [str(n) for n in range(10)]
    assert all(line["record"]["shape"] and line["record"]["events"] and line["record"]["time"] for line in lines)
    again = command(conversation, "--data", data)
    assert "0 records" in again.stdout
    assert "10 imported before" in again.stdout


def test_a_dry_run_leaves_no_trace(conversation: Path, tmp_path: Path) -> None:
    """Without a data directory none is made."""
    done = command(conversation, "--data", tmp_path / "data", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "nothing was written" in done.stdout
    assert not (tmp_path / "data").exists()


def test_how_it_ends(conversation: Path, tmp_path: Path) -> None:
    """0 imported, 1 a session was refused and the others imported, 2 wrong options, 4 nothing to import."""
    data = tmp_path / "data"
    write_files(tmp_path / "root" / "sessions" / "one", pairs(2))
    write_files(tmp_path / "root" / "sessions" / "two", pairs(2))
    root = tmp_path / "root"
    assert command(root, "--data", data).returncode == 0
    write_files(root / "sessions" / "one", [run(0, "another")])
    write_files(root / "sessions" / "two", pairs(4))
    refused = command(root, "--data", data)
    assert refused.returncode == 1
    assert "record '0' is another" in refused.stderr
    assert "two: 2 records" in refused.stdout
    assert command(root, "--data", data, "--session", "x").returncode == 2
    assert command(root, "--data", data, "--timezone", "Mars/Base").returncode == 2
    assert command(tmp_path / "absent", "--data", data).returncode == 4
    assert command(root, "--data", data, "--format", "word.perfect").returncode == 4


def test_what_it_never_does(conversation: Path, tmp_path: Path) -> None:
    """No pickle is opened, nothing is executed, and no link is followed, though all of it lies there."""
    (conversation / "agent_state.pkl").write_bytes(b"cos\nsystem\n(S'touch never'\ntR.")
    (conversation / "conversation_stats.pkl").write_bytes(b"x")
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps(run(10)))
    (conversation / "events" / "10.json").symlink_to(secret)
    code = f"print(file_editor(**{{'path': __import__('os').system('touch {tmp_path}/never')}}))"
    args = {"path": "/a", "translated_ipython_code": code}
    write_files(conversation, [{"id": 11, "action": "read", "args": args}])
    data = tmp_path / "data"
    done = command(conversation, "--data", data, program=("-c", WATCHED))
    assert done.returncode == 0, done.stderr
    seen = json.loads(Path(f"{data}.seen").read_text())
    assert any(path.endswith("0.json") for path in seen["opened"])
    assert not [path for path in seen["opened"] if path.endswith((".pkl", "secret.json"))]
    assert not seen["done"]
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("verb", ["import", "rewrite", "export"])
def test_what_a_newer_version_keeps_is_refused_by_name(verb: str, conversation: Path, tmp_path: Path) -> None:
    """Where blobs, or anything beside the log, are of a format that is not known here, nothing is read or written."""
    data = tmp_path / "data"
    arguments: dict[str, list[str | Path]] = {
        "import": [conversation, "--data", data, "--session", "another"],
        "rewrite": [data, tmp_path / "new"],
        "export": ["conversation", "--format", "jsonl", "--data", data],
    }
    assert command(conversation, "--data", data).returncode == 0
    formats = json.loads((data / "formats.json").read_text())
    (data / "formats.json").write_text(json.dumps({"formats": formats["formats"] | {"blobs": 9}}))
    before = (data / "log.sqlite").read_bytes()
    done = migrate(verb, *arguments[verb])
    assert (done.returncode, done.stdout) == (4, "")
    assert "'blobs'" in done.stderr
    assert (data / "log.sqlite").read_bytes() == before
    # Negative control: in the format that is known, it is done.
    (data / "formats.json").write_text(json.dumps(formats))
    assert migrate(verb, *arguments[verb]).returncode == 0


def test_nothing_is_imported_where_a_log_is_being_written_anew(conversation: Path, tmp_path: Path) -> None:
    """What an interrupted rewrite left is thrown away by the next one: an import into it would be lost."""
    data = tmp_path / "data.rewriting"
    data.mkdir()
    (data / "rewriting.json").write_text("{}")
    done = command(conversation, "--data", data)
    assert (done.returncode, "written anew" in done.stderr) == (4, True)
    assert not (data / "log.sqlite").exists()


@pytest.mark.parametrize("options", [["--tenant", "_system"], ["--session", "_x"]])
def test_reserved_names_are_refused(options: list[str], conversation: Path, tmp_path: Path) -> None:
    """What the daemon says of itself stands under names that begin with `_`: nobody else's events come there."""
    done = command(conversation, "--data", tmp_path / "data", *options)
    assert (done.returncode, "reserved" in done.stderr) == (2, True)
    assert not (tmp_path / "data").exists()


def test_values_are_left_behind_that_are_named(tmp_path: Path) -> None:
    """From a variable or a file, never from an argument; what is too short to be told from other text is refused."""
    source, data = tmp_path / "leaky.json", tmp_path / "data"
    source.write_text(json.dumps([{"id": 0, "action": "run", "args": {"command": f"echo {LEAKED}"}}]))
    (tmp_path / "value").write_text(f"{LEAKED}\n")
    refused = command(source, "--data", data, "--redact", "TOKEN")
    assert (refused.returncode, "TOKEN" in refused.stderr) == (2, True)
    (tmp_path / "short").write_text("ab\n")
    refused = command(source, "--data", data, "--redact", f"TOKEN={tmp_path / 'short'}")
    assert (refused.returncode, "too short" in refused.stderr) == (2, True)
    assert not data.exists()
    done = command(source, "--data", data, "--json", "--redact", f"TOKEN={tmp_path / 'value'}")
    assert (done.returncode, json.loads(done.stdout)["redacted"]) == (0, 1), done.stderr
    kept = b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file())
    assert LEAKED.encode() not in kept
    assert b"<secret:TOKEN>" in kept
