"""TensorFlow 1's rarer functions of single elements: rounding, tests, trigonometry, complex numbers, divisions.

They behave as those of ``math_ops``, beside which they stand at the top and in ``tf.math``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ps_protocol.operations import Array
from worker_client.deferred import elementwise
from worker_client.deferred.call import is_deferred, itself
from worker_client.deferred.computed import computed, deferred_graph
from worker_client.deferred.operands import of_one_dtype
from worker_client.derivatives import gamma
from worker_client.graph.blocks import name_scope
from worker_client.graph.operation import Tensor
from worker_client.ops.array_ops import cast, where
from worker_client.ops.constant_ops import convert_to_tensor, ones_like, zeros_like
from worker_client.ops.math_ops import (
    add_n,
    binary,
    divide,
    floordiv,
    less,
    maximum,
    minimum,
    mod,
    multiply,
    negative,
    unary,
)
from worker_client.values.conversion import IndexedSlices
from worker_client.values.dtypes import (
    DType,
    as_dtype,
    bfloat16,
    complex64,
    complex128,
    float32,
    float64,
    int32,
    int64,
)
from worker_client.values.made_functions import named
from worker_client.values.shapes import TensorShape

__all__ = [
    "accumulate_n",
    "acos",
    "acosh",
    "angle",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "ceil",
    "complex",
    "conj",
    "cos",
    "cosh",
    "cross",
    "digamma",
    "div",
    "div_no_nan",
    "erf",
    "erfc",
    "expm1",
    "floor",
    "floor_div",
    "floormod",
    "imag",
    "is_finite",
    "is_inf",
    "is_nan",
    "lgamma",
    "log1p",
    "log_sigmoid",
    "real",
    "realdiv",
    "reciprocal",
    "rint",
    "round",
    "rsqrt",
    "saturate_cast",
    "scalar_mul",
    "sign",
    "sin",
    "sinh",
    "squared_difference",
    "stop_gradient",
    "tan",
    "to_bfloat16",
    "to_complex64",
    "to_complex128",
    "to_double",
    "to_float",
    "to_int32",
    "to_int64",
    "truediv",
    "truncatediv",
    "truncatemod",
]

# -- of one element -------------------------------------------------------------------------------


def _each(function: Callable[[float], float]) -> Callable[[Array], Array]:
    """Returns a function of Python's numbers as one of arrays of floats."""
    applied = np.vectorize(function, otypes=[np.float64])

    def elements(x: Array) -> Array:
        return np.asarray(applied(x), dtype=x.dtype)

    return elements


def _log_gamma(x: float) -> float:
    try:
        return math.lgamma(x)
    except ValueError:  # at 0, -1, -2, ...
        return math.inf


def _softplus(x: Array) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _rsqrt(x: Array) -> Any:
    return np.reciprocal(np.sqrt(x))


sign = unary("sign", np.sign, "Sign", "Returns -1, 0 or 1 for each element.")
floor = unary("floor", np.floor, "Floor", "Returns the greatest whole number that is not greater.")
ceil = unary("ceil", np.ceil, "Ceil", "Returns the least whole number that is not less.")
rint = unary("rint", np.rint, "Rint", "Returns the nearest whole number, of two the even one.")
rsqrt = unary("rsqrt", _rsqrt, "Rsqrt", "Returns ``1 / sqrt(x)``.")
reciprocal = unary("reciprocal", np.reciprocal, "Reciprocal", "Returns ``1 / x``.")
is_nan = unary("is_nan", np.isnan, "IsNan", "Returns whether each element is not a number.")
is_inf = unary("is_inf", np.isinf, "IsInf", "Returns whether each element is infinite.")
is_finite = unary("is_finite", np.isfinite, "IsFinite", "Returns whether each element is a finite number.")
sin = unary("sin", np.sin, "Sin", "Returns the sine of each element, an angle in radians.")
cos = unary("cos", np.cos, "Cos", "Returns the cosine of each element, an angle in radians.")
tan = unary("tan", np.tan, "Tan", "Returns the tangent of each element, an angle in radians.")
asin = unary("asin", np.arcsin, "Asin", "Returns the angle in radians of which each element is the sine.")
acos = unary("acos", np.arccos, "Acos", "Returns the angle in radians of which each element is the cosine.")
atan = unary("atan", np.arctan, "Atan", "Returns the angle in radians of which each element is the tangent.")
sinh = unary("sinh", np.sinh, "Sinh", "Returns the hyperbolic sine of each element.")
cosh = unary("cosh", np.cosh, "Cosh", "Returns the hyperbolic cosine of each element.")
asinh = unary("asinh", np.arcsinh, "Asinh", "Returns of what each element is the hyperbolic sine.")
acosh = unary("acosh", np.arccosh, "Acosh", "Returns of what each element is the hyperbolic cosine.")
atanh = unary("atanh", np.arctanh, "Atanh", "Returns of what each element is the hyperbolic tangent.")
log1p = unary("log1p", np.log1p, "Log1p", "Returns ``log(1 + x)``, exact also near 0.")
expm1 = unary("expm1", np.expm1, "Expm1", "Returns ``exp(x) - 1``, exact also near 0.")
erf = unary("erf", _each(math.erf), "Erf", "Returns the error function of each element.")
erfc = unary("erfc", _each(math.erfc), "Erfc", "Returns ``1 - erf(x)``, exact also where that is small.")
lgamma = unary("lgamma", _each(_log_gamma), "Lgamma", "Returns the logarithm of the gamma function's absolute value.")
digamma = unary("digamma", gamma.digamma, "Digamma", "Returns the derivative of ``lgamma``.")
softplus = unary("softplus", _softplus, "Softplus", "Returns ``log(1 + exp(x))``, without overflow.")


