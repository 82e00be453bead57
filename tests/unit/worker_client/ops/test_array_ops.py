"""Functions that reshape, join, cut and pick: the values are NumPy's, the names TensorFlow's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import InvalidArgumentError
from worker_client.graph.graph import Graph
from worker_client.ops import array_ops as ops
from worker_client.ops.constant_ops import constant, placeholder, shape
from worker_client.ops.math_ops import reduce_sum
from worker_client.scopes.variable_scope import get_variable
from worker_client.sessions.session import Session
from worker_client.values.dtypes import float64, int32

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize(
    ("function", "value", "name"),
    [
        (lambda x: ops.cast(x, int32), X.astype(np.int32), "Cast"),
        (lambda x: ops.reshape(x, [3, -1]), X.reshape(3, 2), "Reshape"),
        (lambda x: ops.reshape(x, constant([6])), X.reshape(6), "Reshape"),
        (ops.transpose, X.T, "transpose"),
        (lambda x: ops.transpose(x, [0, 1]), X, "transpose"),
        (lambda x: ops.expand_dims(x, -1), X[..., np.newaxis], "ExpandDims"),
        (lambda x: ops.squeeze(x[:1]), X[0], "Squeeze"),
        (lambda x: ops.squeeze(x[:1], [0]), X[0], "Squeeze"),
        (lambda x: ops.concat([x, x], 1), np.concatenate([X, X], 1), "concat"),
        (lambda x: ops.concat([x], 1), X, "concat/concat"),
        (lambda x: ops.stack([x, X], axis=1), np.stack([X, X], 1), "stack"),
        (lambda x: ops.tile(x, [2, 1]), np.tile(X, (2, 1)), "Tile"),
        (lambda x: ops.slice(x, [1, 0], [-1, 2]), X[1:, :2], "Slice"),
        (lambda x: ops.gather(x, [[1, 0]]), X[[[1, 0]]], "GatherV2"),
        (lambda x: ops.gather(x, [2, 0], axis=1), X[:, [2, 0]], "GatherV2"),
        (lambda x: ops.gather_nd(x, [[1, 2], [0, 0]]), X[[1, 0], [2, 0]], "GatherNd"),
        (lambda x: ops.gather_nd(x, [[1]]), X[[1]], "GatherNd"),
        (ops.argmax, X.argmax(0), "ArgMax"),
        (lambda x: ops.argmin(x, 1, output_type=int32), X.argmin(1).astype(np.int32), "ArgMin"),
        (lambda x: ops.where(x > 2.0, x, -x), np.where(X > 2, X, -X), "Select"),
        (lambda x: ops.where([True, False], x, -x), np.stack([X[0], -X[1]]), "Select"),
    ],
)
def test_values_names_and_shapes(session: Session, function: Callable[[Any], Any], value: Any, name: str) -> None:
    result = function(constant(X))
    assert result.name == f"{name}:0"
    assert result.dtype == value.dtype
    assert result.shape.is_compatible_with(value.shape)
    np.testing.assert_array_equal(session.run(result), value)


class TestUnknownShapes:
    def test_what_is_known_stays_known(self, session: Session) -> None:
        batch = placeholder(np.float32, [None, 4])
        for tensor, known in (
            (ops.reshape(batch, [-1, 2]), "(?, 2)"),
            (ops.reshape(batch, [8, 3]), "(8, 3)"),
            (ops.reshape(batch, [shape(batch)[0], 2, 2]), "(?, 2, 2)"),
            (ops.reshape(batch, shape(batch)), "(?, 4)"),
            (ops.transpose(batch), "(4, ?)"),
            (ops.squeeze(batch), "<unknown>"),
            (ops.concat([batch, batch], 1), "(?, 8)"),
            (ops.concat([batch, np.ones((2, 4), np.float32)], 0), "(?, 4)"),
            (ops.stack([batch, batch]), "(2, ?, 4)"),
            (ops.tile(batch, constant([1, 2])), "(?, 8)"),
            (ops.gather(batch, [0, 1]), "(2, 4)"),
            (ops.slice(batch, [0, 0], [-1, 2]), "(?, 2)"),
            (ops.slice(batch, constant([0, 0]), [2, 2]), "(2, 2)"),
            (ops.argmax(batch, 1), "(?,)"),
            (ops.where(batch > 0.0), "(?, 2)"),
        ):
            assert str(tensor.shape) == known, tensor
        np.testing.assert_array_equal(
            session.run(ops.reshape(batch, [-1, 2]), {batch: np.ones((1, 4))}), np.ones((2, 2))
        )

    def test_a_shape_that_does_not_fit(self, session: Session) -> None:
        with pytest.raises(ValueError, match=r"Reshape of Const:0 \(float32\[2, 3\]\)"):
            ops.reshape(constant(X), [4, 2])


class TestCast:
    def test_what_has_the_dtype_stays(self, session: Session) -> None:
        tensor = constant(X)
        assert ops.cast(tensor, np.float32) is tensor

    def test_kinds(self, session: Session) -> None:
        assert session.run(ops.cast([0.5, -1.7], int32)).tolist() == [0, -1]
        assert session.run(ops.cast([2, 0], bool)).tolist() == [True, False]
        assert session.run(ops.cast([1 + 2j], float64)).tolist() == [1]


class TestSeveralResults:
    def test_unstack(self, session: Session) -> None:
        rows = ops.unstack(constant(X))
        assert [row.name for row in rows] == ["unstack:0", "unstack:1"]
        assert [row.shape for row in rows] == [[3], [3]]
        np.testing.assert_array_equal(session.run(rows), X)
        np.testing.assert_array_equal(session.run(ops.unstack(constant(X), axis=1)[2]), X[:, 2])

    def test_unstack_needs_a_number(self, session: Session) -> None:
        batch = placeholder(np.float32, [None, 2])
        with pytest.raises(ValueError, match="not known"):
            ops.unstack(batch)
        one, two = ops.unstack(batch, 2)
        assert session.run([one, two], {batch: [[1, 2], [3, 4]]})[1].tolist() == [3, 4]
        with pytest.raises(InvalidArgumentError, match=r"unstack .* does not have the size 2"):
            session.run(two, {batch: [[1, 2]]})

    def test_split(self, session: Session) -> None:
        parts = ops.split(constant(X), 3, axis=1)
        assert [part.name for part in parts] == ["split:0", "split:1", "split:2"]
        np.testing.assert_array_equal(session.run(parts), np.split(X, 3, axis=1))
        sizes = ops.split(constant(X), [1, -1], axis=1, name="cut")
        assert [part.shape for part in sizes] == [[2, 1], [2, 2]]
        assert sizes[0].op.name == "cut"
        np.testing.assert_array_equal(session.run(sizes[1]), X[:, 1:])
        for wrong in (2, [1, 1], [4, -1], [-1, -1]):
            with pytest.raises(ValueError, match="Split"):
                ops.split(constant(X), wrong, axis=1)

    def test_what_is_fed_is_not_computed(self, session: Session) -> None:
        one, two = ops.unstack(constant([1, 2]))
        assert session.run([one, two], {one: 7}) == [7, 2]


class TestGather:
    def test_rows_of_a_variable_leave_it_alone(self, session: Session) -> None:
        table = get_variable("table", initializer=X)
        session.run(table.initializer)
        rows, element = ops.gather(table, [1, 1]), ops.gather_nd(table, [[1, 2]])
        assert (rows.op.name, element.op.name) == ("GatherV2", "GatherNd")
        assert table.value() not in (*rows.op.operands, *element.op.operands)
        np.testing.assert_array_equal(session.run(rows), X[[1, 1]])
        np.testing.assert_array_equal(session.run(element), [5])
        np.testing.assert_array_equal(session.run(ops.gather(table, [2], axis=1)), X[:, [2]])

    @pytest.mark.parametrize("index", [-1, 2])
    def test_an_index_out_of_range_is_named(self, session: Session, index: int) -> None:
        where = placeholder(np.int32, [1])
        for tensor in (ops.gather(constant(X), where), ops.gather_nd(constant(X), ops.expand_dims(where, 1))):
            with pytest.raises(InvalidArgumentError, match=rf"{tensor.op.name} .*index {index} is not in \[0, 2\)"):
                session.run(tensor, {where: [index]})


def test_where_gives_places(session: Session) -> None:
    places = ops.where([[True, False], [False, True]])
    assert (places.op.name, places.dtype) == ("Where", np.int64)
    assert session.run(places).tolist() == [[0, 0], [1, 1]]
    with pytest.raises(ValueError, match="both x and y"):
        ops.where([True], [1.0])


def test_a_slice_stays_inside(session: Session) -> None:
    beyond = ops.slice(constant(X), [0, 2], [1, 2])  # TensorFlow, too, finds out when it runs
    with pytest.raises(InvalidArgumentError, match="exceed the shape"):
        session.run(beyond)
    with pytest.raises(ValueError, match="one number for each dimension"):
        ops.slice(constant(X), [0], [1])


def test_older_names_of_arguments(session: Session) -> None:
    tensor = constant(X)
    assert ops.expand_dims(tensor, dim=0).shape == [1, 2, 3]
    assert ops.squeeze(ops.expand_dims(tensor, 0), squeeze_dims=[0]).shape == [2, 3]
    assert ops.argmax(tensor, dimension=1).shape == [2]
    with pytest.raises(ValueError, match="mean the same"):
        ops.argmax(tensor, axis=1, dimension=1)
    with pytest.raises(ValueError, match="needs axis"):
        ops.expand_dims(tensor)


def test_outside_of_a_deferred_graph_all_is_at_once() -> None:
    with Graph(lambda definition: definition).as_default():
        np.testing.assert_array_equal(ops.concat([X, X], 0), np.concatenate([X, X]))
        np.testing.assert_array_equal(ops.unstack(X)[1], X[1])
        np.testing.assert_array_equal(ops.gather(X, [1]), X[[1]])
        assert ops.cast(X, int32).dtype == np.int32


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (lambda x: ops.concat(1, [x, x]), ValueError),  # the order of arguments before TensorFlow 1.0
        (lambda x: ops.concat(0, [x]), ValueError),
        (lambda x: ops.concat([x], x), TypeError),
        (lambda x: ops.concat([x], [0, 1]), ValueError),
        (lambda x: ops.concat([x], None), ValueError),
        (lambda x: ops.concat([x, x], 1.0), TypeError),
        (lambda x: ops.concat([x, x], "0"), TypeError),
        (lambda x: ops.concat([x, x], [1]), ValueError),
        (lambda x: ops.concat([x, x], constant([1])), ValueError),
        (lambda x: ops.concat([], 0), ValueError),
        (lambda x: ops.expand_dims(0, x), TypeError),
        (lambda x: ops.gather([1], x), TypeError),
        (lambda x: ops.gather(x, [1], axis=1.0), TypeError),
        (lambda x: ops.gather(x, [1], axis=[x]), ValueError),
        (lambda x: ops.tile(x, [1.5, 2.0]), TypeError),
        (lambda x: reduce_sum(x, [x]), TypeError),
        (lambda x: reduce_sum(x, 0.5), TypeError),
    ],
)
@pytest.mark.parametrize("is_variable", [False, True], ids=["constant", "variable"])
def test_arguments_in_another_order_are_refused(
    session: Session, function: Callable[[Any], Any], error: type[Exception], is_variable: bool
) -> None:
    value = get_variable("v", initializer=X) if is_variable else constant(X)
    with pytest.raises(error):
        function(value)


def test_a_dimension_can_be_any_integer(session: Session) -> None:
    for axis in (1, np.int64(1), constant(1), np.asarray(1, np.int8)):
        np.testing.assert_array_equal(session.run(ops.concat([constant(X), X], axis)), np.concatenate([X, X], 1))
