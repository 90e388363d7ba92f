"""Logging of the agent: one JSON object a line on stderr. Set up once, at start."""

import logging
import os
import sys

import structlog
from structlog.typing import FilteringBoundLogger


def configure_logging(*, verbose: bool) -> None:
    """Send structlog's events to stderr as JSON with an RFC 3339 time in UTC."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's own lines are not JSON; its failures reach our log
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def logger(host_id: str) -> FilteringBoundLogger:
    """Return a logger bound to the host."""
    log: FilteringBoundLogger = structlog.get_logger().bind(host_id=host_id)
    return log
