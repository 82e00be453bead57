"""Rules of functions of single elements that autograd has not, or has otherwise than TensorFlow.

At the edges they do what TensorFlow's do: of two equal elements the first counts as the greater, powers of what is not
above 0 have no gradient by the exponent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import autograd.numpy as anp
import numpy as np
from autograd.extend import defvjp, primitive

from worker_client.derivatives import gamma
from worker_client.derivatives.plain import fitted
from worker_client.derivatives.primitives import of_primitive
from worker_client.derivatives.registry import CONSTANT, Derivative, Vjp, each

RULES: Final[dict[str, Derivative]] = dict.fromkeys(
    (
        *("Floor", "Ceil", "Rint", "Round", "FloorDiv", "TruncateDiv", "ArgMax", "ArgMin"),
        *("Less", "LessEqual", "Greater", "GreaterEqual", "Equal", "NotEqual", "IsNan", "IsInf", "IsFinite"),
        *("LogicalAnd", "LogicalOr", "LogicalNot", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Invert", "All", "Any"),
        *("Shape", "Size", "Rank", "Where", "OneHot", "Range", "ZerosLike", "StopGradient", "PyFunc"),
    ),
    CONSTANT,
)
"""By the type of the operation."""

SELU_SCALE: Final = 1.0507009873554805
SELU_ALPHA: Final = 1.6732632423543772

for _type, _primitive in {
    "FloorMod": anp.mod,
    "Atan2": anp.arctan2,
    "Neg": anp.negative,
    "Square": anp.square,
    "Exp": anp.exp,
    "Log": anp.log,
    "Sin": anp.sin,
    "Cos": anp.cos,
    "Tan": anp.tan,
    "Asin": anp.arcsin,
    "Acos": anp.arccos,
    "Atan": anp.arctan,
    "Log1p": anp.log1p,
    "Expm1": anp.expm1,
    "Sinh": anp.sinh,
    "Cosh": anp.cosh,
    "Asinh": anp.arcsinh,
    "Acosh": anp.arccosh,
    "Atanh": anp.arctanh,
    "Reciprocal": anp.reciprocal,
}.items():
    RULES[_type] = of_primitive(_primitive)

for _type in [
    "Floor",
    "Ceil",
    "Rint",
    "Round",
    "FloorDiv",
    "TruncateDiv",
    "Less",
    "LessEqual",
    "Greater",
    "GreaterEqual",
    "Equal",
    "NotEqual",
    "LogicalAnd",
    "LogicalOr",
    "LogicalNot",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Invert",
    "IsNan",
    "IsInf",
    "IsFinite",
    "All",
    "Any",
    "ArgMax",
    "ArgMin",
    "Shape",
    "Size",
    "Rank",
    "Where",
    "OneHot",
    "Range",
    "ZerosLike",
    "StopGradient",
    "PyFunc",
    "CountUpTo",
    "Assign",
    "AssignAdd",
    "AssignSub",
    "Print",
]:
    RULES[_type] = CONSTANT


def _passed(ans: Any, *_: Any) -> Any:
    del ans
    return lambda g: g


for _type in ("Cast", "CheckNumerics", "EnsureShape"):
    RULES[_type] = each(_passed)

# -- of one element -------------------------------------------------------------------------------

RULES["Abs"] = each(lambda ans, x: lambda g: g * anp.sign(x))
RULES["Sqrt"] = each(lambda ans, x: lambda g: g * 0.5 / ans)
RULES["Sign"] = each(lambda ans, x: lambda g: g * 0)
RULES["Tanh"] = each(lambda ans, x: lambda g: g * (1 - ans * ans))  # autograd's needs another exponential
RULES["Sigmoid"] = each(lambda ans, x: lambda g: g * ans * (1 - ans))
RULES["Rsqrt"] = each(lambda ans, x: lambda g: g * -0.5 * ans**3)
RULES["Erf"] = each(lambda ans, x: lambda g: g * (2 / math.sqrt(math.pi)) * anp.exp(-anp.square(x)))
RULES["Erfc"] = each(lambda ans, x: lambda g: g * (-2 / math.sqrt(math.pi)) * anp.exp(-anp.square(x)))
_digamma, _trigamma = primitive(gamma.digamma), primitive(gamma.trigamma)
defvjp(_digamma, lambda ans, x: lambda g: g * _trigamma(x))
RULES["Lgamma"] = each(lambda ans, x: lambda g: g * _digamma(x))
RULES["Digamma"] = each(lambda ans, x: lambda g: g * _trigamma(x))
RULES["Softplus"] = each(lambda ans, x: lambda g: g * anp.exp(x - ans))
RULES["Softsign"] = each(lambda ans, x: lambda g: g / anp.square(1 + anp.abs(x)))
RULES["Relu"] = each(lambda ans, x: lambda g: g * (ans > 0))
RULES["Relu6"] = each(lambda ans, x: lambda g: g * ((x > 0) & (x < 6)))
RULES["Elu"] = each(lambda ans, x: lambda g: g * anp.where(ans < 0, ans + 1, np.ones((), ans.dtype)))
RULES["Selu"] = each(
    lambda ans, x: lambda g: g * anp.where(ans < 0, ans + SELU_SCALE * SELU_ALPHA, np.asarray(SELU_SCALE, ans.dtype))
)


def _leaky_rule(argnums: Sequence[int], ans: Any, args: Sequence[Any], attributes: Mapping[str, Any]) -> Vjp:
    del argnums, ans
    return lambda g: [anp.where(args[0] > 0, g, g * attributes["alpha"])]


RULES["LeakyRelu"] = _leaky_rule

# -- of two elements ------------------------------------------------------------------------------

RULES["Add"] = RULES["AddV2"] = each(
    lambda ans, x, y: fitted(x, lambda g: g),
    lambda ans, x, y: fitted(y, lambda g: g),
)  # autograd's rules of these and the next ones are the same, but take several times as long for small arrays
RULES["Sub"] = each(
    lambda ans, x, y: fitted(x, lambda g: g),
    lambda ans, x, y: fitted(y, lambda g: -g),
)
RULES["Mul"] = each(
    lambda ans, x, y: fitted(x, lambda g: g * y),
    lambda ans, x, y: fitted(y, lambda g: g * x),
)
RULES["RealDiv"] = each(
    lambda ans, x, y: fitted(x, lambda g: g / y),
    lambda ans, x, y: fitted(y, lambda g: -g * ans / y),
)

RULES["SquaredDifference"] = each(
    lambda ans, x, y: fitted(x, lambda g: 2 * g * (x - y)),
    lambda ans, x, y: fitted(y, lambda g: -2 * g * (x - y)),
)


def _zero_where(condition: Any, value: Any) -> Any:
    return anp.where(condition, anp.zeros((), value.dtype), value)


def _one_where(condition: Any, value: Any) -> Any:
    return anp.where(condition, anp.ones((), value.dtype), value)


def quotient(x: Any, y: Any) -> Any:
    """Returns ``x / y``, and zero where ``y`` is zero."""
    return _zero_where(y == 0, x / _one_where(y == 0, y))


RULES["Maximum"] = each(
    lambda ans, x, y: fitted(x, lambda g: _zero_where(~(x >= y), g)),
    lambda ans, x, y: fitted(y, lambda g: _zero_where(x >= y, g)),
)
RULES["Minimum"] = each(
    lambda ans, x, y: fitted(x, lambda g: _zero_where(~(x <= y), g)),
    lambda ans, x, y: fitted(y, lambda g: _zero_where(x <= y, g)),
)
RULES["Pow"] = each(
    lambda ans, x, y: fitted(x, lambda g: g * y * x ** (y - 1)),
    lambda ans, x, y: fitted(y, lambda g: g * ans * _zero_where(~(x > 0), anp.log(_one_where(~(x > 0), x)))),
)
RULES["DivNoNan"] = each(
    lambda ans, x, y: fitted(x, lambda g: quotient(g, y)),
    lambda ans, x, y: fitted(y, lambda g: g * quotient(quotient(-x, y), y)),
)
RULES["MulNoNan"] = each(
    lambda ans, x, y: fitted(x, lambda g: _zero_where(y == 0, g * y)),
    lambda ans, x, y: fitted(y, lambda g: _zero_where(g == 0, g * x)),
)
RULES["Xlogy"] = each(
    lambda ans, x, y: fitted(x, lambda g: g * _zero_where(x == 0, anp.log(_one_where(x == 0, y)))),
    lambda ans, x, y: fitted(y, lambda g: g * _zero_where(x == 0, x / _one_where(x == 0, y))),
)
RULES["Xdivy"] = each(
    lambda ans, x, y: fitted(x, lambda g: g * _zero_where(x == 0, 1 / _one_where(x == 0, y))),
    lambda ans, x, y: fitted(y, lambda g: g * _zero_where(x == 0, -x / _one_where(x == 0, y) ** 2)),
)


def _condition(condition: Any, ans: Any) -> Any:
    """Returns a condition in a shape that fits the output: one for each row where it is a vector."""
    is_for_rows = anp.ndim(condition) == 1 and anp.ndim(ans) > 1
    return anp.reshape(condition, (-1, *[1] * (anp.ndim(ans) - 1))) if is_for_rows else condition


RULES["Select"] = each(
    None,
    lambda ans, c, x, y: lambda g: _zero_where(~_condition(c, ans), g),
    lambda ans, c, x, y: lambda g: _zero_where(_condition(c, ans), g),
)
RULES["SelectV2"] = each(
    None,
    lambda ans, c, x, y: fitted(x, lambda g: _zero_where(~c, g)),
    lambda ans, c, x, y: fitted(y, lambda g: _zero_where(c, g)),
)
