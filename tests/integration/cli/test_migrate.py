"""`chronicled migrate up` as a person at a terminal sees it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

from tests.golden.databases import golden_databases, unpack
from tests.integration.cli.conftest import BIN

from chronicled.storage.schema import schema_status
from chronicled.storage.verification import verify_file

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


def test_ctrl_c_ends_a_migration_at_once_and_the_next_one_goes_on(tmp_path: Path) -> None:
    """Interrupted in a check, in the copy or in the work, it ends with 130 and nothing half done."""
    program = """
import os, signal, sys
from chronicled.cli import main, printing
begin, left = sys.argv[1], int(sys.argv[2])
def progress(text):
    global left
    if text.startswith(begin):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGINT)
printing.progress = progress
sys.exit(main(sys.argv[3:]))
"""
    for begin, arrival in (("checking before", 1), ("copying", 1), ("what each segment", 1), ("checking after", 1)):
        data = tmp_path / begin.replace(" ", "-")
        data.mkdir()
        unpack(golden_databases()[0], data / "log.sqlite")
        arguments = [sys.executable, "-c", program, begin, str(arrival), "migrate", "up", "--data", str(data)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
        assert (done.returncode, done.stderr) == (128 + signal.SIGINT, ""), done
        again = subprocess.run(
            [BIN, "migrate", "up", "--data", data], capture_output=True, text=True, timeout=SECONDS_MAX, check=False
        )
        assert again.returncode == 0, again
        status = schema_status(data / "log.sqlite")
        assert (status.pending, status.unfinished) == ((), None)
        assert not verify_file(data / "log.sqlite").problems
