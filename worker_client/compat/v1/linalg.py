"""``tf.linalg``: functions of matrices, which are at the top as well, many under longer names."""

from worker_client.ops import matrix_ops as _matrix_ops
from worker_client.ops.clip_ops import global_norm
from worker_client.ops.elementwise_ops import cross
from worker_client.ops.math_ops import matmul
from worker_client.ops.matrix_ops import (
    cholesky,
    einsum,
    eye,
    matrix_band_part,
    matrix_determinant,
    matrix_diag,
    matrix_diag_part,
    matrix_inverse,
    matrix_set_diag,
    matrix_solve,
    matrix_transpose,
    trace,
)
from worker_client.ops.statistics_ops import l2_normalize, norm
from worker_client.ops.tensordot import tensordot
from worker_client.values.left_out import getattr_of

__all__ = [
    "band_part",
    "cholesky",
    "cross",
    "det",
    "diag",
    "diag_part",
    "einsum",
    "eye",
    "global_norm",
    "inv",
    "l2_normalize",
    "matmul",
    "matrix_transpose",
    "norm",
    "set_diag",
    "solve",
    "tensor_diag",
    "tensor_diag_part",
    "tensordot",
    "trace",
    "transpose",
]

band_part = matrix_band_part
det = matrix_determinant
inv = matrix_inverse
set_diag = matrix_set_diag
solve = matrix_solve
tensor_diag = _matrix_ops.diag
tensor_diag_part = _matrix_ops.diag_part
diag = matrix_diag
diag_part = matrix_diag_part
transpose = matrix_transpose

__getattr__ = getattr_of("linalg")
