"""The rules of ``get_variable`` for variables that are cut into parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ps_protocol.operations import PartitionSlice, VariableSpec
from worker_client.dtypes import DType
from worker_client.getter_request import GetterRequest
from worker_client.initial_arrays import part_value
from worker_client.initializers import default_initializer
from worker_client.partitioned_graph_variable import partitioned_variable
from worker_client.partitioned_variable import PartitionedVariable
from worker_client.partitioners import partitions_of, parts
from worker_client.tensor_shape import TensorShape
from worker_client.whole_variables import WholeVariables


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

    def get(self, request: GetterRequest) -> PartitionedVariable:
        """Gets or creates a partitioned variable.

        Args:
            request: What is asked for; without a partitioner the variable must exist.

        Raises:
            ValueError: It exists and may not, or the other way round; it exists whole; shape, dtype or parts differ
                from those it has; or the partitioner's answer does not fit the shape.
        """
        name = request.name
        if name in self._whole:
            raise ValueError(
                f"variable {name} already exists whole, but a partitioner is given; leave the partitioner out "
                f"(a scope may have set it), or use another name"
            )
        partitions = _partitions(request)
        found = self._made.get(name)
        if found is None:
            if request.reuse is True:
                raise ValueError(
                    f"partitioned variable {name} does not exist, or was not made with get_variable(), but reuse=True "
                    f"asks for one that does; create it first, or use reuse=AUTO_REUSE"
                )
            with self._whole.claims.hold(name):
                found = self._made.get(name)
                if found is None:
                    found = self._made[name] = _created(self._whole, request, partitions or [])
                    return found
        return _shared(found, request, partitions)


def _partitions(request: GetterRequest) -> list[int] | None:
    if request.partitioner is None:
        return None
    if request.shape.ndims is None:
        raise ValueError(f"variable {request.name} is to be partitioned and needs a shape")
    return partitions_of(request.partitioner, request.shape, DType(request.dtype), request.name)


def _shared(
    found: PartitionedVariable, request: GetterRequest, partitions: Sequence[int] | None
) -> PartitionedVariable:
    name = request.name
    if request.reuse is False:
        raise ValueError(
            f"partitioned variable {name} already exists ({found.dtype.name} {found.shape}); to share it, enter its "
            f"scope with reuse=True or reuse=AUTO_REUSE"
        )
    if not request.shape.is_compatible_with(found.shape):
        raise ValueError(
            f"cannot share partitioned variable {name}: shape {request.shape} is asked for, but it has {found.shape}"
        )
    if request.dtype != found.dtype:
        raise ValueError(
            f"cannot share partitioned variable {name}: dtype {request.dtype.name} is asked for, but it has "
            f"{found.dtype.name}"
        )
    if partitions is not None and list(partitions) != found.partitions:
        raise ValueError(
            f"cannot share partitioned variable {name}: parts {list(partitions)} are asked for, but it has "
            f"{found.partitions}"
        )
    return found


def _created(whole: WholeVariables, request: GetterRequest, partitions: Sequence[int]) -> PartitionedVariable:
    name, full_shape = request.name, request.shape.as_tuple()
    places = list(parts(full_shape, partitions))
    _check_found_parts(whole, name, len(places))
    made: list[Any] = []
    with _all_or_none(whole) as created:
        for index, (offset, shape) in enumerate(places):
            part_name = f"{name}/part_{index}"
            if part_name not in whole:
                created.append(part_name)
            made.append(whole.get(_part_request(whole, request, part_name, offset, shape)))
    return partitioned_variable(name, request.shape, request.dtype, made, list(partitions))


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
    """Takes the parts back out of the whole if not all of them could be made."""
    created: list[str] = []
    try:
        yield created
    except BaseException:
        for part_name in created:
            if part_name in whole:
                whole.forget(part_name)
        raise


def _part_request(
    whole: WholeVariables, request: GetterRequest, part_name: str, offset: tuple[int, ...], shape: tuple[int, ...]
) -> GetterRequest:
    """Returns the request for one part, for which a constant initializer is cut."""
    place = PartitionSlice(request.name, request.shape.as_tuple(), offset)
    with whole.graph.name_scope(f"{part_name}/PartitionedInitializer"):
        initializer = request.initializer
        if initializer is None:
            initializer = default_initializer(request.dtype, request.name)
        if callable(initializer):
            known_shape = TensorShape(shape)
        else:
            initializer = part_value(initializer, VariableSpec(part_name, request.dtype, shape, place))
            known_shape = TensorShape(None)
    return replace(request, name=part_name, shape=known_shape, initializer=initializer, partitioner=None, slice=place)