def stop_gradient(input: Any, name: str | None = None) -> Any:
    """Returns the tensor, as one that no gradient passes; ``IndexedSlices`` as such."""
    if isinstance(input, IndexedSlices) and is_deferred(input):
        values, indices = stop_gradient(input.values, name), stop_gradient(input.indices, name)
        sizes = None if input.dense_shape is None else stop_gradient(input.dense_shape, name)
        return IndexedSlices(values, indices, sizes)
    return computed("StopGradient", itself, [input], name=name)


def round(x: Any, name: str | None = None) -> Any:  # noqa: A001 - TensorFlow's name
    """Returns the nearest whole number to each element, of two the even one; integers as they are."""
    operand = convert_to_tensor(x, name="x")
    return operand if as_dtype(operand.dtype).kind in "iu" else _round(operand, name)


_round = unary("round", np.rint, "Round", "Rounds floats.")


def log_sigmoid(x: Any, name: str | None = None) -> Any:
    """Returns the logarithm of ``sigmoid(x)``, without overflow."""
    with name_scope(name, "LogSigmoid", [x]) as scope:
        return negative(softplus(negative(convert_to_tensor(x, name="x"))), name=scope)


# -- of two elements ------------------------------------------------------------------------------


def _quotient_or_zero(x: Array, y: Array) -> Any:
    return np.where(y == 0, x.dtype.type(0), np.divide(x, y))


def _quotient_towards_zero(x: Array, y: Array) -> Any:
    if x.dtype.kind not in "iu":
        return np.trunc(np.divide(x, y))
    if not np.all(y):
        raise ZeroDivisionError("divide by zero")
    down = np.floor_divide(x, y)
    return down + ((np.remainder(x, y) != 0) & ((x < 0) != (y < 0))).astype(x.dtype)


def _squared_difference(x: Array, y: Array) -> Any:
    return np.square(np.subtract(x, y))


def _xlogy(x: Array, y: Array) -> Any:
    return np.where(x == 0, x.dtype.type(0), x * np.log(y))


def _xdivy(x: Array, y: Array) -> Any:
    return np.where(x == 0, x.dtype.type(0), np.divide(x, y))


def _product_or_zero(x: Array, y: Array) -> Any:
    return np.where(y == 0, x.dtype.type(0), np.multiply(x, y))


