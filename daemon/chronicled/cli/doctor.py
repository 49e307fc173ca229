"""`chronicled doctor`: is this machine fit? Each check says what was found and what to do."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import resource
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import msgspec

from chronicled.cli import printing
from chronicled.cli.connection import add_connection, token_of
from chronicled.cli.exit_code import ACTION_FAILED, OK
from chronicled.client import connect
from chronicled.daemon.locations import data_directory
from chronicled.events.errors import ChronicledError, ConfigurationError

__all__ = ["configure"]

SYNC_COUNT: Final = 20
ENGINE_SECONDS: Final = 10.0
FREE_BYTES_MIN: Final = 1 << 30
DESCRIPTORS_MIN: Final = 1024


class Finding(msgspec.Struct):
    """What one check found."""

    check: str
    verdict: Literal["ok", "note", "bad"]
    found: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--data", metavar="DIR", help="the daemon's data directory (default: the XDG state directory)")
    parser.add_argument("--config", metavar="FILE", help="the daemon's configuration (default: as `serve` finds it)")
    add_connection(parser)
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Make every check; exit code 1 when one is bad."""
    directory = Path(options.data or data_directory(os.environ))
    checks: list[Callable[[], Finding]] = [
        check_system,
        check_python,
        check_sqlite,
        check_shell,
        lambda: check_disk(directory),
        lambda: check_space(directory),
        check_limits,
        check_isolation,
        lambda: check_engine(options.config),
        lambda: check_carrier(directory),
        lambda: check_daemon(options.socket, token_of(options.token_file)),
    ]
    findings = [check() for check in checks]
    if options.json:
        for finding in findings:
            printing.json_line(finding)
    else:
        printing.table([(f"{finding.verdict:<4}", finding.check, finding.found) for finding in findings])
    return ACTION_FAILED if any(finding.verdict == "bad" for finding in findings) else OK


def check_system() -> Finding:
    """Linux, with descriptors of processes: what proves the end of a sandbox."""
    if not sys.platform.startswith("linux") or not hasattr(os, "pidfd_open"):
        return Finding("system", "bad", f"{platform.system()}: chronicled needs Linux 5.4 or later (pidfd)")
    return Finding("system", "ok", f"Linux {platform.release()}, {os.cpu_count()} processors")


def check_python() -> Finding:
    """3.11 or later."""
    verdict: Literal["ok", "bad"] = "ok" if sys.version_info >= (3, 11) else "bad"
    return Finding("python", verdict, f"{platform.python_version()}, at {sys.executable}")


def check_sqlite() -> Finding:
    """Strict tables at least; whether the version has the WAL-reset bug."""
    version = sqlite3.sqlite_version_info
    if version < (3, 37, 0):
        return Finding("sqlite", "bad", f"{sqlite3.sqlite_version}: 3.37 or later is needed (STRICT tables)")
    note = ""
    if version < (3, 51, 3):
        note = "; with its WAL-reset bug two writers could corrupt the log: never write to it yourself"
    return Finding("sqlite", "note" if note else "ok", sqlite3.sqlite_version + note)


def check_shell() -> Finding:
    """A bash for the process runtime."""
    bash = shutil.which("bash")
    return Finding("bash", "ok" if bash else "bad", bash or "none on the PATH: the process runtime needs it")


def check_disk(directory: Path) -> Finding:
    """What a commit waits for."""
    place = directory
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            times: list[float] = []
            for _ in range(SYNC_COUNT):
                file.write(b"\0" * 4096)
                file.flush()
                begin = time.perf_counter()
                os.fdatasync(file.fileno())
                times.append(time.perf_counter() - begin)
    except OSError as error:
        return Finding("disk sync", "bad", f"{place} cannot be written: {error.strerror}")
    milliseconds = statistics.median(times) * 1000
    return Finding("disk sync", "ok" if milliseconds < 20 else "note", f"{milliseconds:.2f} ms (median) at {place}")


def check_space(directory: Path) -> Finding:
    """Room for the log."""
    place = directory
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    found = f"{free / (1 << 30):.1f} GiB free at {place}"
    return Finding("disk space", "ok" if free > FREE_BYTES_MIN else "note", found)


def check_limits() -> Finding:
    """Descriptors: each sandbox and each client needs a few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"{soft} open files (at most {hard})"
    return Finding("limits", "ok" if soft >= DESCRIPTORS_MIN else "note", found)


def check_isolation() -> Finding:
    """What the process runtime does not promise."""
    return Finding(
        "isolation", "note", "the process runtime does not isolate: its commands run as this user; run what you trust"
    )


def check_engine(configuration: str | None) -> Finding:
    """Whether the daemon's engine answers, and what of the docker runtime's controls it can give."""
    from chronicled.daemon.configuration import load
    from chronicled.runtimes.docker.engine import Engine
    from chronicled.runtimes.docker.facts import EngineFacts

    try:
        settings = load(configuration).docker
        engine = Engine(settings.host, settings.tls_directory)
    except ConfigurationError as error:
        return Finding("engine", "bad", f"the configuration does not say which: {error.detail}")

    async def ask() -> EngineFacts:
        try:
            async with asyncio.timeout(ENGINE_SECONDS):
                return await engine.facts()
        finally:
            await engine.aclose()

    path = engine.address.removeprefix("unix://")
    if engine.local and not os.path.exists(path):
        return Finding("engine", "note", f"none at {path}: sessions have the process runtime only")
    try:
        facts = asyncio.run(ask())
    except (ChronicledError, TimeoutError) as error:
        told = error.detail if isinstance(error, ChronicledError) else "it does not answer"
        return Finding("engine", "note", f"{engine.address}: {told}")
    lacks = [
        word
        for word, there in (
            ("seccomp (no sandbox starts without it)", facts.seccomp),
            ("limits of memory, processors and processes (docker.limits_unkept_allowed)", not facts.unkept),
            ("a limit of swap (docker.swap_unlimited_allowed)", facts.swap_limit or bool(facts.unkept)),
            ("limits of disk space", facts.limits_disk),
            ("gVisor (runsc)", "runsc" in facts.runtimes),
        )
        if not there
    ]
    found = f"answers at {engine.address}, {facts.architecture}, storage {facts.storage}"
    found += f"; it lacks {', '.join(lacks)}" if lacks else ""
    return Finding(
        "engine", "bad" if not facts.seccomp else "note" if facts.unkept or not facts.swap_limit else "ok", found
    )


def check_carrier(directory: Path) -> Finding:
    """Whether what goes into containers is there, or can be made."""
    from chronicled.daemon.containers import CARRIERS_NAME
    from chronicled.runtimes.carrier import carriers

    place = directory / CARRIERS_NAME
    made = list(carriers(place)) if place.is_dir() else []
    if made:
        return Finding("carrier", "ok", f"{len(made)} in {place}")
    if shutil.which("apt-get") is None:
        return Finding("carrier", "note", f"none in {place}, and no apt-get here: bring one with `chronicled carrier`")
    return Finding("carrier", "ok", "not made yet: the first container does it, or `chronicled carrier build`")


def check_daemon(address: str | None, token: str | None) -> Finding:
    """Whether a daemon answers."""

    async def ask() -> Finding:
        async with connect(address, token=token, retry_seconds=0.0, answer_seconds=5.0) as client:
            ready = await client.ready()
            answer = f"answers at {client.address}" if ready else f"none answers at {client.address}: chronicled serve"
            return Finding("daemon", "ok" if ready else "note", answer)

    return asyncio.run(ask())
