"""TensorFlow 1's functions that draw random numbers.

In a deferred graph each is an operation that draws other numbers in every run. Without a seed these follow from
nothing; with one, of the operation or of the graph (``set_random_seed``), every session draws the same sequence. The
numbers are not TensorFlow's. Outside of a deferred graph they are drawn at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import ml_dtypes
import numpy as np
from numpy.random import Generator

from ps_protocol.initial_values.random_stream import truncated_standard_normal
from ps_protocol.operations import Array
from worker_client.graph.blocks import name_scope
from worker_client.graph.computation import DrawingKernel, Seeds
from worker_client.graph.default_graph import get_default_graph, graph_of
from worker_client.graph.operation import OutputSpec, Tensor
from worker_client.ops.array_ops import slice as slice_
from worker_client.ops.constant_ops import convert_to_tensor, shape_of
from worker_client.ops.constant_ops import shape as shape_tensor
from worker_client.ops.math_ops import add, divide, maximum, mod, multiply, subtract
from worker_client.values.dtypes import DType, as_dtype, float32, int32, int64
from worker_client.values.shapes import TensorShape

__all__ = [
    "get_seed",
    "multinomial",
    "random_crop",
    "random_gamma",
    "random_normal",
    "random_poisson",
    "random_shuffle",
    "random_uniform",
    "set_random_seed",
    "truncated_normal",
]

_DEFAULT_GRAPH_SEED = 87654321
_MAX_INT32 = 2**31 - 1


def set_random_seed(seed: int | None) -> None:
    """Makes the random operations that the default graph gets from now on draw the same numbers in every session.

    The initial values that ``random_normal_initializer`` and its like make do not depend on it: they follow from the
    variable's name and the job's seed, so that all workers agree.
    """
    get_default_graph().seed = seed


def get_seed(op_seed: int | None) -> Seeds:
    """Returns the two numbers that an operation's sequence follows from: None and None if from nothing."""
    graph = get_default_graph()
    if graph.seed is None and op_seed is None:
        return None, None
    number = len(graph.get_operations()) if op_seed is None else op_seed
    return (_DEFAULT_GRAPH_SEED if graph.seed is None else graph.seed), number


def random_normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = float32,
    seed: int | None = None,
    name: str | None = None,
) -> Any:
    """Returns normal numbers.

    Args:
        shape: Of the result; may be a tensor.
        mean: Of the numbers; a number or a tensor that fits the shape.
        stddev: Their standard deviation; likewise.
        dtype: A type of floats.
        seed: Makes every session draw the same sequence.
        name: "random_normal" if not given.

    Raises:
        TypeError: The dtype is not one of floats, or the shape not one of integers.
        ValueError: ``mean`` or ``stddev`` is a tensor of another dtype.
    """
    return _scaled(_normal, "RandomStandardNormal", shape, mean, stddev, dtype, seed, name or "random_normal")


def truncated_normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = float32,
    seed: int | None = None,
    name: str | None = None,
) -> Any:
    """Returns normal numbers within two standard deviations of the mean; otherwise as ``random_normal``."""
    return _scaled(_truncated_normal, "TruncatedNormal", shape, mean, stddev, dtype, seed, name or "truncated_normal")


def random_uniform(
    shape: Any,
    minval: Any = 0,
    maxval: Any = None,
    dtype: Any = float32,
    seed: int | None = None,
    name: str | None = None,
) -> Any:
    """Returns numbers that are equally likely anywhere from ``minval`` up to but without ``maxval``.

    Args:
        shape: Of the result; may be a tensor.
        minval: The least number, or a tensor of those.
        maxval: Their bound; 1 if not given, which integers must.
        dtype: A type of floats, int32 or int64.
        seed: Makes every session draw the same sequence.
        name: "random_uniform" if not given.

    Raises:
        ValueError: The dtype is another one, or one of integers without ``maxval``.
        TypeError: The shape is not one of integers.
    """
    wanted = DType(as_dtype(dtype))
    if not (wanted.is_floating or wanted in (int32, int64)):
        raise ValueError(f"random_uniform draws floats, int32 or int64, not {wanted.name}")
    if maxval is None:
        if wanted.is_integer:
            raise ValueError(f"random_uniform of {wanted.name} needs maxval")
        maxval = 1
    with name_scope(name, "random_uniform", [shape, minval, maxval]) as scope:
        sizes = _sizes(shape)
        if wanted.is_integer:
            least, bound = convert_to_tensor(minval, wanted, "min"), convert_to_tensor(maxval, wanted, "max")
            operands = [sizes, least, bound]
            return _drawn(_integers, "RandomUniformInt", operands, _output(wanted, shape), seed, scope)
        drawn = _drawn(_uniform(wanted.dtype), "RandomUniform", [sizes], _output(wanted, shape), seed)
        if _is_number(maxval, 1) and _is_number(minval, 0):
            return drawn
        greatest = convert_to_tensor(maxval, dtype=wanted, name="max")
        if _is_number(minval, 0):
            return multiply(drawn, greatest)
        least = convert_to_tensor(minval, dtype=wanted, name="min")
        return add(multiply(drawn, subtract(greatest, least, name="sub"), name="mul"), least, name=scope)


