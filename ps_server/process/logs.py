"""The log of a ps process: on standard error, for people or for machines."""

from __future__ import annotations

import enum
import logging
import sys
from collections.abc import Sequence
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from ps_protocol.command_line.word_wrap import wrap_for


class LogFormat(enum.StrEnum):
    """How log lines look."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


def configure_logs(*, level: str, log_format: LogFormat, task: str, stream: TextIO | None = None) -> None:
    """Sends everything that is logged in this process to one stream, a line each.

    Args:
        level: Name of the lowest level that is shown, as "info".
        log_format: Auto is console on a terminal and JSON elsewhere.
        task: The task that speaks, as "ps:0".
        stream: Standard error by default.
    """
    stream = sys.stderr if stream is None else stream
    for_people = log_format is LogFormat.CONSOLE or (log_format is LogFormat.AUTO and stream.isatty())
    common = _common_processors(task, for_people)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *common,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=common,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(for_people, stream),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def log_through_logging(*, level: str, task: str) -> None:
    """Hands what the ps logs to ``logging``, as lines of text, and leaves it to the program where they go.

    Args:
        level: Name of the lowest level that is shown, as "info", unless the program shows less.
        task: The task that speaks, as "ps:0".
    """
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_common_processors(task, for_people=False)[3:],
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"], drop_missing=True),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    shown = max(logging.getLevelNamesMapping()[level.upper()], logging.getLogger().level)
    logging.getLogger("ps_server").setLevel(shown)


def _common_processors(task: str, for_people: bool) -> list[Processor]:
    def add_task(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["task"] = task
        return event

    if for_people:  # one who looks at a terminal knows the day, and needs no name of a module
        return [structlog.stdlib.add_log_level, structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False), add_task]
    return [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_task,
    ]


def _renderers(for_people: bool, stream: TextIO) -> Sequence[Processor]:
    if for_people:
        console = structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=0, pad_level=False)
        return [console, lambda _logger, _method, text: wrap_for(stream, str(text))]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
