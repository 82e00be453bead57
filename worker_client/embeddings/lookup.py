"""Rows of an embedding table that is spread over several variables, looked up where they are.

Only the rows asked for leave the ps tasks: one access to each part, all of them in one exchange for each task. The
strategies are those of TensorFlow 1's ``embedding_ops``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ps_protocol.operations import Array
from worker_client.default_client import find_default_client
from worker_client.deferred.call import call, is_deferred
from worker_client.deferred.operands import of_one_dtype
from worker_client.deferred.sparse_tensor import SparseTensor
from worker_client.embeddings.rows import (
    COMBINERS,
    STRATEGIES,
    RowAssignment,
    clipped,
    combined,
    rows_of_part,
    stitched,
)
from worker_client.graph.blocks import colocate_with, name_scope
from worker_client.graph.default_graph import graph_to_build_in
from worker_client.graph.operation import OutputSpec, Tensor
from worker_client.ops.array_ops import gather
from worker_client.ops.constant_ops import identity
from worker_client.values.array_likes import array_of
from worker_client.values.shapes import TensorShape
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.variable import Variable


def embedding_lookup(
    params: Any,
    ids: Any,
    partition_strategy: str = "mod",
    name: str | None = None,
    validate_indices: bool = True,
    max_norm: float | None = None,
) -> Any:
    """Returns rows of a table.

    Args:
        params: The table, or its parts: a variable, a partitioned variable, or a list of variables or tensors.
        ids: Which rows: integers of any shape.
        partition_strategy: Which id is in which of n parts. "mod": id i is row ``i // n`` of part ``i % n``. "div": the
            parts follow each other, the first ones with a row more if the ids cannot be shared out evenly; so ids are
            the rows of the whole of a partitioned variable. As in TensorFlow the default is "mod" for those as well.
        name: "embedding_lookup" if not given.
        validate_indices: Ignored; they always are.
        max_norm: Rows with a greater L2 norm are scaled down to this one.

    Returns:
        A tensor, or with eager variables an array, ``[*ids.shape, *row.shape]``.

    Raises:
        ValueError: There are no parts, the rows of the parts differ in shape, or the strategy is unknown.
        TypeError: The ids are not integers.
        InvalidArgumentError: An id has no row; at once, or when a session runs it.
    """
    del validate_indices
    table = _Table(params, partition_strategy)
    (wanted,) = of_one_dtype(f"embedding_lookup in {table.name}", [ids])
    is_known = not table.is_deferred and not isinstance(wanted, Tensor) and not graph_to_build_in().deferred
    if is_known and not wanted.size:  # of an empty list, which has no dtype of its own
        wanted = wanted.astype(np.int64)
    if wanted.dtype.kind not in "iu":
        raise TypeError(f"the ids of rows of {table.name} should be integers, not {wanted.dtype.name}")
    if is_known:
        rows = table.read(wanted)
        return rows if max_norm is None else clipped(rows, table.row.ndims or 0, max_norm)
    with name_scope(name, "embedding_lookup", [each for each in (*table.parts, wanted) if is_deferred(each)]) as scope:
        found = table.looked_up(wanted, scope)
        if max_norm is not None:
            found = call(clipped, [found, table.row.ndims or 0, max_norm], op_type="ClipByNorm", name="clip_by_norm")
        # TensorFlow adds it, so that the result is not bound to the place of the only part.
        return identity(found) if len(table.parts) == 1 else found


def embedding_lookup_sparse(
    params: Any,
    sp_ids: SparseTensor,
    sp_weights: SparseTensor | None,
    partition_strategy: str = "mod",
    name: str | None = None,
    combiner: str | None = None,
    max_norm: float | None = None,
) -> Any:
    """Returns for each row of some sparse ids a combination of rows of a table.

    Args:
        params: As in ``embedding_lookup``.
        sp_ids: Ids; those of one row, which are combined, must follow each other.
        sp_weights: A weight for each id, in the same places; None for 1.
        partition_strategy: As in ``embedding_lookup``.
        name: "embedding_lookup_sparse" if not given.
        combiner: "sum" of the weighted rows; "mean", which divides that by the sum of the weights; or "sqrtn", which
            divides by the square root of the sum of their squares. "mean" if not given.
        max_norm: As in ``embedding_lookup``; applied before the rows are combined.

    Returns:
        A tensor, or with eager variables an array, ``[last row of sp_ids + 1, *row.shape]``; zero where a row has no
        ids.

    Raises:
        ValueError: As ``embedding_lookup``, or the combiner is unknown.
        TypeError: The ids or weights are not sparse tensors.
        InvalidArgumentError: An id has no row, or ids and weights do not fit each other or are out of order.
    """
    _check_sparse("sp_ids", sp_ids)
    if sp_weights is not None:
        _check_sparse("sp_weights", sp_weights)
    if combiner not in (None, *COMBINERS):
        raise ValueError(f"combiner should be one of {', '.join(COMBINERS)}, not {combiner!r}")
    table = _Table(params, partition_strategy)
    weights = None if sp_weights is None else sp_weights.values
    with name_scope(name, "embedding_lookup_sparse", [each for each in table.parts if is_deferred(each)]) as scope:
        output = OutputSpec(sp_ids.dtype.dtype, TensorShape([None]))
        unique = call(np.unique, [sp_ids.values], op_type="Unique", output=output)
        rows = embedding_lookup(params, unique, partition_strategy, max_norm=max_norm)
        arguments = [rows, unique, sp_ids.values, sp_ids.indices, weights, combiner or "mean"]
        output = OutputSpec(rows.dtype, TensorShape([None, *table.row]))
        return call(combined, arguments, op_type="SparseSegmentCombination", name=scope, output=output)


def _check_sparse(what: str, value: object) -> None:
    if not isinstance(value, SparseTensor):
        raise TypeError(f"{what} should be a SparseTensor, not {value!r}")


class _Table:
    """An embedding table in parts.

    Args:
        params: As in ``embedding_lookup``.
        strategy: Which id is in which part.

    Attributes:
        parts: Variables, or tensors.
        name: For errors.
        row: Shape of a row.
    """

    def __init__(self, params: Any, strategy: str):
        self.parts: list[Any] = list(params) if isinstance(params, PartitionedVariable | list | tuple) else [params]
        if len(self.parts) == 1 and isinstance(self.parts[0], PartitionedVariable):
            self.parts = list(self.parts[0])
        if not self.parts:
            raise ValueError("an embedding table needs at least one part")
        self.name = f"the table {_name_of(params, self.parts)}"
        self.parts = [
            part if is_deferred(part) or isinstance(part, Variable) else array_of(part, self.name)
            for part in self.parts
        ]
        if strategy not in STRATEGIES:
            raise ValueError(f"partition_strategy should be one of {', '.join(STRATEGIES)}, not {strategy!r}")
        shapes = [TensorShape(part.shape) for part in self.parts]
        if any(shape.ndims == 0 for shape in shapes):
            raise ValueError(f"{self.name} should have rows: {', '.join(map(format, shapes))}")
        self.row = shapes[0][1:]
        if any(not shape[1:].is_compatible_with(self.row) for shape in shapes):
            raise ValueError(f"the rows of {self.name} differ in shape: {', '.join(map(format, shapes))}")
        lengths = tuple(shape.size(0) for shape in shapes)
        if strategy == "div" and None in lengths and len(lengths) > 1:
            raise ValueError(f"partition_strategy 'div' of {self.name} needs the number of rows of each part")
        self._assignment = RowAssignment("mod" if len(lengths) == 1 else strategy, lengths, self.name)

    @property
    def is_deferred(self) -> bool:
        """Whether its values are known only when a session runs."""
        return any(is_deferred(part) for part in self.parts)

    def read(self, ids: Array) -> Array:
        """Returns rows, now."""
        rows = [rows_of_part(ids, index, self._assignment) for index in range(len(self.parts))]
        return stitched(ids, _gathered(self.parts, rows), self._assignment)

    def looked_up(self, ids: Tensor | Array, name: str) -> Any:
        """Returns a tensor of rows, of this name."""
        if len(self.parts) == 1:
            with _beside(self.parts[0]):
                return gather(self.parts[0], ids, name=name)
        found = []
        for index, part in enumerate(self.parts):
            output = OutputSpec(np.dtype(np.int64), TensorShape([None]))
            arguments = [ids, index, self._assignment]
            rows = call(rows_of_part, arguments, op_type="DynamicPartition", output=output)
            with _beside(part):
                found.append(gather(part, rows))
        shape = TensorShape(ids.shape)
        full = TensorShape(None if None in (shape.ndims, self.row.ndims) else [*shape, *self.row])
        output = OutputSpec(found[0].dtype, full)
        return call(stitched, [ids, found, self._assignment], op_type="DynamicStitch", name=name, output=output)


def _name_of(params: Any, parts: Sequence[Any]) -> str:
    """Returns what users call a table: its variable, or all of its parts if there are several variables."""
    whole = params[0] if isinstance(params, list | tuple) and len(params) == 1 else params
    named = [whole] if hasattr(whole, "name") else parts
    return ", ".join(dict.fromkeys(str(getattr(each, "name", None) or "given") for each in named))


def _beside(part: Any) -> AbstractContextManager[None]:
    return colocate_with(part) if is_deferred(part) else nullcontext()


def _gathered(parts: Sequence[Any], rows: Sequence[Array]) -> list[Array]:
    """Returns rows of variables, or of arrays; of variables of the default connection in one exchange for each task."""
    client = find_default_client()
    if client is not None and all(isinstance(part, Variable) and part.runner is client.fanout for part in parts):
        return client.gather_all(zip(parts, rows, strict=True))
    return [
        gather(part, each) if len(each) else np.empty((0, *part.shape[1:]), part.dtype)
        for part, each in zip(parts, rows, strict=True)
    ]
