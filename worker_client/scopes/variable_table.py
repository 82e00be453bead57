"""The table in which ``get_variable`` finds variables again, and its rules for those that are cut into parts."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ps_protocol.errors import ShapeMismatchError
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import PartitionSlice, VariableSpec
from worker_client.deferred.operands import tensor_of
from worker_client.deferred.partitioned import partitioned_variable, sliced
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Tensor
from worker_client.initializers.arrays import part_value
from worker_client.initializers.standard import default_initializer
from worker_client.scopes.arguments import Getter, VariableArguments
from worker_client.scopes.reuse import WholeVariables, check_shared
from worker_client.values.dtypes import DType, as_dtype
from worker_client.values.shapes import ShapeLike, TensorShape
from worker_client.variables.factory import EagerVariableFactory
from worker_client.variables.partitioned import VariableInParts
from worker_client.variables.partitioners import partitions_of, parts

_LOG = logging.getLogger(__name__)


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
        # Changed only by the thread that has claimed the name, and read without a lock.
        self._partitioned: dict[str, VariableInParts] = {}
        self._otherwise_cut: dict[
            str, list[int]
        ] = {}  # what was asked for of those that the cluster has in other parts

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

    def find(self, name: str) -> Any:
        """Returns the variable of a full name, a list of the parts of one that is cut, or None."""
        found = self._whole.find(name)
        if found is not None:
            return found
        cut: list[Any] = []
        while (part := self._whole.find(f"{name}/part_{len(cut)}")) is not None:
            cut.append(part)
        return cut or None

    def names(self) -> list[str]:
        """Returns the full names of all variables, of those that are cut each once."""
        return list(dict.fromkeys([name.partition("/part_")[0] for name in self._whole.names()]))

    def _getter(self, *args: Any, **keywords: Any) -> Any:
        """The getter that custom getters are given; its arguments are those of ``VariableArguments``."""
        return self._get(VariableArguments(*args, **keywords))

    def _get(self, arguments: VariableArguments) -> Any:
        name, partitioner = arguments.name, arguments.partitioner
        if partitioner is not None and not _is_scalar(arguments.shape):
            if not callable(partitioner):
                raise ValueError(f"variable {name}: the partitioner should be a function, not {partitioner!r}")
            with self.graph.name_scope(None):
                return self._get_partitioned(arguments)
        if partitioner is None and arguments.reuse is True and name in self._partitioned:
            return self._get_partitioned(arguments)
        if f"{name}/part_0" in self._whole:
            raise ValueError(
                f"variable {name} already exists in parts ({name}/part_0 and so on), but no partitioner is given; give "
                f"the partitioner it was made with, or another name"
            )
        return self._whole.get(arguments)

    def get_beside(self, arguments: VariableArguments, place: PartitionSlice | None) -> Any:
        """Gets or creates a whole variable that belongs to another one, and so is cut as that is.

        Args:
            arguments: What is asked for; the partitioner counts for nothing.
            place: Where it lies in a whole, of what belongs to a part.
        """
        return self._whole.get(arguments, place)

    def _get_partitioned(self, arguments: VariableArguments) -> VariableInParts:
        """Gets or creates a partitioned variable; without a partitioner it must exist."""
        name, shape = arguments.name, TensorShape(arguments.shape)
        if isinstance(arguments.initializer, Tensor):
            shape = _shape_of_both(name, shape, arguments.initializer)
        if name in self._whole:
            raise ValueError(
                f"variable {name} already exists whole, but a partitioner is given; leave the partitioner out "
                f"(a scope may have set it), or use another name"
            )
        partitions = _partitions(arguments, shape)
        found = self._partitioned.get(name)
        if found is None:
            if arguments.reuse is True:
                raise ValueError(
                    f"partitioned variable {name} does not exist, or was not created with tf.get_variable(). Did you "
                    f"mean to set reuse=False or reuse=tf.AUTO_REUSE in VarScope? reuse=True asks for one that exists: "
                    f"create it first"
                )
            with self._whole.claims.hold(name):
                found = self._partitioned.get(name)
                if found is None:
                    found = self._partitioned[name] = self._created(arguments, shape, partitions or [])
                    return found
        check_shared(arguments, shape, found.shape, as_dtype(found.dtype), "partitioned variable")
        if partitions is not None and partitions not in (found.partitions, self._otherwise_cut.get(name)):
            raise ValueError(
                f"cannot share partitioned variable {name}: specified parts {partitions} and found parts "
                f"{found.partitions}"
            )
        return found

    def _created(self, arguments: VariableArguments, shape: TensorShape, partitions: list[int]) -> VariableInParts:
        """Makes a partitioned variable, in the parts that the cluster has if it has been cut otherwise there."""
        try:
            return _created(self._whole, arguments, shape, partitions)
        except ShapeMismatchError as error:
            raise_interrupt(error)
            name, factory = arguments.name, self.graph.variable_factory
            if not isinstance(factory, EagerVariableFactory):
                raise
            there = factory.partitions_there(name, shape.as_tuple(), as_dtype(arguments.dtype))
            if there is None or there == partitions:
                raise
        _LOG.info("variable %s is cut %s on the cluster, not %s as is asked for; it stays so", name, there, partitions)
        found = _created(self._whole, arguments, shape, there)
        self._otherwise_cut[name] = partitions
        return found


def _shape_of_both(name: str, shape: TensorShape, initializer: Tensor) -> TensorShape:
    """Returns the shape that is given and the initializer's as one; ShapeMismatchError if they disagree."""
    if not shape.is_compatible_with(initializer.shape):
        raise ShapeMismatchError(
            f"partitioned variable {name}: shape {shape} is given, but its initializer {initializer.name} has the "
            f"shape {initializer.shape}",
            variable=name,
        )
    return shape.merge_with(initializer.shape)


