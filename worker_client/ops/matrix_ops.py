"""TensorFlow 1's functions of matrices, which lie in the last two dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ps_protocol.operations import Array
from worker_client.deferred.call import is_deferred
from worker_client.deferred.computed import computed
from worker_client.graph.blocks import name_scope
from worker_client.ops.array_ops import concat, transpose
from worker_client.ops.constant_ops import convert_to_tensor, given_sizes, ones, rank, zeros
from worker_client.ops.constant_ops import range as range_
from worker_client.ops.math_ops import minimum, reduce_sum, unary
from worker_client.values.dtypes import as_dtype, float32, int32
from worker_client.values.shapes import TensorShape
from worker_client.values.text import is_text

__all__ = [
    "cholesky",
    "diag",
    "diag_part",
    "einsum",
    "eye",
    "matrix_band_part",
    "matrix_determinant",
    "matrix_diag",
    "matrix_diag_part",
    "matrix_inverse",
    "matrix_set_diag",
    "matrix_solve",
    "matrix_transpose",
    "trace",
]


def eye(
    num_rows: Any, num_columns: Any = None, batch_shape: Any = None, dtype: Any = float32, name: str | None = None
) -> Any:
    """Returns an identity matrix, or many of them.

    Args:
        num_rows: How many rows; may be a tensor.
        num_columns: How many columns, as many if not given.
        batch_shape: Shape of the dimensions before the matrix.
        dtype: Of the elements.
        name: Of the scope; "eye" if not given.
    """
    with name_scope(name, "eye", [num_rows, num_columns, batch_shape]):
        is_square = num_columns is None
        columns = num_rows if num_columns is None else num_columns
        batch = [] if batch_shape is None else batch_shape
        if not is_deferred(num_rows) and not is_deferred(columns):
            is_square = is_square or int(num_rows) == int(columns)
            shortest: Any = min(int(num_rows), int(columns))
        else:
            shortest = num_rows if is_square else minimum(num_rows, columns)
        if is_deferred(shortest) or is_deferred(batch):
            batch = convert_to_tensor(batch, dtype=int32, name="shape")
            ones_of = ones(concat([batch, [shortest]], 0), dtype)
        else:
            ones_of = ones([*given_sizes(batch), shortest], dtype)
        if is_square:
            return matrix_diag(ones_of)
        sizes = [num_rows, columns]
        is_known = not is_deferred(batch) and not any(map(is_deferred, sizes))
        whole = zeros([*given_sizes(batch), *sizes] if is_known else concat([batch, sizes], 0), dtype)
        return matrix_set_diag(whole, ones_of)


def _diagonal_tensor(array: Array) -> Array:
    result = np.zeros(array.shape * 2, array.dtype)
    result.reshape(array.size, array.size)[np.diag_indices(array.size)] = array.reshape(-1)
    return result


def _diagonal_of_tensor(array: Array) -> Array:
    half = array.shape[: array.ndim // 2]
    if half * 2 != array.shape:
        raise ValueError(f"the shape {list(array.shape)} should be some dimensions and the same again")
    size = int(np.prod(half))
    return np.diagonal(array.reshape(size, size)).reshape(half)


def _diagonal_matrices(array: Array, *_: Array) -> Array:
    return np.asarray(array[..., np.newaxis] * np.eye(array.shape[-1], dtype=array.dtype))


def _diagonals(array: Array, *_: Array) -> Array:
    return np.diagonal(array, axis1=-2, axis2=-1)


diag = unary(
    "diag", _diagonal_tensor, "Diag", "Returns a tensor of the shape twice over with the elements on its diagonal."
)
_diag_part = unary("diag_part", _diagonal_of_tensor, "DiagPart", "Returns the diagonal of what ``diag`` makes.")
_determinant = unary(
    "matrix_determinant", np.linalg.det, "MatrixDeterminant", "Returns the determinant of each matrix."
)


def diag_part(input: Any, name: str | None = None) -> Any:
    """Returns the diagonal of what ``diag`` makes."""
    return _diag_part(input, name)


def matrix_diag(diagonal: Any, name: str = "diag") -> Any:
    """Returns square matrices with the last dimension's elements on their diagonals, 0 elsewhere."""
    return computed("MatrixDiagV3", _diagonal_matrices, [diagonal, 0, -1, -1, _nothing(diagonal)], name=name)


def matrix_diag_part(input: Any, name: str = "diag_part") -> Any:
    """Returns the diagonals of matrices."""
    return computed("MatrixDiagPartV3", _diagonals, [input, 0, _nothing(input)], name=name)


