"""Room on the disk is told."""

from __future__ import annotations

import shutil

from tests.integration.daemon.process import DaemonProcess, until


async def test_the_log_and_the_room_beside_it_are_measured(daemon: DaemonProcess, session: str) -> None:
    """The metrics tell how large the log's files are, and what the disk has left."""
    files = [daemon.data / "log.sqlite", daemon.data / "log.sqlite-wal"]

    def there() -> int:
        return sum(path.stat().st_size for path in files if path.exists())

    async def told_as_it_is() -> bool:
        # The session is still being taken up: what is asked for between two of its events is in neither sum.
        return there() == await daemon.metric("log_bytes") == there() > 0

    await until(told_as_it_is)
    free = await daemon.metric("data_free_bytes")
    assert abs(free - shutil.disk_usage(daemon.data).free) < 1 << 30
