"""What holds for every test."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings
from tests.engine.fixture import carrier, engine, usual_engine
from tests.engine.own import gvisor

__all__ = ["carrier", "engine", "gvisor", "usual_engine"]

# How long an example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Under `nohup` SIGHUP is ignored, also by every process that is started here: the tests of SIGHUP need its default.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
