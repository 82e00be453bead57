"""``tf.logging``: the logger "tensorflow" of this process, with TensorFlow 1's functions."""

from __future__ import annotations

import itertools
import logging as _logging
import threading
from typing import Any, Final

from worker_client.values.left_out import getattr_of

__all__ = [
    "DEBUG",
    "ERROR",
    "FATAL",
    "INFO",
    "WARN",
    "TaskLevelStatusMessage",
    "debug",
    "error",
    "fatal",
    "flush",
    "get_verbosity",
    "info",
    "log",
    "log_every_n",
    "log_first_n",
    "log_if",
    "set_verbosity",
    "vlog",
    "warn",
    "warning",
]

DEBUG: Final = _logging.DEBUG
INFO: Final = _logging.INFO
WARN: Final = _logging.WARNING
ERROR: Final = _logging.ERROR
FATAL: Final = _logging.CRITICAL

_LOGGER = _logging.getLogger("tensorflow")
_STACK_LEVEL = 2  # the line that is logged is the caller's

_counts: dict[Any, itertools.count[int]] = {}
_lock = threading.Lock()  # guards: _counts


def get_logger() -> _logging.Logger:
    """Returns the logger."""
    return _LOGGER


def _start() -> None:
    """Lets messages appear on standard error if the program has set up no other place for them."""
    if not _LOGGER.handlers and not _logging.getLogger().handlers:
        handler = _logging.StreamHandler()
        handler.setFormatter(_logging.Formatter("%(levelname)s:%(name)s:%(message)s"))
        _LOGGER.addHandler(handler)
        if _LOGGER.level == _logging.NOTSET:
            _LOGGER.setLevel(WARN)


def log(level: int, msg: str, *args: Any, **kwargs: Any) -> None:
    """Logs a message at a level."""
    _start()
    _LOGGER.log(level, msg, *args, **{"stacklevel": _STACK_LEVEL, **kwargs})


def debug(msg: str, *args: Any, **kwargs: Any) -> None:
    """Logs a message for those who look for faults."""
    log(DEBUG, msg, *args, stacklevel=_STACK_LEVEL + 1, **kwargs)


def info(msg: str, *args: Any, **kwargs: Any) -> None:
    """Logs what a user may want to know."""
    log(INFO, msg, *args, stacklevel=_STACK_LEVEL + 1, **kwargs)


def warning(msg: str, *args: Any, **kwargs: Any) -> None:
    """Logs what may be wrong."""
    log(WARN, msg, *args, stacklevel=_STACK_LEVEL + 1, **kwargs)


warn = warning


def error(msg: str, *args: Any, **kwargs: Any) -> None:
    """Logs what went wrong."""
    log(ERROR, msg, *args, stacklevel=_STACK_LEVEL + 1, **kwargs)


def fatal(msg: str, *args: Any, **kwargs: Any) -> None:
    """Logs what ends a program. It does not end it."""
    log(FATAL, msg, *args, stacklevel=_STACK_LEVEL + 1, **kwargs)


def vlog(level: int, msg: str, *args: Any, **kwargs: Any) -> None:
    """Logs a message at a level."""
    log(level, msg, *args, stacklevel=_STACK_LEVEL + 1, **kwargs)


def log_if(level: int, msg: str, condition: bool, *args: Any) -> None:
    """Logs a message if a condition holds."""
    if condition:
        log(level, msg, *args, stacklevel=_STACK_LEVEL + 1)


def log_first_n(level: int, msg: str, n: int, *args: Any) -> None:
    """Logs a message, but not more than ``n`` times."""
    if _count("first", level, msg) < n:
        log(level, msg, *args, stacklevel=_STACK_LEVEL + 1)


def log_every_n(level: int, msg: str, n: int, *args: Any) -> None:
    """Logs a message the first time, and then every ``n``-th time."""
    if _count("every", level, msg) % n == 0:
        log(level, msg, *args, stacklevel=_STACK_LEVEL + 1)


def _count(*key: Any) -> int:
    with _lock:
        return next(_counts.setdefault(key, itertools.count()))


def set_verbosity(v: int) -> None:
    """Logs nothing below a level."""
    _start()
    _LOGGER.setLevel(v)


def get_verbosity() -> int:
    """Returns the level below which nothing is logged."""
    return _LOGGER.getEffectiveLevel()


def flush() -> None:
    """Makes sure that what was logged is written."""
    for handler in [*_LOGGER.handlers, *_logging.getLogger().handlers]:
        handler.flush()


def TaskLevelStatusMessage(msg: str) -> None:  # noqa: N802 - TensorFlow's name
    """Logs a message as an error."""
    error(msg)


__getattr__ = getattr_of("logging")
