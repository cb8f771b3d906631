"""Where a process's log goes and in which form: JSON in production, key=value for people, without secrets in both.

``configure`` is called once, first thing, by each process's main(). Everybody else calls ``structlog.get_logger()`` or
the standard library's ``logging``, which ends in the same place.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

_rich = sys.modules.get("rich")
if _rich is None:
    # structlog loads it, where it is installed, to draw tracebacks that we never show: 5 MB in each process.
    sys.modules["rich"] = None  # pyright: ignore[reportArgumentType]
import structlog  # noqa: E402

if _rich is None:
    del sys.modules["rich"]

from innkeeper.logs.redaction import redact  # noqa: E402


def configure(*, form: Literal["json", "console"], level: str = "INFO") -> None:
    """Send everything to standard error, one line an event. ``form`` json for machines, console for people."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    last: structlog.typing.Processor = structlog.processors.JSONRenderer() if form == "json" else _for_people
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            # Tracebacks become text before anything is hidden, so that theirs is too. Locals are never shown.
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                redact,
                last,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Each request to another process, each connection of the pool: noise, and addresses may carry codes.
    for name in ("uvicorn", "httpx2", "httpcore2", "psycopg.pool", "apscheduler.executors"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It warns of every tick whose predecessor still waits: a dozen lines a second while the state database is away.
    logging.getLogger("apscheduler.scheduler").setLevel(logging.ERROR)


def _for_people(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    """``time level event key=value ...``; a traceback follows on lines of its own, nothing else has more than one."""
    told = dict(event)
    traceback = told.pop("exception", None)
    head = [str(told.pop("timestamp", "")), f"{told.pop('level', '')!s:8}", _word(told.pop("event", ""))]
    line = " ".join([*head, *(f"{key}={_word(value)}" for key, value in told.items())])
    return f"{line}\n{traceback}" if traceback else line


def _word(value: object) -> str:
    text = str(value)
    return text if text.isprintable() else repr(text)
