"""The statement that opens a name scope in the default graph, and others that forward to it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from worker_client.graph.default_graph import get_default_graph, graph_of
from worker_client.graph.defaults import Default, enter, leave
from worker_client.graph.device import DeviceLike
from worker_client.graph.graph import VariableCreator
from worker_client.graph.name_scopes import OpenNameScope


class name_scope:  # noqa: N801 - TensorFlow's name, used like a function
    """Prefixes the names of the operations and of the ``Variable``s made inside the block.

    Gives the full name of the scope with a slash at its end, "" at the root. It is a new scope on every entry. It does
    not affect the variables of ``get_variable``; ``variable_scope`` names those.

    Args:
        name: A name, which is made unique; with a slash at its end, a full name that is entered exactly as it is; None
            or "" for the root.
        default_name: Used if ``name`` is None.
        values: Tensors and variables, to whose graph the scope belongs.

    Raises:
        TypeError: ``default_name`` is no string.
        ValueError: On entering, if the name is not valid, if ``values`` are given without a name, or if they belong to
            several graphs.
    """

    def __init__(self, name: str | None, default_name: str | None = None, values: Iterable[Any] | None = None):
        if not (default_name is None or isinstance(default_name, str)):
            raise TypeError(f"default_name should be a string, not {default_name!r}; values come after it")
        self._name = default_name if name is None else name
        self._values = None if values is None else list(values)
        self._open: list[tuple[OpenNameScope, Default | None]] = []

    @property
    def name(self) -> str | None:
        """The name as given."""
        return self._name

    def __enter__(self) -> str:
        if self._name is None and self._values is not None:
            raise ValueError("a name scope with values needs a name; give name or default_name")
        graph = graph_of(self._values or ())
        scope = graph.name_scope(self._name)
        full_name = scope.__enter__()
        self._open.append((scope, enter(graph) if self._values else None))
        return full_name

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        scope, entry = self._open.pop()
        scope.leave()
        if entry is not None:
            leave(entry)


def op_scope(values: Iterable[Any] | None, name: str | None, default_name: str | None = None) -> name_scope:
    """The older form of ``name_scope``, with ``values`` first."""
    return name_scope(name, default_name, values)


def device(device_name_or_function: DeviceLike) -> AbstractContextManager[None]:
    """Places what is made inside the block; see ``Graph.device``."""
    return get_default_graph().device(device_name_or_function)


def colocate_with(op: Any, ignore_existing: bool = False) -> AbstractContextManager[None]:
    """Places what is made inside the block where ``op`` is; see ``Graph.colocate_with``."""
    return get_default_graph().colocate_with(op, ignore_existing)


def container(container_name: str) -> AbstractContextManager[str]:
    """Notes a container on what is made inside the block; see ``Graph.container``."""
    return get_default_graph().container(container_name)


def variable_creator_scope(variable_creator: VariableCreator) -> AbstractContextManager[None]:
    """Makes variables through a creator inside the block.

    Args:
        variable_creator: Called as ``variable_creator(next_creator, **keywords)`` with the arguments of ``Variable``
            as keywords; returns ``next_creator(**keywords)``, or what it makes of that. The innermost is called first.
    """
    return get_default_graph().variable_creator_scope(variable_creator)
