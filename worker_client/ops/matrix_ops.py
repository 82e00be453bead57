"""TensorFlow 1's functions of matrices, which lie in the last two dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ps_protocol.operations import Array
from worker_client.deferred.call import call, is_deferred
from worker_client.deferred.operands import of_one_dtype
from worker_client.deferred.static_values import constant_value
from worker_client.graph.blocks import name_scope
from worker_client.graph.operation import OutputSpec, Tensor
from worker_client.ops.array_ops import transpose
from worker_client.ops.constant_ops import convert_to_tensor, shape_argument
from worker_client.ops.math_ops import reduce_sum, unary
from worker_client.values.dtypes import as_dtype, float32
from worker_client.values.shapes import TensorShape

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
    columns = num_rows if num_columns is None else num_columns
    batch = [] if batch_shape is None else shape_argument(batch_shape)
    with name_scope(name, "eye", [num_rows, columns, batch_shape]):
        is_square = num_columns is None or (not is_deferred(columns) and num_columns == num_rows)
        op_type, short = ("MatrixDiagV3", "diag") if is_square else ("MatrixSetDiagV3", "set_diag")
        sizes = [_known(each) for each in (num_rows, columns)]
        outer = [None if is_deferred(each) else int(each) for each in batch] if isinstance(batch, list) else None
        output = OutputSpec(as_dtype(dtype), TensorShape(None if outer is None else [*outer, *sizes]))
        arguments = [num_rows, columns, batch, as_dtype(dtype)]
        return call(_identities, arguments, op_type=op_type, name=short, output=output)


def _known(size: Any) -> int | None:
    value = constant_value(size) if isinstance(size, Tensor) else None if is_deferred(size) else size
    return None if value is None else int(value)


def _identities(rows: Any, columns: Any, batch: Any, dtype: np.dtype[Any]) -> Array:
    one = np.zeros((int(rows), int(columns)), dtype)
    np.fill_diagonal(one, 1)
    return np.broadcast_to(one, (*(int(each) for each in np.ravel(batch)), *one.shape))


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


def _diagonal_matrices(array: Array) -> Array:
    return np.asarray(array[..., np.newaxis] * np.eye(array.shape[-1], dtype=array.dtype))


def _diagonals(array: Array) -> Array:
    return np.diagonal(array, axis1=-2, axis2=-1)


diag = unary(
    "diag", _diagonal_tensor, "Diag", "Returns a tensor of the shape twice over with the elements on its diagonal."
)
_diag_part = unary("diag_part", _diagonal_of_tensor, "DiagPart", "Returns the diagonal of what ``diag`` makes.")
_matrix_diag = unary("matrix_diag", _diagonal_matrices, "MatrixDiagV3", "Makes matrices of diagonals.")
_matrix_diag_part = unary("matrix_diag_part", _diagonals, "MatrixDiagPartV3", "Takes the diagonals of matrices.")
_determinant = unary(
    "matrix_determinant", np.linalg.det, "MatrixDeterminant", "Returns the determinant of each matrix."
)


def diag_part(input: Any, name: str | None = None) -> Any:
    """Returns the diagonal of what ``diag`` makes."""
    return _diag_part(input, name)


def matrix_diag(diagonal: Any, name: str = "diag") -> Any:
    """Returns square matrices with the last dimension's elements on their diagonals, 0 elsewhere."""
    return _matrix_diag(diagonal, name)


def matrix_diag_part(input: Any, name: str = "diag_part") -> Any:
    """Returns the diagonals of matrices."""
    return _matrix_diag_part(input, name)


def matrix_set_diag(input: Any, diagonal: Any, name: str = "set_diag") -> Any:
    """Returns matrices with other diagonals."""
    operands = of_one_dtype("MatrixSetDiagV3", [input, diagonal])
    return call(_with_diagonals, operands, op_type="MatrixSetDiagV3", name=name)