truediv = divide
floormod = mod
realdiv = binary("realdiv", np.true_divide, "RealDiv", "Returns ``x / y`` of numbers that are not whole.")
truncatediv = binary("truncatediv", _quotient_towards_zero, "TruncateDiv", "Returns ``x / y`` rounded towards zero.")
truncatemod = binary("truncatemod", np.fmod, "TruncateMod", "Returns what ``truncatediv`` leaves, with ``x``'s sign.")
squared_difference = binary(
    "squared_difference", _squared_difference, "SquaredDifference", "Returns ``(x - y) * (x - y)``."
)
atan2 = binary("atan2", np.arctan2, "Atan2", "Returns the angle in radians of the point ``(y, x)``, in all quadrants.")
xlogy = binary("xlogy", _xlogy, "Xlogy", "Returns ``x * log(y)``, 0 where ``x`` is.")
xdivy = binary("xdivy", _xdivy, "Xdivy", "Returns ``x / y``, 0 where ``x`` is.", name="xdivy/Xdivy")
multiply_no_nan = binary(
    "multiply_no_nan", _product_or_zero, "MulNoNan", "Returns ``x * y``, 0 where ``y`` is.", name="multiply_no_nan"
)


def div_no_nan(x: Any, y: Any, name: str | None = None) -> Any:
    """Returns ``x / y``, 0 where ``y`` is; integers are made floats first."""
    return elementwise.divided(x, y, name or "div_no_nan", op_type="DivNoNan", function=_quotient_or_zero)


def floor_div(x: Any, y: Any, name: str | None = None) -> Any:
    """Returns ``x // y``, rounded down: ``floordiv``, but for the name of the operation."""
    return floordiv(x, y, name=name or "FloorDiv")


def div(x: Any, y: Any, name: str | None = None) -> Any:
    """Returns ``x / y`` as Python 2: of integers rounded down, of floats not rounded.

    Raises:
        ValueError: ``y`` cannot be had in the dtype of ``x``.
    """
    with name_scope(name, "div", [x, y]) as scope:
        x = convert_to_tensor(x, name="x")
        y = convert_to_tensor(y, dtype=x.dtype, name="y")
        divided = floordiv if as_dtype(x.dtype).kind in "iu" else realdiv
        return divided(x, y, name=scope)


def scalar_mul(scalar: Any, x: Any, name: str | None = None) -> Any:
    """Returns ``scalar * x``, of ``IndexedSlices`` as such; ValueError if ``scalar`` is not a scalar."""
    values = convert_to_tensor(x.values if isinstance(x, IndexedSlices) else x)
    factor = convert_to_tensor(scalar, dtype=values.dtype, name="scalar")
    if len(factor.shape):
        raise ValueError(
            f"scalar_mul multiplies by one number, not by a tensor of the shape {TensorShape(factor.shape)}"
        )
    scaled = multiply(factor, values, name=name)
    return IndexedSlices(scaled, x.indices, x.dense_shape) if isinstance(x, IndexedSlices) else scaled


def cross(a: Any, b: Any, name: str | None = None) -> Any:
    """Returns the cross products of vectors of three elements, which lie in the last dimension."""
    return computed("Cross", _cross, [a, b], name=name)


def _cross(a: Array, b: Array) -> Array:
    if a.shape != b.shape or a.shape[-1:] != (3,):
        raise ValueError(f"the shapes {list(a.shape)} and {list(b.shape)} should be the same and end with 3")
    return np.cross(a, b)


def accumulate_n(inputs: Any, shape: Any = None, tensor_dtype: Any = None, name: str | None = None) -> Any:
    """Returns the sum of some tensors of one shape, as ``add_n``, of a ``shape`` and dtype that may be said.

    Raises:
        ValueError: There is none, the shapes differ, or they are not ``shape``.
        TypeError: The dtypes differ, or are not ``tensor_dtype``.
    """
    operands = of_one_dtype("AccumulateNV2", inputs)
    if tensor_dtype is not None and as_dtype(operands[0].dtype) != as_dtype(tensor_dtype):
        raise TypeError(f"accumulate_n: the tensors are {operands[0].dtype.name}, not {as_dtype(tensor_dtype).name}")
    for operand in operands if shape is not None else ():
        TensorShape(shape).merge_with(operand.shape)
    return add_n(operands, name=name)


# -- complex numbers ------------------------------------------------------------------------------


def complex(real: Any, imag: Any, name: str | None = None) -> Any:  # noqa: A001 - TensorFlow's name
    """Returns complex numbers of their real and imaginary parts, two tensors of float32 or float64."""
    graph = deferred_graph([real, imag])
    if graph is not None:
        real, imag = convert_to_tensor(real, name="real"), convert_to_tensor(imag, name="imag")
    with name_scope(name, "Complex") as scope:
        dtypes = [as_dtype(each.dtype) if hasattr(each, "dtype") else float32.dtype for each in (real, imag)]
        wanted = _COMPLEX_OF.get((dtypes[0], dtypes[1]))
        if wanted is None:
            raise TypeError(f"complex: both parts are float32 or float64, not {dtypes[0].name} and {dtypes[1].name}")
        attributes = {"Tout": DType.of(wanted)}
        return computed("Complex", _complex, [real, imag], name=scope, dtype=wanted, attributes=attributes)


