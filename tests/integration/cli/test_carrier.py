"""`chronicled carrier`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.cli.conftest import Commands

from chronicled.runtimes.carrier import Carrier, verify


def test_build_ls_and_verify(commands: Commands, carrier: Carrier, tmp_path: Path) -> None:
    """A carrier is made once, listed, and verified; a damaged one ends `verify` with 1 and is named."""
    data = str(tmp_path / "data")
    built = commands.run("carrier", "build", "--data", data, "--json")
    assert (built.returncode, built.stderr) == (0, b"")
    told = json.loads(built.stdout)
    assert told["digest"] == carrier.digest == verify(told["path"])
    assert commands.run("carrier", "build", "--data", data).stdout.decode() == f"{told['path']}\n"
    listed = commands.run("carrier", "ls", "--data", data)
    assert listed.stdout.decode().splitlines()[1].split()[-1] == told["path"]
    assert commands.run("carrier", "verify", "--data", data).stdout.decode() == f"ok: {told['path']}\n"
    Path(told["path"], "run").chmod(0o777)
    bad = commands.run("carrier", "verify", told["path"])
    assert bad.returncode == 1
    assert bad.stdout.decode().startswith(f"bad: {told['path']} has been changed")
    assert commands.run("carrier", "rm", str(tmp_path)).returncode == 4, "that is no carrier"
    assert tmp_path.exists()
    assert commands.run("carrier", "rm", "--data", data).returncode == 0
    assert not Path(told["path"]).exists()


def test_an_architecture_without_a_carrier_is_one_sentence(commands: Commands, tmp_path: Path) -> None:
    """What cannot be made is said without a traceback."""
    done = commands.run("carrier", "build", "--data", str(tmp_path), "--architecture", "vax")
    assert done.returncode == 4
    assert done.stderr.decode() == "chronicled: There is no carrier for 'vax': amd64 and arm64 are known.\n"
