"""Reductions on the ps tasks, of whole and partitioned variables, against NumPy's of the value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from ps_protocol.errors import (
    DTypeMismatchError,
    FailedPreconditionError,
    InvalidArgumentError,
    ShapeMismatchError,
)
from tests.unit.worker_client.clusters import InProcessCluster
from worker_client.initializers import Constant
from worker_client.scopes.variable_scope import get_variable
from worker_client.variables.partitioners import fixed_size_partitioner

WAYS = {"whole": None, "cut by rows": 0, "cut by columns": 1, "cut in depth": 2}


@pytest.fixture
def cluster() -> Iterator[InProcessCluster]:
    with InProcessCluster() as cluster, cluster.client():
        yield cluster


def variable_of(value: npt.ArrayLike, way: str = "whole", dtype: npt.DTypeLike = np.float32) -> Any:
    array = np.asarray(value, dtype)
    axis = WAYS[way]
    partitioner = None if axis is None else fixed_size_partitioner(3, axis=axis)
    return get_variable("v", array.shape, dtype, initializer=Constant(array), partitioner=partitioner)


def drawn(dtype: npt.DTypeLike = np.float32, shape: tuple[int, ...] = (5, 7, 4)) -> Any:
    """Many elements are equal."""
    return (np.random.default_rng(5).integers(-9, 10, shape) / 2).astype(dtype)


each_way = pytest.mark.parametrize("way", WAYS)


@each_way
@pytest.mark.usefixtures("cluster")
class TestOfAllElements:
    def test_sums(self, way: str) -> None:
        value = drawn()
        v = variable_of(value, way)
        assert v.sum() == value.sum(dtype=np.float64)
        assert v.mean() == pytest.approx(value.mean(dtype=np.float64), rel=1e-15)
        assert v.norm() == pytest.approx(np.linalg.norm(value.astype(np.float64)), rel=1e-15)
        assert v.sum().dtype == v.norm().dtype == np.float64

    def test_extremes(self, way: str) -> None:
        value = drawn()
        v = variable_of(value, way)
        assert (v.max(), v.min()) == (value.max(), value.min())
        assert v.max().dtype == np.float32
        v.assign(np.where(value == value.max(), np.nan, value))
        assert np.isnan(v.max())
        assert np.isnan(v.min())

    def test_dot(self, way: str) -> None:
        value, other = drawn(), drawn()[::-1]
        assert variable_of(value, way).dot(other) == np.vdot(value.astype(np.float64), other)

    @pytest.mark.parametrize("k", [0, 1, 17, 140])
    def test_the_greatest_elements_and_where_they_are(self, way: str, k: int) -> None:
        value = drawn()
        values, indices = variable_of(value, way).top_k(k)
        expected = np.argsort(-value.reshape(-1), kind="stable")[:k]
        np.testing.assert_array_equal(indices, expected)
        np.testing.assert_array_equal(values, value.reshape(-1)[expected])
        assert (values.dtype, indices.dtype) == (np.float32, np.int64)

    def test_a_histogram(self, way: str) -> None:
        value = np.random.default_rng(3).normal(size=(5, 7, 4)).astype(np.float32)
        v = variable_of(value, way)
        for arguments in ({}, {"bins": 7}, {"bins": 5, "range": (-1, 0.75)}, {"range": (1, 1)}):
            counts, edges = v.histogram(**arguments)
            expected, expected_edges = np.histogram(value, **arguments)
            np.testing.assert_array_equal(counts, expected)
            np.testing.assert_allclose(edges, expected_edges, rtol=1e-6)
            assert (counts.dtype, edges.dtype) == (np.int64, expected_edges.dtype)

    def test_how_many_is_an_integer(self, way: str) -> None:
        v = variable_of(drawn(), way)
        with pytest.raises(DTypeMismatchError, match=r"top_k of variable v takes how many as an integer, not 1\.5"):
            v.top_k(1.5)
        with pytest.raises(DTypeMismatchError, match=r"histogram of variable v .*, not \[0, 1\]; .* read the value"):
            v.histogram([0, 1])

    def test_equal_elements_lie_in_the_middle_of_their_histogram(self, way: str) -> None:
        value = np.full((3, 3, 3), 2)
        counts, edges = variable_of(value, way).histogram(4)
        np.testing.assert_array_equal(counts, np.histogram(value, 4)[0])
        np.testing.assert_array_equal(edges, np.histogram(value, 4)[1])

    def test_integers(self, way: str) -> None:
        value = np.random.default_rng(8).integers(0, 2**63, (3, 4, 5)).astype(np.uint64) * np.uint64(2)
        v = variable_of(value, way, np.uint64)
        values, indices = v.top_k(5)
        np.testing.assert_array_equal(values, np.sort(value.reshape(-1))[::-1][:5])
        np.testing.assert_array_equal(value.reshape(-1)[indices], values)
        assert v.max() == value.max()
        assert v.sum() == value.sum()

    def test_sixteen_bits(self, way: str) -> None:
        value = drawn(ml_dtypes.bfloat16)
        v = variable_of(value, way, ml_dtypes.bfloat16)
        wide = value.astype(np.float64)
        assert v.sum() == wide.sum()
        assert (v.max(), v.min()) == (wide.max(), wide.min())
        np.testing.assert_array_equal(v.top_k(9)[0].astype(np.float64), np.sort(wide.reshape(-1))[::-1][:9])
        np.testing.assert_array_equal(v.histogram(6)[0], np.histogram(wide, 6)[0])

    def test_complex_numbers(self, way: str) -> None:
        value = (drawn() + 1j * drawn()[::-1]).astype(np.complex64)
        v = variable_of(value, way, np.complex64)
        assert v.sum() == value.sum(dtype=np.complex128)
        assert v.norm() == pytest.approx(np.linalg.norm(value), rel=1e-6)
        with pytest.raises(DTypeMismatchError, match=r"variable v.*has no max"):
            v.max()

    def test_numpys_functions_read_the_value(self, way: str) -> None:
        value = drawn()
        v = variable_of(value, way)
        for function in (np.sum, np.mean, np.max, np.min):
            assert function(v) == function(value)
            assert function(v).dtype == np.float32
            np.testing.assert_array_equal(function(v, axis=1), function(value, axis=1))
            out = np.empty((5, 4), np.float32)
            assert function(v, 1, out=out) is out
        np.testing.assert_array_equal(np.sum(v, axis=1, keepdims=True), value.sum(axis=1, keepdims=True))
        assert np.sum(v, dtype=np.float64).dtype == np.float64

    @pytest.mark.parametrize("name", ["sum", "mean", "max", "min"])
    def test_those_of_an_axis_are_numpys(self, way: str, name: str) -> None:
        v = variable_of(drawn(), way)
        with pytest.raises(TypeError, match=rf"{name}\(\) of variable v.*no axis.*np\.{name}\(v, axis="):
            getattr(v, name)(axis=0)
        with pytest.raises(TypeError, match="no keepdims"):
            getattr(v, name)(keepdims=True)

    def test_it_is_one_exchange_for_each_ps_task(self, way: str, cluster: InProcessCluster) -> None:
        v = variable_of(drawn(), way)
        tasks = 1 if way == "whole" else 2
        asked = {"norm": (), "sum": (), "mean": (), "max": (), "min": (), "top_k": (3,), "dot": (drawn(),)}
        for name, arguments in asked.items():
            before = cluster.batches()
            getattr(v, name)(*arguments)
            done = [after - old for after, old in zip(cluster.batches(), before, strict=True)]
            assert max(done) == 1, name
            assert sum(done) == tasks, name


@pytest.mark.usefixtures("cluster")
class TestOthers:
    def test_a_scalar(self) -> None:
        v = variable_of(2.5)
        assert (v.sum(), v.mean(), v.max(), v.min(), v.norm(), v.dot(2)) == (2.5, 2.5, 2.5, 2.5, 2.5, 5)
        values, indices = v.top_k(1)
        assert (values.tolist(), indices.tolist()) == ([2.5], [0])

    def test_of_no_elements(self) -> None:
        v = variable_of(np.empty((0, 3)))
        assert (v.sum(), v.norm()) == (0, 0)
        assert v.histogram(2)[0].tolist() == [0, 0]
        for name in ("mean", "max", "min"):
            with pytest.raises(InvalidArgumentError, match=f"variable v .*no elements, and so no {name}"):
                getattr(v, name)()

    def test_equal_elements_in_several_parts_come_in_the_order_of_their_indices(self) -> None:
        v = variable_of(np.zeros((2, 4)), "cut by columns")
        assert v.top_k(5)[1].tolist() == [0, 1, 2, 3, 4]

    def test_nothing_is_greater_than_nan(self) -> None:
        v = variable_of([[1, np.nan, 3], [np.nan, 2, np.inf]], "cut by columns")
        values, indices = v.top_k(4)
        np.testing.assert_array_equal(values, [np.nan, np.nan, np.inf, 3])
        assert sorted(indices[:2]) == [1, 3]

    def test_what_is_refused(self) -> None:
        v = variable_of(drawn(shape=(2, 3)), "cut by rows")
        with pytest.raises(InvalidArgumentError, match=r"top_k of variable v .* 7 elements; it has 6"):
            v.top_k(7)
        with pytest.raises(ShapeMismatchError, match="variable v"):
            v.dot(np.ones((3, 2)))
        with pytest.raises(InvalidArgumentError, match=r"histogram of variable v .*integer, not 'auto'"):
            v.histogram("auto")
        with pytest.raises(InvalidArgumentError, match=r"histogram of variable v .*integer, not array"):
            v.histogram(np.array([0.0, 1.0]))
        with pytest.raises(InvalidArgumentError, match=r"histogram of variable v .*from 2 to 1"):
            v.histogram(range=(2, 1))
        with pytest.raises(InvalidArgumentError, match=r"histogram of variable v.* 0 bins"):
            v.histogram(0)
        v.assign(np.full((2, 3), np.nan))
        with pytest.raises(InvalidArgumentError, match=r"histogram of variable v .*nan"):
            v.histogram()

    def test_without_a_value_there_is_nothing_to_compute_from(self) -> None:
        with InProcessCluster() as cluster, cluster.client(initialize=False):
            v = variable_of(drawn())
            with pytest.raises(FailedPreconditionError, match=r"variable v .*has not been initialised"):
                v.sum()
