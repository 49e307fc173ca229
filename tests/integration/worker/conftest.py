from __future__ import annotations

import pytest
from tests.integration.worker.machine import Machine

from chronicled.runtimes.action_server.frames import Transfer


@pytest.fixture(params=["descriptors", "inband"], autouse=True)
def transfer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Transfer:
    """The way of transfer of every sandbox: each test is run by both."""
    value: Transfer = request.param
    monkeypatch.setattr(Machine, "transfers", (value,))
    return value
