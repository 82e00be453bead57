from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from ps_server.process.logs import LogFormat, configure_logs, log_through_logging


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_writes_json_with_task_and_fields() -> None:
    stream = io.StringIO()
    configure_logs(level="info", log_format=LogFormat.AUTO, task="ps:1", stream=stream)
    structlog.stdlib.get_logger("some.module").info("listening", port=5)
    (line,) = lines_of(stream)
    assert line["timestamp"].endswith("Z")
    del line["timestamp"]
    assert line == {"event": "listening", "port": 5, "task": "ps:1", "level": "info", "logger": "some.module"}


def test_takes_what_other_modules_log_with_its_traceback() -> None:
    stream = io.StringIO()
    configure_logs(level="info", log_format=LogFormat.JSON, task="ps:0", stream=stream)
    try:
        int("no good")
    except ValueError:
        logging.getLogger("other").exception("error %s", "ab12")
    (line,) = lines_of(stream)
    assert (line["event"], line["task"], line["level"], line["logger"]) == ("error ab12", "ps:0", "error", "other")
    assert "ValueError: invalid literal" in line["exception"]


def test_leaves_out_what_is_below_the_level() -> None:
    stream = io.StringIO()
    configure_logs(level="warning", log_format=LogFormat.JSON, task="ps:0", stream=stream)
    structlog.stdlib.get_logger("a").info("no")
    logging.getLogger("b").info("no")
    structlog.stdlib.get_logger("a").warning("yes")
    assert [line["event"] for line in lines_of(stream)] == ["yes"]


@pytest.mark.parametrize(("log_format", "stream"), [(LogFormat.AUTO, Terminal()), (LogFormat.CONSOLE, io.StringIO())])
def test_writes_for_people_on_a_terminal(log_format: LogFormat, stream: io.StringIO) -> None:
    configure_logs(level="info", log_format=log_format, task="ps:0", stream=stream)
    structlog.stdlib.get_logger("a").info("listening", port=5)
    assert "listening" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
    assert ("\x1b[" in stream.getvalue()) == stream.isatty()


def test_a_terminal_gets_a_long_line_broken_between_words() -> None:
    stream = Terminal()
    configure_logs(level="info", log_format=LogFormat.AUTO, task="ps:1", stream=stream)
    store = "615c7db3-5b27-4a12-97fb-db982458716f"
    structlog.stdlib.get_logger("some.module").info("listening", address="127.0.0.1:2222", store=store)
    first, second = stream.getvalue().splitlines()
    assert "listening" in first
    assert store in second


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        pytest.param(logging.INFO, ["event='listening' address='a:1' task='ps:1'"], id="info"),
        pytest.param(logging.WARNING, [], id="warning"),
    ],
)
def test_a_ps_in_another_program_leaves_its_logging_alone(
    caplog: pytest.LogCaptureFixture, shown: int, expected: list[str]
) -> None:
    root = logging.getLogger()
    handlers = root.handlers[:]
    with caplog.at_level(shown):
        log_through_logging(level="info", task="ps:1")
        structlog.stdlib.get_logger("ps_server.test").info("listening", address="a:1")
        structlog.stdlib.get_logger("ps_server.test").debug("too much")
        assert (root.handlers, root.level) == (handlers, shown)
    assert caplog.messages == expected
    logging.getLogger("ps_server").setLevel(logging.NOTSET)
