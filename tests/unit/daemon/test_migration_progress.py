"""What a migration at the start tells: a line for each thing, one each few seconds, and patience asked of systemd."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from chronicled.daemon.migration_progress import EXTENDED_SECONDS, LINE_SECONDS, MigrationProgress
from chronicled.events.clock import SystemClock


class HandClock(SystemClock):
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Return what it was set to."""
        return self.now


def test_it_tells_enough_and_not_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand words in a second are one line; what takes long is heard of again; each line extends the start."""
    clock = HandClock()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told, capture_logs() as lines:
        told.bind(str(tmp_path / "notify"))
        told.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        progress = MigrationProgress(clock)
        for done in range(1000):
            clock.now += 0.001
            progress("copying", done, 1000)
        clock.now += LINE_SECONDS
        progress("copying", 1000, 1000)
        progress("checking", 0, 0)
        assert [(line["doing"], line["percent"]) for line in lines] == [
            ("copying", 0),
            ("copying", 100),
            ("checking", None),
        ]
        messages = [told.recv(4096).decode() for _ in lines]
    assert messages[1] == f"EXTEND_TIMEOUT_USEC={EXTENDED_SECONDS}000000\nSTATUS=copying: 100 %"
    assert messages[2].endswith("STATUS=checking")
