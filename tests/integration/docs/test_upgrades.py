"""docs/upgrades.md is true: its blocks run as they stand, one after another, on what an older version left."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.golden.databases import golden_databases, unpack

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "upgrades.md").read_text()
SECONDS_MAX = 90


def test_every_block_of_the_upgrades_page_runs_as_written(tmp_path: Path) -> None:
    """Status, a dry run, the migration, a rewrite and its verification work word by word."""
    data = tmp_path / "state" / "chronicled"
    data.mkdir(parents=True, mode=0o700)
    unpack(golden_databases()[0], data / "log.sqlite")
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL))
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    for said in (
        "step 1 of",
        "would be applied: log: ",
        "applied: log: ",
        "ok: 8301 events in ",
        "ok: 8301 events verify",
    ):
        assert said in done.stdout, f"{said!r} is missing in:\n{done.stdout}"
    assert (data / "log.sqlite.before-step-2").exists()
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["chronicled", "chronicled-new"]
