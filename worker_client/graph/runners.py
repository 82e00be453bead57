"""Which session runs what is evaluated: the one given, or the innermost that is the default on this thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from ps_protocol.operations import PsOperation


class Runner(Protocol):
    """A session, as far as tensors, operations and variables of a graph need it."""

    @property
    def graph(self) -> Any:
        """The graph that it runs."""
        ...

    def run(self, fetches: Any, feed_dict: Mapping[Any, Any] | None = None) -> Any:
        """Runs what is asked for, and returns the values in the structure of ``fetches``."""
        ...

    def request(self, variable: Any, operation: PsOperation) -> None:
        """Carries out one operation on a variable, outside the graph; raises its error."""
        ...


_Runner = TypeVar("_Runner", bound=Runner)


class _Stack(threading.local):
    def __init__(self) -> None:
        self.runners: list[Runner] = []


_stack = _Stack()


@contextmanager
def as_default(runner: _Runner) -> Iterator[_Runner]:
    """Makes a session the default of this thread inside the block."""
    _stack.runners.append(runner)
    try:
        yield runner
    finally:
        _stack.runners.remove(runner)


def find_default_runner() -> Runner | None:
    """Returns the innermost session that is the default on this thread, or None."""
    return _stack.runners[-1] if _stack.runners else None


def runner_for(graph: object, runner: Runner | None, what: str) -> Runner:
    """Returns the session given, or the default one.

    Args:
        graph: The graph that it must run.
        runner: The session given, if one is.
        what: Name of what it is to run, for errors.

    Raises:
        ValueError: There is none, or it runs another graph.
    """
    found = runner or find_default_runner()
    if found is None:
        raise ValueError(f"no session to evaluate {what} in; give one, or use `with session.as_default():`")
    if found.graph is not graph:
        raise ValueError(
            f"{what} belongs to another graph than the session; make the session with graph=... of that one"
        )
    return found
