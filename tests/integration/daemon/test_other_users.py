from __future__ import annotations

import http.client
import os
import socket
import stat
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from anyio import to_thread
from tests.integration.daemon.process import DaemonProcess

NAMED, OTHER = 64001, 64002


@pytest.fixture
def open_place() -> Generator[Path]:
    """A folder that every user of the machine reaches."""
    with tempfile.TemporaryDirectory(prefix="chronicled-users-") as place:
        os.chmod(place, 0o755)
        yield Path(place)


def ask_as(uid: int, path: Path) -> int:
    """Return the status that a user gets from a daemon.

    Raises:
        PermissionError: he does not even reach its socket.
    """
    client = socket.socket(socket.AF_UNIX)
    try:
        os.seteuid(uid)
        try:
            client.connect(str(path))
        finally:
            os.seteuid(0)
        connection = http.client.HTTPConnection("daemon")
        connection.sock = client
        connection.request("GET", "/v1/sessions")
        return connection.getresponse().status
    finally:
        client.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="to be another user takes root: sudo make test")
async def test_users_that_are_named_reach_the_daemon_and_no_others(open_place: Path) -> None:
    """Whom `http.allowed_uids` names is answered, everybody else gets 403; without it nobody else gets that far."""
    daemon = DaemonProcess(open_place, f"http.allowed_uids=[{NAMED}]")
    daemon.socket = open_place / "api" / "s"
    await daemon.start()
    try:
        assert await to_thread.run_sync(ask_as, NAMED, daemon.socket) == 200
        assert await to_thread.run_sync(ask_as, OTHER, daemon.socket) == 403
        assert stat.S_IMODE(daemon.socket.parent.stat().st_mode) == 0o711
        assert stat.S_IMODE(daemon.data.stat().st_mode) == 0o700
    finally:
        await daemon.aclose()
    daemon.settings = ()
    daemon.socket.parent.chmod(0o755)
    await daemon.start()
    try:
        with pytest.raises(PermissionError):
            await to_thread.run_sync(ask_as, NAMED, daemon.socket)
    finally:
        await daemon.aclose()
