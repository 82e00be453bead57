"""The table in which ``get_variable`` finds variables again, whole ones and partitioned ones."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from worker_client.graph.graph import Graph
from worker_client.scopes.arguments import Getter, VariableArguments
from worker_client.scopes.partitioned_getter import PartitionedVariables
from worker_client.scopes.whole_variables import WholeVariables
from worker_client.values.shapes import ShapeLike


class VariableTable:
    """The variables of one graph by full name, as ``Graph.slot`` keeps it. Thread-safe.

    Args:
        graph: The graph.

    Attributes:
        graph: The graph.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self._whole = WholeVariables(graph)
        self._partitioned = PartitionedVariables(self._whole)

    def get(self, arguments: VariableArguments, custom_getter: Getter | None = None) -> Any:
        """Gets or creates a variable by its full name, through ``custom_getter`` if there is one."""
        if custom_getter is None:
            return self._get(arguments)
        if not callable(custom_getter):
            name = arguments.name
            raise ValueError(f"variable {name}: the custom_getter should be a function, not {custom_getter!r}")  # noqa: TRY004
        keywords = arguments._asdict()
        if not _takes_constraint(custom_getter):
            del keywords["constraint"]
        return custom_getter(getter=self._getter, **keywords)

    def _getter(self, *args: Any, **keywords: Any) -> Any:
        """The getter that custom getters are given; its arguments are those of ``VariableArguments``."""
        return self._get(VariableArguments(*args, **keywords))

    def _get(self, arguments: VariableArguments) -> Any:
        name, partitioner = arguments.name, arguments.partitioner
        if partitioner is not None and not _is_scalar(arguments.shape):
            if not callable(partitioner):
                raise ValueError(f"variable {name}: the partitioner should be a function, not {partitioner!r}")
            with self.graph.name_scope(None):
                return self._partitioned.get(arguments)
        if partitioner is None and arguments.reuse is True and name in self._partitioned:
            return self._partitioned.get(arguments)
        if f"{name}/part_0" in self._whole:
            raise ValueError(
                f"variable {name} already exists in parts ({name}/part_0 and so on), but no partitioner is given; give "
                f"the partitioner it was made with, or another name"
            )
        return self._whole.get(arguments)


def _is_scalar(shape: ShapeLike) -> bool:
    return isinstance(shape, Sequence) and not shape


def _takes_constraint(getter: Getter) -> bool:
    code = getattr(getter, "__code__", None)
    if code is not None and code.co_flags & inspect.CO_VARKEYWORDS and not hasattr(getter, "__wrapped__"):
        return True  # as most do; known at once, while making a signature takes longer than finding the variable
    parameters = inspect.signature(getter).parameters.values()
    return any(each.name == "constraint" or each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)
