"""What the daemon says of itself: structured lines on standard error, never a payload."""

from __future__ import annotations

import logging
import sys

import structlog

from chronicled.daemon.configuration import LogSettings

__all__ = ["configure_logs"]


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
            structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        stream=sys.stderr, level=max(level, logging.WARNING), format="%(levelname)s %(name)s %(message)s"
    )