def random_gamma(
    shape: Any, alpha: Any, beta: Any = None, dtype: Any = float32, seed: int | None = None, name: str | None = None
) -> Any:
    """Returns numbers of gamma distributions: ``shape`` of them for each element of ``alpha / beta``.

    Args:
        shape: How many; the result has the shape ``[*shape, *alpha.shape]``.
        alpha: Shape of the distribution.
        beta: The inverse of its scale, 1 if not given, of the shape of ``alpha``.
        dtype: A type of floats.
        seed: Makes every session draw the same sequence.
        name: "random_gamma" if not given.
    """
    with name_scope(name, "random_gamma", [shape, alpha, beta]):
        wanted = as_dtype(dtype)
        parameter = convert_to_tensor(alpha, dtype=wanted, name="alpha")
        inverse_scale = convert_to_tensor(1 if beta is None else beta, dtype=wanted, name="beta")
        parameter = add(parameter, multiply(inverse_scale, np.zeros((), wanted)))
        drawn = _for_each(Generator.gamma, "RandomGamma", shape, parameter, wanted, seed)
        return maximum(np.finfo(np.float32).tiny, divide(drawn, inverse_scale))


def random_poisson(lam: Any, shape: Any, dtype: Any = float32, seed: int | None = None, name: str | None = None) -> Any:
    """Returns numbers of Poisson distributions: ``shape`` of them for each element of ``lam``, as ``random_gamma``."""
    with name_scope(name, "random_poisson", [lam, shape]):
        rate = convert_to_tensor(lam, name="rate")
        return _for_each(Generator.poisson, "RandomPoissonV2", shape, rate, as_dtype(dtype), seed)


def random_shuffle(value: Any, seed: int | None = None, name: str | None = None) -> Any:
    """Returns the rows of a tensor in a random order."""
    operand = convert_to_tensor(value, name="value")
    output = OutputSpec(as_dtype(operand.dtype), TensorShape(operand.shape))
    return _drawn(Generator.permutation, "RandomShuffle", [operand], output, seed, name)


def random_crop(value: Any, size: Any, seed: int | None = None, name: str | None = None) -> Any:
    """Returns a box of the size ``size`` from a random place in a tensor.

    Raises:
        InvalidArgumentError: When it runs: the tensor is smaller than that.
    """
    with name_scope(name, "random_crop", [value, size]) as scope:
        operand = convert_to_tensor(value, name="value")
        wanted = convert_to_tensor(size, dtype=int32, name="size")
        room = add(subtract(shape_tensor(operand), wanted), 1)
        anywhere = random_uniform(shape_tensor(room), 0, _MAX_INT32, int32, seed)
        box = slice_(operand, mod(anywhere, room), size, name=scope)
        if isinstance(box, Tensor):
            box.set_shape(shape_of(size))
        return box


def multinomial(
    logits: Any, num_samples: Any, seed: int | None = None, name: str | None = None, output_dtype: Any = None
) -> Any:
    """Returns for each row ``num_samples`` numbers of columns, each as likely as its logit says.

    Args:
        logits: Logarithms of what the likelihoods are proportional to; shape ``[rows, columns]``.
        num_samples: How many, a scalar.
        seed: Makes every session draw the same sequence.
        name: Of the scope; "multinomial" if not given.
        output_dtype: int64 if not given, or int32.

    Returns:
        Shape ``[rows, num_samples]``.
    """
    with name_scope(name, "multinomial", [logits]):
        return _sampled(logits, num_samples, seed, output_dtype)


def categorical(
    logits: Any, num_samples: Any, dtype: Any = None, seed: int | None = None, name: str | None = None
) -> Any:
    """Does what ``multinomial`` does, under its newer name; "categorical" if no name is given."""
    with name_scope(name, "categorical", [logits]):
        return _sampled(logits, num_samples, seed, dtype)


# -- operations -----------------------------------------------------------------------------------


def _scaled(
    function: Callable[..., Array],
    op_type: str,
    shape: Any,
    mean: Any,
    stddev: Any,
    dtype: Any,
    seed: int | None,
    name: str,
) -> Any:
    wanted = DType(as_dtype(dtype))
    if not wanted.is_floating:
        raise TypeError(f"{op_type} draws floats, not {wanted.name}")
    with name_scope(name, None, [shape, mean, stddev]) as scope:
        sizes = _sizes(shape)
        centre = convert_to_tensor(mean, dtype=wanted, name="mean")
        spread = convert_to_tensor(stddev, dtype=wanted, name="stddev")
        drawn = _drawn(function, op_type, [sizes], _output(wanted, shape), seed)
        return add(multiply(drawn, spread, name="mul"), centre, name=scope)


