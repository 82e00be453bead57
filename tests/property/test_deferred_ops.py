"""Whatever NumPy makes of arrays at once, a session makes of deferred tensors later, and the shape was known before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from worker_client.embeddings.rows import RowAssignment
from worker_client.graph.graph import Graph
from worker_client.ops import array_ops, math_ops
from worker_client.ops.constant_ops import constant, placeholder
from worker_client.sessions.session import Session

Array = npt.NDArray[Any]

BINARY: Final[list[Callable[..., Any]]] = [
    np.add,
    np.subtract,
    np.multiply,
    np.maximum,
    np.less,
    np.hypot,
    np.true_divide,
]
UNARY: Final[list[Callable[..., Any]]] = [np.exp, np.negative, np.sort, np.cumsum, np.transpose, np.ravel, np.isfinite]


def array_of(shape: tuple[int, ...]) -> Array:
    return (np.arange(np.prod(shape, dtype=int), dtype=np.float32) % 9 - 4).reshape(shape)


@st.composite
def forgotten(draw: st.DrawFn, shape: tuple[int, ...]) -> list[int | None]:
    """A shape of which some sizes are not known."""
    return [None if draw(st.booleans()) else size for size in shape]


@st.composite
def fed(draw: st.DrawFn, shape: tuple[int, ...] | None = None) -> tuple[Array, list[int | None]]:
    """A value, and what is known about its shape."""
    found = draw(npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=40)) if shape is None else shape
    return array_of(found), draw(forgotten(found))


def run(function: Callable[..., Any], values: list[tuple[Array, list[int | None]]]) -> tuple[Any, Array]:
    """Returns the deferred tensor that a function makes, and its value."""
    with Session(graph=Graph()) as session:
        tensors = [placeholder(np.float32, shape) for _, shape in values]
        result = function(*tensors)
        feeds = dict(zip(tensors, (value for value, _ in values), strict=True))
        return result, np.asarray(session.run(result, feeds))


def check(result: Any, value: Array, expected: Any) -> None:
    assert result.dtype == value.dtype == expected.dtype
    assert result.shape.is_compatible_with(value.shape), (result, value.shape)
    np.testing.assert_array_equal(value, expected)


@given(st.sampled_from(BINARY), npst.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=40), st.data())
def test_functions_of_two(function: Callable[..., Any], shapes: npst.BroadcastableShapes, data: st.DataObject) -> None:
    values = [data.draw(fed(shape)) for shape in shapes.input_shapes]
    result, value = run(function, values)
    with np.errstate(all="ignore"):
        check(result, value, function(*(array for array, _ in values)))


@given(st.sampled_from(UNARY), fed(shape=(3, 20)))
def test_functions_of_one(function: Callable[..., Any], value: tuple[Array, list[int | None]]) -> None:
    check(*run(function, [value]), function(value[0]))


@given(fed(), st.data())
def test_indexing(value: tuple[Array, list[int | None]], data: st.DataObject) -> None:
    array, _ = value
    index = data.draw(npst.basic_indices(array.shape, allow_newaxis=True, allow_ellipsis=True))
    check(*run(lambda tensor: tensor[index], [value]), array[index])


@given(fed(), st.data())
def test_reductions(value: tuple[Array, list[int | None]], data: st.DataObject) -> None:
    array, _ = value
    axis = data.draw(st.none() | npst.valid_tuple_axes(array.ndim))
    keepdims = data.draw(st.booleans())
    wanted = None if axis is None else list(axis)
    result, found = run(lambda tensor: math_ops.reduce_sum(tensor, wanted, keepdims), [value])
    check(result, found, np.sum(array, axis=axis, keepdims=keepdims))


@given(st.integers(0, 30), st.integers(1, 30), st.integers(1, 30), st.data())
def test_matrix_products(rows: int, inner: int, columns: int, data: st.DataObject) -> None:
    values = [data.draw(fed((rows, inner))), data.draw(fed((inner, columns)))]
    result, found = run(math_ops.matmul, values)
    assert result.shape.ndims == 2
    check(result, found, values[0][0] @ values[1][0])


@given(fed(shape=(20, 6)), st.sampled_from([[-1, 3], [6, 20], [40, -1], [2, 5, 12], [-1]]))
def test_reshaping(value: tuple[Array, list[int | None]], shape: list[int]) -> None:
    check(*run(lambda tensor: array_ops.reshape(tensor, shape), [value]), value[0].reshape(shape))


@given(st.integers(17, 1200), st.integers(1, 20), st.data())
def test_large_shapes_are_inferred_right(rows: int, columns: int, data: st.DataObject) -> None:
    with Graph().as_default():
        large = placeholder(np.float32, data.draw(forgotten((rows, columns))))
        start, stop = sorted(data.draw(st.tuples(st.integers(-50, 50), st.integers(-50, 50))))
        functions: list[Callable[[Any], Any]] = [
            lambda x: x[start:stop],
            lambda x: np.concatenate([x, x]),
            lambda x: np.concatenate([x, np.ones((17, columns), np.float32)]),
            lambda x: np.pad(x, 20),
            lambda x: np.diff(x, n=3, axis=0),
            lambda x: np.repeat(x, 2, axis=1),
            lambda x: np.matmul(np.transpose(x), x),
        ]
        for function in functions:
            expected = function(np.zeros((rows, columns), np.float32)).shape
            assert function(large).shape.is_compatible_with(expected)


@given(npst.arrays(np.float32, (4,), elements=st.integers(-4, 4)), npst.arrays(np.float32, (4,)))
def test_constants_make_what_their_arrays_make(one: Array, two: Array) -> None:
    with Session(graph=Graph()) as session, np.errstate(all="ignore"):
        np.testing.assert_array_equal(session.run(constant(one) * two + 1), one * two + 1)


@given(st.integers(1, 9), st.integers(0, 60), st.sampled_from(["mod", "div"]))
def test_every_id_of_a_table_has_a_row_of_its_own(number: int, total: int, strategy: str) -> None:
    lengths = tuple(total // number + (part < total % number) for part in range(number))
    parts, rows = RowAssignment(strategy, lengths, "the table").places(np.arange(total))
    assert sorted(zip(parts.tolist(), rows.tolist(), strict=True)) == [
        (part, row) for part, length in enumerate(lengths) for row in range(length)
    ]
    if strategy == "div":  # ids are the rows of the parts put together
        starts = np.concatenate([[0], np.cumsum(lengths)])
        np.testing.assert_array_equal(starts[parts] + rows, np.arange(total))
