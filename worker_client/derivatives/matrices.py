"""Rules of products, inverses and factors of matrices, in terms of autograd's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import autograd.numpy as anp
import numpy as np
from autograd.core import primitive_vjps

from worker_client.derivatives.primitives import of_primitive
from worker_client.derivatives.registry import SELECTING, Derivative, Traced, Vjp

RULES: Final[dict[str, Derivative]] = {}
"""By the type of the operation."""

_MATMUL: Any = primitive_vjps[anp.matmul]


def _product_rule(argnums: Sequence[int], ans: Any, args: Sequence[Any], attributes: Mapping[str, Any]) -> Vjp:
    turns = [attributes.get("transpose_a", False) or attributes.get("adj_x", False)]
    turns += [attributes.get("transpose_b", False) or attributes.get("adj_y", False)]
    a, b = args
    if not any(turns) and np.ndim(a) == np.ndim(b) == 2:  # autograd's takes several times as long for small matrices
        return lambda g: [g @ b.T if argnum == 0 else a.T @ g for argnum in argnums]
    if not any(turns):
        found: Vjp = _MATMUL(argnums, ans, args, {})
        return found
    turned = [_turned(array) if turn else array for array, turn in zip(args, turns, strict=True)]
    vjp = _MATMUL(argnums, ans, turned, {})
    return lambda g: [_turned(each) if turns[argnum] else each for argnum, each in zip(argnums, vjp(g), strict=True)]


def _turned(array: Any) -> Any:
    return anp.swapaxes(array, -1, -2)


def inverse(array: Any, adjoint: bool) -> Any:
    return anp.linalg.inv(_turned(array) if adjoint else array)


def solution(matrix: Any, rhs: Any, adjoint: bool) -> Any:
    return anp.linalg.solve(_turned(matrix) if adjoint else matrix, rhs)


RULES["MatMul"] = _product_rule
RULES["BatchMatMulV2"] = _product_rule


def _einsum_rule(argnums: Sequence[int], ans: Any, args: Sequence[Any], attributes: Mapping[str, Any]) -> Vjp:
    found: Vjp = primitive_vjps[anp.einsum](
        [argnum + 1 for argnum in argnums], ans, (attributes["equation"].decode(), *args), {}
    )
    return found


RULES["Einsum"] = _einsum_rule
RULES["MatrixInverse"] = Traced(lambda array, **attributes: inverse(array, attributes["adjoint"]))
RULES["MatrixSolve"] = Traced(lambda matrix, rhs, **attributes: solution(matrix, rhs, attributes["adjoint"]))
RULES["MatrixDeterminant"] = of_primitive(anp.linalg.det)
RULES["Cholesky"] = of_primitive(anp.linalg.cholesky)
RULES["Cross"] = of_primitive(anp.cross)
for _type in ["Diag", "DiagPart", "MatrixDiagV3", "MatrixDiagPartV3", "MatrixSetDiagV3", "MatrixBandPart"]:
    RULES[_type] = SELECTING