def _sampled(logits: Any, num_samples: Any, seed: int | None, dtype: Any) -> Any:
    scores, count = convert_to_tensor(logits, name="logits"), convert_to_tensor(num_samples, int32, "num_samples")
    rows = TensorShape(scores.shape)
    columns = None if isinstance(num_samples, Tensor) else int(num_samples)
    output = OutputSpec(as_dtype(dtype or int64), TensorShape([*rows[:1], columns] if rows.ndims else None))

    def draw(generator: Generator, scores: Array, number: Array) -> Array:
        noise = generator.gumbel(size=(scores.shape[0], int(number), scores.shape[1]))
        return np.asarray(np.argmax(scores[:, np.newaxis, :] + noise, axis=-1))

    return _drawn(draw, "Multinomial", [scores, count], output, seed)


def _for_each(
    function: Callable[..., Array], op_type: str, shape: Any, parameter: Any, dtype: Any, seed: int | None
) -> Any:
    outer, inner = shape_of(shape), TensorShape(parameter.shape)
    known = None if outer.ndims is None or inner.ndims is None else [*outer, *inner]

    def draw(generator: Generator, sizes: Array, parameter: Array) -> Array:
        return function(generator, parameter, size=(*_shape(sizes), *parameter.shape))

    return _drawn(draw, op_type, [_sizes(shape), parameter], OutputSpec(as_dtype(dtype), TensorShape(known)), seed)


def _drawn(
    draw: Callable[..., Array],
    op_type: str,
    operands: Sequence[Any],
    output: OutputSpec,
    seed: int | None,
    name: str | None = None,
) -> Any:
    """Makes an operation that calls ``draw`` with a generator and the operands."""

    def compute(generator: Generator, *values: Array) -> Array:
        return draw(generator, *values).astype(output.dtype)

    graph = graph_of([each for each in operands if isinstance(each, Tensor)])
    with graph.as_default():
        kernel = DrawingKernel(compute, get_seed(seed))
        if not graph.deferred:
            return compute(kernel.generator(), *operands)[()]
        inputs = [convert_to_tensor(each) for each in operands]
        attributes: dict[str, Any] = {"seed": kernel.seeds[0] or 0, "seed2": kernel.seeds[1] or 0}
        for key, place in _DTYPE_ATTRIBUTES[op_type].items():
            attributes[key] = DType.of(output.dtype) if place is None else inputs[place].dtype
        op = graph.create_op(op_type, inputs, [output], name=name, attributes=attributes, computation=kernel)
        return op.outputs[0]


_DTYPE_ATTRIBUTES: Final[Mapping[str, Mapping[str, int | None]]] = {
    "RandomUniform": {"T": 0, "dtype": None},
    "RandomUniformInt": {"T": 0, "Tout": None},
    "RandomStandardNormal": {"T": 0, "dtype": None},
    "TruncatedNormal": {"T": 0, "dtype": None},
    "RandomShuffle": {"T": 0},
    "RandomGamma": {"S": 0, "T": 1},
    "RandomPoissonV2": {"S": 0, "R": 1, "dtype": None},
    "Multinomial": {"T": 0, "output_dtype": None},
}
"""By the type of the operation, what its attributes of dtypes say: that of which operand, or None of the output."""


def _shape(sizes: Array) -> tuple[int, ...]:
    return tuple(int(size) for size in np.ravel(sizes))


def _output(dtype: Any, shape: Any) -> OutputSpec:
    return OutputSpec(as_dtype(dtype), shape_of(shape))


def _sizes(shape: Any) -> Any:
    sizes = convert_to_tensor(shape, dtype=int32 if _is_empty(shape) else None, name="shape")
    if as_dtype(sizes.dtype).kind not in "iu":
        raise TypeError(f"a shape is made of integers, not of {as_dtype(sizes.dtype).name}")
    return sizes


def _is_empty(shape: Any) -> bool:
    return isinstance(shape, list | tuple) and not shape


def _is_number(value: Any, number: int) -> bool:
    return isinstance(value, int) and value == number


# -- what is drawn --------------------------------------------------------------------------------


def _normal(generator: Generator, sizes: Array) -> Array:
    return np.asarray(generator.standard_normal(_shape(sizes)))


def _truncated_normal(generator: Generator, sizes: Array) -> Array:
    shape = _shape(sizes)
    words = generator.integers(2**64, size=math.prod(shape), dtype=np.uint64)
    return truncated_standard_normal(words).reshape(shape)


def _uniform(dtype: np.dtype[Any]) -> Callable[..., Array]:
    bits = int(ml_dtypes.finfo(dtype).nmant) + 1  # so many that no number is rounded up to 1

    def draw(generator: Generator, sizes: Array) -> Array:
        return generator.integers(2**bits, size=_shape(sizes)) * 2.0**-bits

    return draw


def _integers(generator: Generator, sizes: Array, least: Array, bound: Array) -> Array:
    return np.asarray(generator.integers(least, bound, size=_shape(sizes)))
