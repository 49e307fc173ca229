"""`chronicled serve`: run the daemon."""

from __future__ import annotations

import argparse

__all__ = ["configure"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--config", metavar="FILE", help="TOML file (default: the XDG configuration directory)")
    parser.add_argument("--data", metavar="DIR", help="where the log lives (default: the XDG state directory)")
    parser.add_argument("--socket", metavar="PATH", help="Unix socket (default: in the XDG runtime directory)")
    parser.add_argument(
        "--http", metavar="HOST:PORT", help="also listen on TCP, loopback only, with the bearer token in DIR/http.token"
    )
    parser.add_argument(
        "--set", metavar="SECTION.KEY=VALUE", action="append", default=[], help="any other setting; may be repeated"
    )
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Run the daemon until a signal ends it; return its exit code."""
    from chronicled.daemon.application import serve
    from chronicled.daemon.configuration import load
    from chronicled.events.errors import ConfigurationError

    flags = {"data.directory": options.data, "http.socket": options.socket, "http.address": options.http}
    for setting in options.set:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ConfigurationError(f"--set takes SECTION.KEY=VALUE, not {setting!r}.")
        flags[name] = value
    return serve(load(options.config, flags=flags))
