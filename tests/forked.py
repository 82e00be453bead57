"""Runs a part of a test in a process that is forked from the test's."""

from __future__ import annotations

import os
import pickle
import select
import signal
import traceback
from collections.abc import Callable
from typing import Any

_TIMEOUT_S = 60.0


class ChildError(Exception):
    """What was run in the child has raised; the message is its traceback."""


def in_child(function: Callable[[], Any]) -> Any:
    """Returns what ``function`` returns in a forked child, which ends right after it and runs nothing else.

    Raises:
        ChildError: It has raised.
        TimeoutError: The child has not ended in time; it is killed.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        _answer(writing, function)
    os.close(writing)
    try:
        return _taken(reading)
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)  # without effect if it has ended
        os.waitpid(pid, 0)


def _answer(writing: int, function: Callable[[], Any]) -> None:
    """In the child."""
    try:
        answer = True, function()
    except BaseException:  # noqa: BLE001 - the parent raises it
        answer = False, traceback.format_exc()
    try:
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(answer, pipe)
    finally:
        os._exit(0)


def _taken(reading: int) -> Any:
    data = b""
    while True:
        readable, _, _ = select.select([reading], [], [], _TIMEOUT_S)
        if not readable:
            raise TimeoutError(f"a forked child has not answered within {_TIMEOUT_S:g} s")
        piece = os.read(reading, 65536)
        if not piece:
            break
        data += piece
    returned, value = pickle.loads(data)
    if not returned:
        raise ChildError(value)
    return value


def error_in_child(function: Callable[[], object]) -> BaseException | None:
    """Returns the error that ``function`` raises in a forked child, None if it raises none."""
    error: BaseException | None = in_child(lambda: error_of(function))
    return error


def error_of(function: Callable[[], object]) -> BaseException | None:
    """Returns the error that ``function`` raises, None if it raises none."""
    try:
        function()
    except Exception as error:  # noqa: BLE001 - whichever it is
        return error
    return None
