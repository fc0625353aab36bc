"""Logging to standard error: one line of JSON per event, with a static name and fields.

CRITICAL is a loss: work that will not be tried again, or that a process had to be ended for. An
alarm on it covers everything, and nothing else.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any

import structlog


def configure(level: str) -> None:
    """Configure structlog and the logs of libraries alike. Called once per process.

    Raises
    ------
    ValueError
        If ``level`` is not the name of a level.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _without_critical],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Alembic logs the kind of database each time the revision is read.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # These log every request, with URLs that may contain secrets.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    _log_what_python_prints()


def _log_what_python_prints() -> None:
    """Log warnings and uncaught errors, which Python would print as text of several lines."""
    logging.captureWarnings(True)
    log = structlog.get_logger(__name__)

    def of_process(kind: type[BaseException], error: BaseException, _trace: object) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, error.__traceback__)
        else:
            log.error("uncaught", thread=None, exc_info=error)

    def of_thread(ended: threading.ExceptHookArgs) -> None:
        if ended.exc_value is not None:
            log.error(
                "uncaught", thread=ended.thread and ended.thread.name, exc_info=ended.exc_value
            )

    def unraisable(failed: sys.UnraisableHookArgs) -> None:
        log.error("unraisable", place=repr(failed.object), exc_info=failed.exc_value)

    sys.excepthook, threading.excepthook, sys.unraisablehook = of_process, of_thread, unraisable


def _without_critical(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Lower the lines of libraries to ERROR. Dramatiq logs a lost connection as CRITICAL."""
    if event["level"] == "critical":
        event["level"] = "error"
    return event