def _nothing(tensor: Any) -> Any:
    """Returns what lies beside diagonals: 0, False or no text."""
    dtype = as_dtype(tensor.dtype) if hasattr(tensor, "dtype") else np.asarray(tensor).dtype
    return b"" if is_text(dtype) else False if dtype == np.bool_ else 0


def matrix_set_diag(input: Any, diagonal: Any, name: str = "set_diag") -> Any:
    """Returns matrices with other diagonals."""
    return computed("MatrixSetDiagV3", _with_diagonals, [input, diagonal, 0], name=name)


def _with_diagonals(array: Array, diagonal: Array, *_: Array) -> Array:
    result = array.copy()
    places = np.arange(min(array.shape[-2:]))
    result[..., places, places] = diagonal
    return result


def matrix_band_part(input: Any, num_lower: Any, num_upper: Any, name: str | None = None) -> Any:
    """Returns matrices with 0 everywhere but on so many diagonals below and above the main one; -1 for all."""
    return computed("MatrixBandPart", _band, [input, num_lower, num_upper], name=name)


def _band(array: Array, lower: Any, upper: Any) -> Array:
    rows, columns = np.indices(array.shape[-2:])
    kept = ((int(lower) < 0) | (rows - columns <= int(lower))) & ((int(upper) < 0) | (columns - rows <= int(upper)))
    return np.where(kept, array, array.dtype.type(0))


def matrix_transpose(a: Any, name: str = "matrix_transpose", conjugate: bool = False) -> Any:
    """Returns matrices with rows and columns exchanged."""
    with name_scope(name, "matrix_transpose", [a]):
        operand = convert_to_tensor(a, name="a")
        ndims = TensorShape(operand.shape).ndims
        if ndims is None:
            order = rank(operand)
            last = range_(order)
            return transpose(operand, concat([last[:-2], [order - 1, order - 2]], 0), conjugate=conjugate)
        if ndims < 2:
            raise ValueError(f"a matrix has two dimensions or more, not the shape {list(operand.shape)}")
        return transpose(operand, [*range(ndims - 2), ndims - 1, ndims - 2], conjugate=conjugate)


def trace(x: Any, name: str | None = None) -> Any:
    """Returns the sum of the diagonal of each matrix."""
    with name_scope(name, "Trace", [x]) as scope:
        return reduce_sum(matrix_diag_part(convert_to_tensor(x, name="x")), [-1], name=scope)


def matrix_inverse(input: Any, adjoint: bool = False, name: str | None = None) -> Any:
    """Returns the inverse of each square matrix, or of its adjoint; InvalidArgumentError if there is none."""

    def inverse(array: Array) -> Array:
        return np.linalg.inv(_adjoint(array) if adjoint else array)

    return computed("MatrixInverse", inverse, [input], name=name, attributes={"adjoint": adjoint})


def matrix_solve(matrix: Any, rhs: Any, adjoint: bool = False, name: str | None = None) -> Any:
    """Returns ``x`` of ``matrix @ x == rhs``, or of its adjoint; InvalidArgumentError if there is none.

    Args:
        matrix: Shape ``[..., n, n]``.
        rhs: Shape ``[..., n, k]``.
        adjoint: Whether the adjoint of ``matrix`` is meant.
        name: "MatrixSolve" if not given.
    """

    def solved(matrix: Array, rhs: Array) -> Array:
        return np.linalg.solve(_adjoint(matrix) if adjoint else matrix, rhs)

    return computed("MatrixSolve", solved, [matrix, rhs], name=name, attributes={"adjoint": adjoint})


def _adjoint(array: Array) -> Array:
    return np.conj(np.swapaxes(array, -1, -2))


def matrix_determinant(input: Any, name: str | None = None) -> Any:
    """Returns the determinant of each square matrix."""
    return _determinant(input, name)


def cholesky(input: Any, name: str | None = None) -> Any:
    """Returns for each matrix the lower triangular one whose product with its adjoint it is."""
    return computed("Cholesky", np.linalg.cholesky, [input], name=name)


def einsum(equation: str, *inputs: Any, name: str | None = None) -> Any:
    """Returns the sum of products that an equation as "ij,jk->ik" describes.

    Raises:
        ValueError: The shapes do not fit each other or the equation.
    """
    with name_scope(name, "einsum", list(inputs)):
        attributes = {"equation": equation.encode()}
        return computed("Einsum", _SummedProducts(equation), [list(inputs)], attributes=attributes)


@dataclass(frozen=True, slots=True)
class _SummedProducts:
    """Computes what an equation describes."""

    equation: str

    def __call__(self, *arrays: Array) -> Array:
        return np.asarray(np.einsum(self.equation, *arrays, optimize=True), arrays[0].dtype)
