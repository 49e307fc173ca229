"""`chronicled migrate up` as a person at a terminal sees it."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

from tests.golden.databases import golden_databases, unpack
from tests.integration.cli.conftest import BIN

SECONDS_MAX = 60


def test_progress_is_shown_on_a_terminal_and_results_are_not_mixed_with_it(tmp_path: Path) -> None:
    """Standard error has what is being done, standard output the steps; without a terminal standard error is empty."""
    for terminal in (True, False):
        data = tmp_path / str(terminal)
        data.mkdir()
        unpack(golden_databases()[0], data / "log.sqlite")
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [BIN, "migrate", "up", "--data", data],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs if terminal else subprocess.PIPE,
        ) as process:
            os.close(theirs)
            output, errors = process.communicate(timeout=SECONDS_MAX)
        shown = os.read(ours, 65_536) if terminal else errors
        os.close(ours)
        assert process.returncode == 0
        assert output.startswith(b"applied: log: "), output
        if terminal:
            assert b"checking before the migration" in shown
            assert b"copying the log to" in shown
        else:
            assert shown == b""
