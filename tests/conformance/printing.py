"""Runs a short program and returns what it prints, in the terms that TensorFlow's recorded answers use."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np

import worker_client.compat.v1 as tf
from ps_protocol.errors import DTypeMismatchError, InvalidValueError, ShapeMismatchError, ValueRangeError

_OWN = (DTypeMismatchError, ShapeMismatchError, InvalidValueError, ValueRangeError)
"""Errors that also are one of Python's own, which is what TensorFlow raises."""


def attempted(function: Callable[[], Any]) -> Any:
    """Returns what a function returns, or the name of its error."""
    try:
        return function()
    except Exception as error:  # noqa: BLE001 - which it is is what is printed
        if isinstance(error, _OWN):
            return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins")
        return type(error).__name__


def shown(value: Any) -> Any:
    """Returns values with their dtypes, those of arrays as lists."""
    if isinstance(value, list | tuple):
        return [shown(each) for each in value]
    if isinstance(value, np.ndarray):
        return value.tolist(), str(value.dtype)
    return (value.item(), str(value.dtype)) if isinstance(value, np.generic) else value


def printed_by(code: str) -> str:
    """Returns what a program prints that runs in a graph of its own.

    Args:
        code: May use ``tf``, ``np``, ``t`` for ``attempted`` and ``show`` for ``shown``.
    """
    printed = io.StringIO()
    with tf.Graph().as_default(), contextlib.redirect_stdout(printed):
        exec(compile(code, "program", "exec"), {"tf": tf, "np": np, "t": attempted, "show": shown})
    return printed.getvalue()
