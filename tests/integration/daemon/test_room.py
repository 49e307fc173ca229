"""Room on the disk is told."""

from __future__ import annotations

import shutil

from tests.integration.daemon.process import DaemonProcess


async def test_the_log_and_the_room_beside_it_are_measured(daemon: DaemonProcess, session: str) -> None:
    """The metrics tell how large the log's files are, and what the disk has left."""
    files = [daemon.data / "log.sqlite", daemon.data / "log.sqlite-wal"]
    told = await daemon.metric("log_bytes")
    assert told == sum(path.stat().st_size for path in files if path.exists()) > 0
    free = await daemon.metric("data_free_bytes")
    assert abs(free - shutil.disk_usage(daemon.data).free) < 1 << 30
