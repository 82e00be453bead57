"""What is left of a connection in a forked child: errors that say that it is the parent's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ps_protocol.errors import FailedPreconditionError


def parents_connection(task: str = "", *, variable: str = "") -> FailedPreconditionError:
    """Returns the error of every use of a connection in a process that was forked after it was opened.

    Args:
        task: The ps task.
        variable: Full name of the variable that was asked for.
    """
    what = f"variable {variable}: " if variable else ""
    return FailedPreconditionError(
        f"{what}the connection belongs to the process that opened it, from which this one was forked; call connect() "
        f"in this process and get the variables by their names there, or start processes with the 'spawn' method of "
        f"multiprocessing",
        variable=variable,
        task=task,
    )


class Refusal:
    """Stands where the parent had a service or a transport: whatever is asked of it raises.

    Args:
        error: Makes the error.
    """

    def __init__(self, error: Callable[[], Exception]):
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._error()
