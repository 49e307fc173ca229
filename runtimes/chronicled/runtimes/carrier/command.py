"""Running the programs that a carrier is made with."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from chronicled.runtimes.carrier.failure import CarrierFailed

__all__ = ["find_program", "run_program"]

SECONDS_MAX: Final = 300.0
_WORDS_CHARACTERS: Final = 1500


def find_program(name: str, advice: str) -> str:
    """Return the path of a program.

    Raises:
        CarrierFailed: it is not there.
    """
    path = shutil.which(name)
    if path is None:
        raise CarrierFailed(f"Making a carrier needs {name}, which is not there: {advice}.")
    return path


def run_program(
    command: Sequence[str | Path],
    advice: str,
    *,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a program to its end; return what it printed.

    Raises:
        CarrierFailed: it failed, or took more than five minutes; with its last words and the advice.
    """
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            [str(word) for word in command],
            cwd=directory,
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CarrierFailed(f"{name} has not ended within {SECONDS_MAX:.0f} s; {advice}.") from None
    except OSError as error:
        raise CarrierFailed(f"{name} cannot be run ({error.strerror}); {advice}.") from error
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip())[-_WORDS_CHARACTERS:]
        raise CarrierFailed(f"{name} ended with {done.returncode}; {advice}. It said: {words}")
    return done.stdout
