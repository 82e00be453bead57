"""Which part of an embedding table holds which row, and how rows are combined.

Their derivatives are in ``derivatives.embeddings``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array
from worker_client.derivatives.registry import SELECTING, differentiable
from worker_client.values.segments import beside_rows, segment_sums

STRATEGIES: Final = ("mod", "div")
COMBINERS: Final = ("sum", "mean", "sqrtn")


@dataclass(frozen=True, slots=True)
class RowAssignment:
    """The ids that belong to each part of a table, as TensorFlow's ``embedding_lookup`` assigns them.

    Attributes:
        strategy: "mod" deals the ids out one by one; "div" gives each part a stretch of them, the first parts one id
            more if they cannot be shared out evenly.
        lengths: Rows of each part, None where that is known only to the part itself; all of them with "div".
        table: What the table is called, for errors.
    """

    strategy: str
    lengths: tuple[int | None, ...]
    table: str

    def places(self, ids: Array) -> tuple[Array, Array]:
        """Returns part and row of each id.

        Raises:
            InvalidArgumentError: An id has no row.
        """
        number = len(self.lengths)
        most = np.iinfo(np.int64).max
        flat = (np.minimum(ids, most) if ids.dtype == np.uint64 else ids).astype(np.int64)
        if self.strategy == "mod":
            parts, rows = flat % number, flat // number
        else:
            parts, rows = self._stretches(flat)
        lengths = np.array([most if length is None else length for length in self.lengths], np.int64)
        wrong = ids[(parts < 0) | (parts >= number) | (rows < 0) | (rows >= lengths[parts.clip(0, number - 1)])]
        if wrong.size:
            raise InvalidArgumentError(
                f"id {wrong[0]} has no row in {self.table}, whose parts have {list(self.lengths)} rows "
                f"(partition_strategy={self.strategy!r})"
            )
        return parts, rows

    def _stretches(self, ids: Array) -> tuple[Array, Array]:
        total = sum(length or 0 for length in self.lengths)
        each, extras = divmod(total, len(self.lengths))
        short = max(each, 1)  # with fewer rows than parts no id gets beyond the extras
        parts = np.maximum(ids // (each + 1), (ids - extras) // short)
        rows = np.where(parts < extras, ids % (each + 1), (ids - extras) % short)
        return np.where(ids < 0, -1, parts), rows


def rows_of_part(ids: Array, part: int, assignment: RowAssignment) -> Array:
    """Returns the rows of one part that some ids ask for, in the order of the ids."""
    parts, rows = assignment.places(ids)
    found: Array = rows[parts == part]
    return found


@differentiable(SELECTING)
def stitched(ids: Array, found: Sequence[Array], assignment: RowAssignment) -> Array:
    """Returns the rows ``[*ids.shape, ...]``, given for each part those of ``rows_of_part``."""
    parts, _ = assignment.places(ids)
    result = np.empty((*ids.shape, *found[0].shape[1:]), found[0].dtype)
    for part, rows in enumerate(found):
        result[parts == part] = rows
    return result


def clipped(rows: Array, row_ndims: int, max_norm: float) -> Array:
    """Returns rows, of which those with a greater L2 norm are scaled to ``max_norm``."""
    wide = rows.astype(np.result_type(rows.dtype, np.float32))
    axes = tuple(range(-row_ndims, 0))
    norms = np.sqrt(np.sum(np.square(wide), axis=axes, keepdims=True))
    result: Array = (wide * (max_norm / np.maximum(norms, max_norm))).astype(rows.dtype)
    return result


def combined(rows: Array, unique: Array, ids: Array, places: Array, weights: Array | None, combiner: str) -> Array:
    """Returns combinations of rows.

    Args:
        rows: Of each of the unique ids, ``[number, ...]``.
        unique: The ids that occur, ascending.
        ids: All ids.
        places: Where each is; the first column says into which combination its row goes.
        weights: A weight for each id; None for 1.
        combiner: "sum", "mean" or "sqrtn".

    Returns:
        Shape ``[last combination + 1, ...]``, zero where nothing goes.

    Raises:
        InvalidArgumentError: The combinations do not ascend, or the numbers of ids, places and weights differ.
    """
    into = places[:, 0] if places.ndim == 2 else places
    if len(into) != len(ids) or (weights is not None and weights.shape != ids.shape):
        numbers = [len(ids), len(into), len(ids) if weights is None else weights.size]
        raise InvalidArgumentError(f"embedding_lookup_sparse: ids, places and weights differ in number: {numbers}")
    if np.any(np.diff(into) < 0) or np.any(into < 0):
        raise InvalidArgumentError("embedding_lookup_sparse: the rows of sp_ids should ascend from 0; sort its indices")
    wide = np.result_type(rows.dtype, np.float32)
    factors = np.ones(len(ids), wide) if weights is None else weights.astype(wide)
    shape = (int(into[-1]) + 1 if len(into) else 0, *rows.shape[1:])
    summands = rows[np.searchsorted(unique, ids)].astype(wide) * beside_rows(factors, rows.ndim)
    total = segment_sums(summands, into, shape)
    if combiner != "sum":
        divisors = segment_sums(factors if combiner == "mean" else np.square(factors), into, shape[:1])
        divisors = beside_rows(divisors if combiner == "mean" else np.sqrt(divisors), rows.ndim)
        total = np.divide(total, divisors, out=np.zeros_like(total), where=divisors != 0)
    result: Array = total.astype(rows.dtype)
    return result
