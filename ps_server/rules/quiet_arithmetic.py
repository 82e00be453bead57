"""NumPy arithmetic without floating-point warnings, at a fraction of the cost of ``np.errstate``."""

from __future__ import annotations

import contextvars
import threading

import numpy as np


class _Quiet(threading.local):
    """Runs functions in a context in which NumPy's warnings were turned off once and for all.

    NumPy keeps its error state in a context variable. A context cannot be entered by two threads at a time: each has
    its own.
    """

    def __init__(self) -> None:
        context = contextvars.Context()
        context.run(np.seterr, all="ignore")
        self.run = context.run


quiet = _Quiet()
"""``quiet.run(function, *args)`` calls a function; not to be nested."""
