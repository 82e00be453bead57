"""The rules of ``get_variable`` for variables that are cut into parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ps_protocol.operations import PartitionSlice, VariableSpec
from worker_client.deferred.partitioned import partitioned_variable
from worker_client.initializers.arrays import part_value
from worker_client.initializers.standard import default_initializer
from worker_client.scopes.arguments import VariableArguments
from worker_client.scopes.whole_variables import WholeVariables
from worker_client.values.dtypes import DType, as_dtype
from worker_client.values.shapes import ShapeLike, TensorShape
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.partitioners import partitions_of, parts


class PartitionedVariables:
    """The partitioned variables of one graph by full name. Thread-safe.

    Args:
        whole: The graph's other variables, among which the parts are.
    """

    def __init__(self, whole: WholeVariables):
        self._whole = whole
        # Changed only by the thread that has claimed the name, and read without a lock.
        self._made: dict[str, PartitionedVariable] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._made

    def get(self, arguments: VariableArguments) -> PartitionedVariable:
        """Gets or creates a partitioned variable; without a partitioner it must exist.

        Raises:
            ValueError: It exists and may not, or the other way round; it exists whole; shape, dtype or parts differ
                from those it has; or the partitioner's answer does not fit the shape.
        """
        name, shape = arguments.name, TensorShape(arguments.shape)
        if name in self._whole:
            raise ValueError(
                f"variable {name} already exists whole, but a partitioner is given; leave the partitioner out "
                f"(a scope may have set it), or use another name"
            )
        partitions = _partitions(arguments, shape)
        found = self._made.get(name)
        if found is None:
            if arguments.reuse is True:
                raise ValueError(
                    f"partitioned variable {name} does not exist, or was not made with get_variable(), but reuse=True "
                    f"asks for one that does; create it first, or use reuse=AUTO_REUSE"
                )
            with self._whole.claims.hold(name):
                found = self._made.get(name)
                if found is None:
                    found = self._made[name] = _created(self._whole, arguments, shape, partitions or [])
                    return found
        return _shared(found, arguments, shape, partitions)


def _partitions(arguments: VariableArguments, shape: TensorShape) -> list[int] | None:
    if arguments.partitioner is None:
        return None
    if shape.ndims is None:
        raise ValueError(f"variable {arguments.name} is to be partitioned and needs a shape")
    return partitions_of(arguments.partitioner, shape, DType(as_dtype(arguments.dtype)), arguments.name)


def _shared(
    found: PartitionedVariable, arguments: VariableArguments, shape: TensorShape, partitions: Sequence[int] | None
) -> PartitionedVariable:
    name, dtype = arguments.name, as_dtype(arguments.dtype)
    if arguments.reuse is False:
        raise ValueError(
            f"partitioned variable {name} already exists ({found.dtype.name} {found.shape}); to share it, enter its "
            f"scope with reuse=True or reuse=AUTO_REUSE"
        )
    if not shape.is_compatible_with(found.shape):
        raise ValueError(
            f"cannot share partitioned variable {name}: shape {shape} is asked for, but it has {found.shape}"
        )
    if dtype != found.dtype:
        raise ValueError(
            f"cannot share partitioned variable {name}: dtype {dtype.name} is asked for, but it has {found.dtype.name}"
        )
    if partitions is not None and list(partitions) != found.partitions:
        raise ValueError(
            f"cannot share partitioned variable {name}: parts {list(partitions)} are asked for, but it has "
            f"{found.partitions}"
        )
    return found


def _created(
    whole: WholeVariables, arguments: VariableArguments, shape: TensorShape, partitions: Sequence[int]
) -> PartitionedVariable:
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
    return partitioned_variable(name, shape, arguments.dtype, made, list(partitions))


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
            initializer = part_value(initializer, VariableSpec(part_name, dtype, shape, place))
            known_shape = None
    return arguments._replace(name=part_name, shape=known_shape, initializer=initializer, partitioner=None)