def _with_diagonals(array: Array, diagonal: Array) -> Array:
    result = array.copy()
    places = np.arange(min(array.shape[-2:]))
    result[..., places, places] = diagonal
    return result


def matrix_band_part(input: Any, num_lower: Any, num_upper: Any, name: str | None = None) -> Any:
    """Returns matrices with 0 everywhere but on so many diagonals below and above the main one; -1 for all."""
    (operand,) = of_one_dtype("MatrixBandPart", [input])
    arguments = [operand, num_lower, num_upper]
    return call(_band, arguments, op_type="MatrixBandPart", name=name, output=_like(operand))


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
            output = OutputSpec(as_dtype(operand.dtype))
            return call(_turned, [operand, conjugate], op_type="Transpose", name="transpose", output=output)
        if ndims < 2:
            raise ValueError(f"a matrix has two dimensions or more, not the shape {list(operand.shape)}")
        return transpose(operand, [*range(ndims - 2), ndims - 1, ndims - 2], conjugate=conjugate)


def _turned(array: Array, conjugate: bool) -> Array:
    turned = np.swapaxes(array, -1, -2)
    return np.conj(turned) if conjugate else turned


def trace(x: Any, name: str | None = None) -> Any:
    """Returns the sum of the diagonal of each matrix."""
    with name_scope(name, "Trace", [x]) as scope:
        return reduce_sum(matrix_diag_part(convert_to_tensor(x, name="x")), [-1], name=scope)


def matrix_inverse(input: Any, adjoint: bool = False, name: str | None = None) -> Any:
    """Returns the inverse of each square matrix, or of its adjoint; InvalidArgumentError if there is none."""
    (operand,) = of_one_dtype("MatrixInverse", [input])
    return call(_inverse, [operand, adjoint], op_type="MatrixInverse", name=name, output=_like(operand))


def _inverse(array: Array, adjoint: bool) -> Array:
    return np.linalg.inv(_adjoint(array) if adjoint else array)


def matrix_solve(matrix: Any, rhs: Any, adjoint: bool = False, name: str | None = None) -> Any:
    """Returns ``x`` of ``matrix @ x == rhs``, or of its adjoint; InvalidArgumentError if there is none.

    Args:
        matrix: Shape ``[..., n, n]``.
        rhs: Shape ``[..., n, k]``.
        adjoint: Whether the adjoint of ``matrix`` is meant.
        name: "MatrixSolve" if not given.
    """
    operands = of_one_dtype("MatrixSolve", [matrix, rhs])
    return call(_solved, [*operands, adjoint], op_type="MatrixSolve", name=name, output=_like(operands[1]))


def _solved(matrix: Array, rhs: Array, adjoint: bool) -> Array:
    return np.linalg.solve(_adjoint(matrix) if adjoint else matrix, rhs)


def _like(operand: Any) -> OutputSpec:
    return OutputSpec(as_dtype(operand.dtype), TensorShape(operand.shape))


def _adjoint(array: Array) -> Array:
    return np.conj(np.swapaxes(array, -1, -2))


def matrix_determinant(input: Any, name: str | None = None) -> Any:
    """Returns the determinant of each square matrix."""
    return _determinant(input, name)


def cholesky(input: Any, name: str | None = None) -> Any:
    """Returns for each matrix the lower triangular one whose product with its adjoint it is."""
    (operand,) = of_one_dtype("Cholesky", [input])
    return call(np.linalg.cholesky, [operand], op_type="Cholesky", name=name, output=_like(operand))


def einsum(equation: str, *inputs: Any, name: str | None = None) -> Any:
    """Returns the sum of products that an equation as "ij,jk->ik" describes.

    Raises:
        ValueError: The shapes do not fit each other or the equation.
    """
    with name_scope(name, "einsum", list(inputs)):
        return call(_summed_products, [equation, *of_one_dtype("Einsum", inputs)], op_type="Einsum")


def _summed_products(equation: str, *arrays: Array) -> Array:
    return np.asarray(np.einsum(equation, *arrays, optimize=True), arrays[0].dtype)
