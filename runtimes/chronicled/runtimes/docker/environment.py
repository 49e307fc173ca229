"""The environment of a sandbox's commands: the image's own, and what a command without a person at it needs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Final

from chronicled.runtimes.docker.plan import WORKSPACE
from chronicled.runtimes.process import HINTS, PATH_DEFAULT

__all__ = ["OWN", "blanked", "commands_environment", "variables"]

OWN: Final[Mapping[str, str]] = {"LC_ALL": "C", "OPENSSL_CONF": "/dev/null"}
"""What the action server itself has. Any other locale is read from the image, and so is the code that converts its
character set, which the C library loads into the process; and OpenSSL loads what the image's configuration names."""

_HARMFUL_PREFIXES: Final = (
    *("LD_", "GLIBC_", "MALLOC_", "PYTHON", "GCONV_", "LOCPATH", "NLSPATH", "BASH_ENV", "TINI_", "LANG", "LC_"),
    *("OPENSSL_", "SSL", "RES_OPTIONS", "HOSTALIASES", "LOCALDOMAIN", "TZ"),
)
"""What the carried interpreter and its libraries would obey: an image's preloaded library kills it before it begins."""
_ALWAYS: Final = ("LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT")


def variables(entries: Iterable[str]) -> dict[str, str]:
    """Return the variables of an image's `NAME=VALUE` entries."""
    pairs = (entry.partition("=") for entry in entries)
    return {name: value for name, _, value in pairs if name}


def blanked(image: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names that the container's own environment holds empty; commands do see the image's values."""
    harmful = {*_ALWAYS, *(name for name in image if name.startswith(_HARMFUL_PREFIXES))}
    return tuple(sorted(harmful.difference(OWN)))


def commands_environment(
    image: Mapping[str, str], network: Mapping[str, str], session: Mapping[str, str]
) -> dict[bytes, bytes]:
    """Return what shells begin with, complete: later ones win among defaults, image, network and session."""
    merged = {"PATH": PATH_DEFAULT, "HOME": WORKSPACE, **HINTS, **image, **network, **session}
    return {os.fsencode(name): os.fsencode(value) for name, value in merged.items()}