def _is_scalar(shape: ShapeLike) -> bool:
    return isinstance(shape, Sequence) and not shape


def _takes_constraint(getter: Getter) -> bool:
    code = getattr(getter, "__code__", None)
    if code is not None and code.co_flags & inspect.CO_VARKEYWORDS and not hasattr(getter, "__wrapped__"):
        return True  # as most do; known at once, while making a signature takes longer than finding the variable
    parameters = inspect.signature(getter).parameters.values()
    return any(each.name == "constraint" or each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)


def _partitions(arguments: VariableArguments, shape: TensorShape) -> list[int] | None:
    if arguments.partitioner is None:
        return None
    if shape.ndims is None:
        raise ValueError(f"variable {arguments.name} is to be partitioned and needs a shape")
    return partitions_of(arguments.partitioner, shape, DType(as_dtype(arguments.dtype)), arguments.name)


def _created(
    whole: WholeVariables, arguments: VariableArguments, shape: TensorShape, partitions: Sequence[int]
) -> VariableInParts:
    name, full_shape = arguments.name, shape.as_tuple()
    places = list(parts(full_shape, partitions))
    _check_found_parts(whole, name, len(places))
    made: list[Any] = []
    with _all_or_none(whole) as created:
        for index, (offset, part_shape) in enumerate(places):
            part_name = f"{name}/part_{index}"
            if part_name not in whole:
                created.append(part_name)
            place = PartitionSlice(name, full_shape, offset)
            made.append(whole.get(_part_arguments(whole, arguments, part_name, part_shape, place), place))
    return partitioned_variable(name, shape, made[0].dtype, made, list(partitions))


def _check_found_parts(whole: WholeVariables, name: str, number: int) -> None:
    """Makes sure that variables which exist under the names of parts, if any, are all the parts and no more."""
    if f"{name}/part_0" not in whole:
        return
    if f"{name}/part_{number - 1}" not in whole:
        raise ValueError(
            f"variable {name} is to have {number} parts, but only some exist: {name}/part_0 already exists, "
            f"{name}/part_{number - 1} does not exist"
        )
    if f"{name}/part_{number}" in whole:
        raise ValueError(
            f"variable {name} is to have {number} parts, but more exist: {name}/part_{number} already exists"
        )


@contextmanager
def _all_or_none(whole: WholeVariables) -> Iterator[list[str]]:
    """Takes the parts back out of the table if not all of them could be made."""
    created: list[str] = []
    try:
        yield created
    except BaseException:
        for part_name in created:
            if part_name in whole:
                whole.forget(part_name)
        raise


def _part_arguments(
    whole: WholeVariables, arguments: VariableArguments, part_name: str, shape: tuple[int, ...], place: PartitionSlice
) -> VariableArguments:
    """Returns what is asked for of one part, for which a constant initializer is cut."""
    dtype = as_dtype(arguments.dtype)
    with whole.graph.name_scope(f"{part_name}/PartitionedInitializer"):
        initializer = arguments.initializer
        if initializer is None:
            initializer = default_initializer(dtype, arguments.name)
        known_shape: ShapeLike = shape
        if not callable(initializer):
            whole_value = tensor_of(initializer, dtype)
            if whole_value is None:
                initializer = part_value(initializer, VariableSpec(part_name, dtype, shape, place))
            else:
                initializer = sliced(whole_value, place, shape)
            known_shape = None
    return arguments._replace(name=part_name, shape=known_shape, initializer=initializer, partitioner=None)
