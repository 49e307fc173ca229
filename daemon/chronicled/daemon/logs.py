"""What the daemon says of itself: structured lines on standard error, never a payload."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import structlog

from chronicled.daemon.configuration import LogSettings

__all__ = ["configure_logs", "redact_logs"]


def _as_it_is(text: str) -> str:
    return text


_redact: Callable[[str], str] = _as_it_is


def redact_logs(redact: Callable[[str], str]) -> None:
    """Pass every text that is logged from now on through `redact`: what an error quotes may hold a secret."""
    global _redact
    _redact = redact


def _redacted(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: _clean(value) for name, value in fields.items()}


def _clean(value: Any) -> Any:
    """Return the value without secrets, however deep they lie in it."""
    if value is None or isinstance(value, bool | int | float):
        return value
    members: Any = value
    if isinstance(value, Mapping):
        return {_redact(str(name)): _clean(member) for name, member in members.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(item) for item in members]
    # What has another type would be logged by its `repr`.
    return _redact(value if isinstance(value, str) else repr(value))


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return _redact(super().format(record))


def configure_logs(settings: LogSettings) -> None:
    """Send structlog's and the standard library's lines to standard error, as JSON or for a person's eyes."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    console = settings.form == "console" or (settings.form == "auto" and sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.ExceptionRenderer(),
            _redacted,
            structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(levelname)s %(name)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING))
