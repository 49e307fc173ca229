"""Debian packages and wheels of any architecture, fetched without root and without touching the system's own state."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from chronicled.runtimes.carrier.command import find_program, run_program
from chronicled.runtimes.carrier.failure import CarrierFailed
from chronicled.runtimes.carrier.recipe import PYTHON, SUITE, Architecture

__all__ = ["MIRROR_VARIABLE", "fetch_packages", "fetch_wheel", "wheel_version"]

MIRROR_VARIABLE: Final = "CHRONICLED_DEBIAN_MIRROR"
"""Names a mirror of Debian where apt has none configured."""
_APT_ADVICE: Final = "make carriers on Debian or Ubuntu, or in a container of one of them"
_FETCH_ADVICE: Final = f"check the network, apt's sources and {MIRROR_VARIABLE}"
_WHEEL_ADVICE: Final = "check the network and pip's configuration"
_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"


def fetch_packages(names: Sequence[str], architecture: str, state: Path, target: Path) -> dict[str, str]:
    """Download packages and unpack them into `target`; return their versions.

    Args:
        names: The packages.
        architecture: Debian's name of the architecture.
        state: Folder for apt's lists of that architecture; kept, so that the next time is faster.
        target: Where the files go.

    Raises:
        CarrierFailed: no apt here, no source of the suite, or the network is away.
    """
    apt = find_program("apt-get", _APT_ADVICE)
    unpack = find_program("dpkg-deb", _APT_ADVICE)
    options = _own_state(state, architecture)
    run_program([apt, *options, "-qq", "update"], _FETCH_ADVICE)
    downloads = target.with_name(target.name + "-packages")
    downloads.mkdir(parents=True)
    run_program([apt, *options, "-qq", "download", *names], _FETCH_ADVICE, directory=downloads)
    versions: dict[str, str] = {}
    for path in sorted(downloads.glob("*.deb")):
        words = run_program([unpack, "-W", "--showformat=${Package} ${Version}", path], _APT_ADVICE).split()
        versions[words[0]] = words[1]
        run_program([unpack, "-x", path, target], _APT_ADVICE)
    missing = set(names) - versions.keys()
    if missing:
        raise CarrierFailed(f"apt did not bring {', '.join(sorted(missing))}; {_FETCH_ADVICE}.")
    return versions


def wheel_version(project: str) -> str:
    """Return the version that is installed here: sandboxes get the same."""
    return importlib.metadata.version(project)


def fetch_wheel(project: str, version: str, architecture: Architecture, target: Path) -> None:
    """Download a project's wheel and unpack it into `target`.

    Raises:
        CarrierFailed: there is no such wheel, or the network is away.
    """
    number = PYTHON.removeprefix("python")
    downloads = target.with_name(target.name + "-wheels")
    downloads.mkdir(parents=True)
    platforms = [word for tag in architecture.wheels for word in ("--platform", tag)]
    run_program(
        [
            *(*_pip(), "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"),
            *("--implementation", "cp", "--abi", "cp" + number.replace(".", ""), "--python-version", number),
            *(*platforms, "--dest", str(downloads), f"{project}=={version}"),
        ],
        _WHEEL_ADVICE,
    )
    for path in downloads.glob("*.whl"):
        with zipfile.ZipFile(path) as wheel:
            wheel.extractall(target)


def _pip() -> list[str]:
    try:
        importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError:
        # An environment without a pip of its own.
        return [find_program("pip", "install pip")]
    return [sys.executable, "-m", "pip"]


def _own_state(state: Path, architecture: str) -> list[str]:
    """Return apt's options for a state of its own, with the suite's sources alone."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    (state / "sources.list").write_text("".join(f"{line}\n" for line in _sources()))
    settings = {
        "Dir::State": state,
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        # As root, apt would fetch under another user, who may not write here.
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _sources() -> list[str]:
    signed = f" [signed-by={_KEYRING}]" if os.path.exists(_KEYRING) else ""
    if mirror := os.environ.get(MIRROR_VARIABLE):
        return [f"deb{signed} {mirror} {SUITE} main"]
    known = run_program(
        [
            find_program("apt-get", _APT_ADVICE),
            "indextargets",
            "--format",
            "$(REPO_URI) $(CODENAME) $(ORIGIN) $(COMPONENT)",
        ],
        _FETCH_ADVICE,
    )
    found: list[str] = []
    for line in dict.fromkeys(known.splitlines()):
        words = line.split()
        if len(words) == 4 and words[1].split("-")[0] == SUITE and words[2:] == ["Debian", "main"]:
            found.append(f"deb{signed} {words[0]} {words[1]} main")
    if not found:
        raise CarrierFailed(
            f"apt knows no source of Debian {SUITE}; run `apt-get update` once, or set {MIRROR_VARIABLE} to a mirror."
        )
    return found
