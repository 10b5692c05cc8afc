"""The log of the server: one JSON object a line on stderr, or coloured lines if a person looks on."""

from __future__ import annotations

import sys

import structlog


def configure_logs() -> None:
    """Send the log to stderr; the rest of the process's output stays as it is."""
    shown: list[structlog.typing.Processor]
    if sys.stderr.isatty():
        # The default traceback shows the values of variables: what requests hold, and it takes seconds to draw.
        shown = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        shown = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *shown,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