_COMPLEX_OF = {
    (float32.dtype, float32.dtype): complex64.dtype,
    (float64.dtype, float64.dtype): complex128.dtype,
}


def _complex(real: Array, imag: Array) -> Array:
    return np.asarray(real + 1j * imag, np.result_type(real.dtype, np.complex64))


def real(input: Any, name: str | None = None) -> Any:
    """Returns the real part of each element, a real one as it is."""
    with name_scope(name, "Real", [input]) as scope:
        operand = convert_to_tensor(input, name="input")
        if _is_complex(operand):
            return _of_complex(np.real, "Real", operand, scope)
        if not _is_real(operand):
            raise TypeError(f"real takes numbers, not {operand.dtype.name}")
        return operand


def imag(input: Any, name: str | None = None) -> Any:
    """Returns the imaginary part of each element, 0 of a real one."""
    with name_scope(name, "Imag", [input]) as scope:
        operand = convert_to_tensor(input, name="input")
        return _of_complex(np.imag, "Imag", operand, scope) if _is_complex(operand) else zeros_like(operand)


def angle(input: Any, name: str | None = None) -> Any:
    """Returns the angle in radians of each element in the complex plane."""
    with name_scope(name, "Angle", [input]) as scope:
        operand = convert_to_tensor(input, name="input")
        if _is_complex(operand):
            return _of_complex(np.angle, "Angle", operand, scope)
        return where(less(operand, 0), np.pi * ones_like(operand), zeros_like(operand))


def conj(x: Any, name: str | None = None) -> Any:
    """Returns the complex conjugate of each element, a real one as it is."""
    if isinstance(x, Tensor) and _is_real(x):
        return x
    with name_scope(name, "Conj", [x]) as scope:
        operand = convert_to_tensor(x, name="x")
        if _is_complex(operand):
            return computed("Conj", np.conj, [operand], name=scope)
        if not _is_real(operand):
            raise TypeError(f"conj takes numbers, not {operand.dtype.name}")
        return operand


def _is_complex(operand: Any) -> bool:
    return as_dtype(operand.dtype).kind == "c"


def _is_real(operand: Any) -> bool:
    kind = DType.of(as_dtype(operand.dtype))
    return kind.is_floating or kind.is_integer


def _of_complex(function: Callable[[Array], Any], op_type: str, operand: Any, name: str | None) -> Any:
    half = np.zeros((), as_dtype(operand.dtype)).real.dtype
    return computed(op_type, function, [operand], name=name, dtype=half, attributes={"Tout": DType.of(half)})


# -- to another dtype -----------------------------------------------------------------------------


def _to(public_name: str, dtype: Any, default: str) -> Any:
    def operation(x: Any, name: str = default) -> Any:
        return cast(x, dtype, name=name)

    return named(operation, public_name, f"Returns the elements as {as_dtype(dtype).name}, as ``cast`` does.")


to_float = _to("to_float", float32, "ToFloat")
to_double = _to("to_double", float64, "ToDouble")
to_int32 = _to("to_int32", int32, "ToInt32")
to_int64 = _to("to_int64", int64, "ToInt64")
to_bfloat16 = _to("to_bfloat16", bfloat16, "ToBFloat16")
to_complex64 = _to("to_complex64", complex64, "ToComplex64")
to_complex128 = _to("to_complex128", complex128, "ToComplex128")


def saturate_cast(value: Any, dtype: Any, name: str | None = None) -> Any:
    """Returns the elements as another type; those that it cannot hold become the least or greatest that it can."""
    with name_scope(name, "saturate_cast", [value]) as scope:
        operand, wanted = convert_to_tensor(value, name="value"), DType(as_dtype(dtype))
        given = DType(as_dtype(operand.dtype))
        if given.min < wanted.min:
            operand = maximum(operand, np.asarray(wanted.min, given))
        if given.max > wanted.max:
            operand = minimum(operand, np.asarray(wanted.max, given))
        return cast(operand, wanted, name=scope)
