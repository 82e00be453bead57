"""Sparse tensors and rows have the members of tensors, and can be run, converted and waited for."""

from __future__ import annotations

import numpy as np
import pytest

from worker_client.deferred.sparse_tensor import SparseTensor, SparseTensorValue
from worker_client.graph.graph import Graph
from worker_client.ops.array_ops import cast
from worker_client.ops.constant_ops import constant, convert_to_tensor, identity, placeholder
from worker_client.ops.control_flow import group, no_op
from worker_client.ops.control_flow import tuple as tuple_
from worker_client.ops.math_ops import add_n, negative
from worker_client.sessions.session import Session
from worker_client.values.conversion import IndexedSlices, IndexedSlicesValue


def rows(dense_shape: object = (3, 1)) -> IndexedSlices:
    sizes = None if dense_shape is None else constant(dense_shape)
    return IndexedSlices(constant([[2.0], [3.0]], name="vals"), constant([1, 1]), sizes)


class TestIndexedSlices:
    def test_members_are_those_of_the_values(self, session: Session) -> None:
        with session.graph.device("/job:ps/task:1"):
            slices = rows()
        assert (slices.name, slices.op.name, slices.device) == ("vals:0", "vals", "/job:ps/task:1")
        assert slices.dtype == np.float32
        assert slices.graph is session.graph
        assert slices.shape == [3, 1]
        assert rows(None).shape.ndims is None
        assert slices.consumers() == []

    def test_running_gives_the_values_of_the_members(self, session: Session) -> None:
        value, other = session.run([rows(), constant(5)])
        assert isinstance(value, IndexedSlicesValue)
        assert [each.tolist() for each in value] == [[[2], [3]], [1, 1], [3, 1]]
        assert other == 5
        assert session.run(rows(None)).dense_shape is None

    def test_the_whole_has_the_sum_of_rows_of_one_index(self, session: Session) -> None:
        whole = convert_to_tensor(rows())
        assert (whole.op.type, whole.shape) == ("UnsortedSegmentSum", [3, 1])
        assert session.run(whole).tolist() == [[0], [5], [0]]
        assert session.run(add_n([rows(), np.ones((3, 1), np.float32)])).tolist() == [[1], [6], [1]]
        with pytest.raises(ValueError, match="without dense_shape"):
            convert_to_tensor(rows(None))

    def test_what_keeps_the_rows_apart(self, session: Session) -> None:
        slices = rows()
        for kept, first in (
            (-slices, -2),
            (identity(slices), 2),
            (cast(slices, np.int32), 2),
            (tuple_([slices])[0], 2),
        ):
            assert isinstance(kept, IndexedSlices)
            assert session.run(kept).values[0] == first

    def test_it_can_be_waited_for(self, session: Session) -> None:
        slices = rows()
        with session.graph.control_dependencies([slices]):
            assert no_op().control_inputs == [slices.op]
        assert group(slices).control_inputs == [slices.op]


class TestSparseTensor:
    def test_lists_become_named_constants(self, session: Session) -> None:
        tensor = SparseTensor([[1, 0]], [4.0], [2, 2])
        names = [each.name for each in (tensor.indices, tensor.values, tensor.dense_shape)]
        assert names == ["SparseTensor/indices:0", "SparseTensor/values:0", "SparseTensor/dense_shape:0"]
        assert tensor.dtype == np.float32
        assert tensor.indices.dtype == tensor.dense_shape.dtype == np.int64
        assert tensor.shape == tensor.get_shape() == [2, 2]
        assert (tensor.name, tensor.op, tensor.graph, tensor.device) == (
            "SparseTensor/values:0",
            tensor.values.op,
            session.graph,
            "",
        )

    def test_what_is_not_known_of_the_shape(self, session: Session) -> None:
        places, sizes = placeholder(np.int64, [None, 2]), placeholder(np.int64, [2])
        assert SparseTensor(places, placeholder(np.float32, [None]), sizes).shape.as_list() == [None, None]
        with pytest.raises(ValueError, match="int64"):
            SparseTensor(constant([[0]]), [1.0], [1])

    def test_running_gives_the_values_of_the_members(self, session: Session) -> None:
        tensor = SparseTensor([[1, 0]], [4.0], [2, 2])
        for value in (session.run(tensor), session.run({"a": tensor})["a"], tensor.eval(session=session)):
            assert isinstance(value, SparseTensorValue)
            assert [each.tolist() for each in value] == [[[1, 0]], [4], [2, 2]]
        again = SparseTensor.from_value(value)
        assert session.run(again).values.tolist() == [4]
        assert SparseTensor.from_value(again) is again

    def test_it_is_negated_and_mapped_but_is_no_tensor(self, session: Session) -> None:
        tensor = SparseTensor([[1, 0]], [4.0], [2, 2])
        assert session.run([-tensor, negative(tensor), cast(tensor, np.int32)])[1].values.tolist() == [-4]
        with pytest.raises(TypeError):
            convert_to_tensor(tensor)
        with session.graph.control_dependencies([tensor]):
            assert no_op().control_inputs == [tensor.op]


def test_elsewhere_than_in_a_graph_members_are_arrays() -> None:
    with Graph(deferred=False).as_default():
        tensor = SparseTensor([[1, 0]], [4.0], [2, 2])
    assert isinstance(tensor.values, np.ndarray)
    assert tensor.dtype == np.float32
    assert tensor.shape == [2, 2]
