"""What TensorFlow's definitions say of operations on matrices; see ``op_defs``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from worker_client.op_definitions import matrix_shapes as shapes
from worker_client.op_definitions.op_def import COMPLEX, FLOATS, INDICES, OpDef, row
from worker_client.values.dtypes import bfloat16, int32

_INT32: Final = frozenset({int32.dtype})
_SOLVED: Final = (FLOATS | COMPLEX) - {bfloat16.dtype}
_ON_DIAGONALS: Final = FLOATS | COMPLEX | INDICES

MATRIX_OPS: Final[Mapping[str, OpDef]] = {
    "MatrixBandPart": row("input:T num_lower:Tindex num_upper:Tindex", shapes.matrices, Tindex=INDICES),
    "Cholesky": row("input:T", shapes.square, T=_SOLVED),
    "MatrixInverse": row("input:T", shapes.square, T=_SOLVED),
    "MatrixDeterminant": row("input:T", shapes.of_each, T=_SOLVED),
    "MatrixSolve": row("matrix:T rhs:T", shapes.solution, T=_SOLVED),
    "Diag": row("diagonal:T", shapes.twice, T=_ON_DIAGONALS),
    "DiagPart": row("input:T", shapes.half, T=_ON_DIAGONALS),
    "MatrixDiagV3": row(
        "diagonal:T k:_int num_rows:_int num_cols:_int padding_value:T", shapes.with_diagonal, _int=_INT32
    ),
    "MatrixDiagPartV3": row("input:T k:_int padding_value:T", shapes.diagonal, _int=_INT32),
    "MatrixSetDiagV3": row("input:T diagonal:T k:_int", shapes.with_other_diagonal, _int=_INT32),
    "Einsum": row("*inputs:T", shapes.summed_products),
}
