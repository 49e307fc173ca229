"""Fail-stop: when the log could not be written, nothing more is promised, and the process ends at once."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, Final, NoReturn

import structlog

from chronicled.events import faultpoint
from chronicled.events.errors import (
    ChronicledError,
    ConfigurationError,
    DataDirectoryBusy,
    Refused,
    SchemaTooNew,
    UnitBroken,
)

__all__ = ["EXIT_FAILED", "arm_fault_point", "exit_code", "stop_now", "stop_stuck"]

EXIT_FAILED: Final = 70
"""EX_SOFTWARE: the log failed or does not verify. Supervisors restart; the start then makes durable what there is."""
EXIT_REFUSED: Final = 4
EXIT_USAGE: Final = 2

log: Any = structlog.get_logger("chronicled")


def stop_now(error: BaseException) -> NoReturn:
    """End the process without another write: no clean-up can be trusted, and sandboxes live on."""
    log.critical("the log failed; stopping at once", error=str(error))
    sys.stderr.flush()
    os._exit(EXIT_FAILED)


def stop_stuck(error: BaseException) -> NoReturn:
    """End the process: code of a unit holds it up and cannot be interrupted. Sandboxes live on."""
    log.critical("a unit does not end; stopping at once", error=str(error))
    sys.stderr.flush()
    os._exit(EXIT_FAILED)


def exit_code(error: ChronicledError) -> int:
    """Return the exit code for an error that ends `serve`."""
    if isinstance(error, ConfigurationError | UnitBroken):
        return EXIT_USAGE
    if isinstance(error, DataDirectoryBusy | Refused | SchemaTooNew):
        return EXIT_REFUSED
    return EXIT_FAILED


def arm_fault_point(setting: str) -> None:
    """Arm `name:n`: the process kills itself (SIGKILL) when it reaches the named point for the n-th time.

    Raises:
        ConfigurationError: there is no such point, or n is not a number from 1.
    """
    name, _, text = setting.partition(":")
    if name not in faultpoint.POINTS or not text.isdecimal() or int(text) < 1:
        raise ConfigurationError(
            f"CHRONICLED_FAULT_POINT is NAME:N with a NAME of {', '.join(sorted(faultpoint.POINTS))}, not {setting!r}."
        )
    left = int(text)

    def arrive(point: str) -> None:
        nonlocal left
        if point == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    faultpoint.arm(arrive)
