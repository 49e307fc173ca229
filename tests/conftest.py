"""What holds for every test."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from tests.engine.fixture import carrier, engine, usual_engine
from tests.engine.own import gvisor

__all__ = ["Figures", "carrier", "engine", "gvisor", "usual_engine"]

Figures = Callable[[str], None]

# How long an example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Under `nohup` SIGHUP is ignored, also by every process that is started here: the tests of SIGHUP need its default.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Figures:
    """What prints a text at the end of the run, though output is captured and the test is run by another process."""

    def note(text: str) -> None:
        record_property("figures", text)

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have counted."""
    told: list[str] = []
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and report.when == "call":
                told += [f"{report.nodeid}\n{text}" for name, text in report.user_properties if name == "figures"]
    if told:
        terminalreporter.section("figures")
        for text in told:
            terminalreporter.write_line(text)
