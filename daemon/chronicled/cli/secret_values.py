"""Where the command line takes secrets from: variables, files and standard input, never from arguments."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from chronicled.events.errors import InvalidRequest

__all__ = ["FROM_HELP", "read_value", "read_values"]

FROM_HELP = "its value is that of the environment variable NAME, or with =PATH the file's (- for standard input)"


def read_values(given: list[str]) -> Mapping[str, str]:
    """Read `NAME` and `NAME=PATH` options.

    Raises:
        InvalidRequest: a variable is not set, or a file is no text.
        OSError: a file cannot be read.
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, path = text.partition("=")
        found[name] = read_value(name, path if equals else None)
    return found


def read_value(name: str, path: str | None) -> str:
    """Return a secret's value: of the variable of its name, or of a file, without the newline at the file's end.

    Raises:
        InvalidRequest: the variable is not set, or the file is no text.
        OSError: the file cannot be read.
    """
    if path is None:
        value = os.environ.get(name)
        if value is None:
            raise InvalidRequest(
                f"The environment variable {name} is not set: set it, or name a file as {name}=PATH. A value is never "
                "taken from the command line, where everybody could read it."
            )
        return value
    data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise InvalidRequest(f"The value of {name} is no text: encode it, as base64 for example.") from None
