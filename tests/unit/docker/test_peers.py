from __future__ import annotations

import os
import subprocess

import pytest

from chronicled.runtimes.action_server.connection import Peer
from chronicled.runtimes.docker.peers import is_of


def test_a_process_of_the_host_is_of_no_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has no container's mark and shares our processes is a stranger; whoever has gone is nobody."""
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        assert not is_of(Peer(sleeper.pid, os.geteuid(), os.getegid()), "0" * 64)
    finally:
        sleeper.kill()
        sleeper.wait()
    assert not is_of(Peer(sleeper.pid, 0, 0), "")


def test_a_process_of_a_namespace_that_is_closed_to_us_may_dial() -> None:
    """Where the kernel does not tell the pid, the token alone decides."""
    assert is_of(Peer(0, 1000, 1000), "0" * 64)
