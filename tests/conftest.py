"""What holds for every test."""

from __future__ import annotations

import signal

from tests.engine.fixture import carrier, engine
from tests.engine.own import gvisor

__all__ = ["carrier", "engine", "gvisor"]

# Under `nohup` SIGHUP is ignored, also by every process that is started here: the tests of SIGHUP need its default.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
