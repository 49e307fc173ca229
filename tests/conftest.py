"""What holds for every test."""

from __future__ import annotations

import signal

# A test run under `nohup` ignores SIGHUP, and so would every process that it starts: the tests of SIGHUP need its default.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
