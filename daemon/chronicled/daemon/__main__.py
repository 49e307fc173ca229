"""`python -m chronicled.daemon [--config FILE] [SECTION.KEY=VALUE ...]`: a bare daemon."""

from __future__ import annotations

import sys

from chronicled.daemon.application import serve
from chronicled.daemon.configuration import load
from chronicled.events.errors import ConfigurationError


def main(arguments: list[str]) -> int:
    """Run a daemon and return its exit code."""
    file: str | None = None
    if arguments[:1] == ["--config"] and len(arguments) > 1:
        file, arguments = arguments[1], arguments[2:]
    flags: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals:
            print(f"Give settings as SECTION.KEY=VALUE, not {argument!r}.", file=sys.stderr)
            return 2
        flags[name] = value
    try:
        configuration = load(file, flags=flags)
    except ConfigurationError as error:
        print(error.detail, file=sys.stderr)
        return 2
    return serve(configuration)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
