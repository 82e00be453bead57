"""What a variable starts with, as naming settles it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import DTypeMismatchError
from ps_protocol.initializer_spec import ValueKind
from ps_protocol.operations import VariableSpec
from tests.unit.worker_client.naming_fakes import deferred_graph
from worker_client.deferred.conversion import tensor_value
from worker_client.graph.graph import Graph
from worker_client.graph.operation import OutputSpec
from worker_client.initializers import Constant, GlorotUniform, Zeros
from worker_client.initializers.base import Initializer
from worker_client.scopes.initial_value import (
    BoundInitializer,
    ComputedValue,
    check_initializer_dtype,
    initial_value,
)
from worker_client.values.shapes import TensorShape

FLOAT = np.dtype(np.float32)


def computed(given: object, dtype: Any = None) -> np.ndarray[Any, Any]:
    settled = initial_value(given, "v", None if dtype is None else np.dtype(dtype)).initializer
    assert isinstance(settled, ComputedValue)
    return settled.value


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1.5, "float32"),
        (1, "int32"),
        (2**31, "int64"),
        (True, "bool"),
        (1j, "complex128"),
        (b"abc", "bytes24"),
        ("ü", "bytes16"),
        ([[1, 2]], "int32"),
        (np.float64(1), "float64"),
        (np.arange(3), "int64"),
    ],
)
def test_pythons_numbers_are_narrow_and_numpys_keep_their_type(value: Any, dtype: str) -> None:
    assert tensor_value(value, "v").dtype.name == dtype


def test_a_dtype_converts_where_the_kind_is_kept_or_nothing_is_lost() -> None:
    assert computed([1, 2], "float64").tolist() == [1.0, 2.0]
    assert computed(np.zeros(2), "int32").dtype == np.int32
    assert computed(np.array([0, 1]), "bool").tolist() == [False, True]
    for value in (np.array([0.5]), np.array([np.nan]), np.array([2.0**40])):
        with pytest.raises((DTypeMismatchError, ValueError), match="variable v"):
            computed(value, "int32")


def test_an_initializer_of_ours_is_left_to_the_ps() -> None:
    initializer = GlorotUniform()
    settled = initial_value(BoundInitializer(initializer, FLOAT, (2, 3)), "v", None)
    assert settled.initializer is initializer
    assert (settled.dtype, settled.shape) == (FLOAT, (2, 3))


def test_one_that_does_not_suit_is_found_at_once() -> None:
    with pytest.raises(ValueError, match="variable v"):
        initial_value(BoundInitializer(GlorotUniform(), np.dtype(np.int32), (2,)), "v", None)


def test_one_that_only_the_worker_can_compute_is_computed() -> None:
    class Own(Initializer):
        def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Any:
            return np.full(shape, 3, dtype)

    for initializer in (Own(), Constant([1.0, 2.0]), lambda shape, dtype: [3.0, 3.0]):
        settled = initial_value(BoundInitializer(initializer, FLOAT, (2,)), "v", None)
        assert isinstance(settled.initializer, ComputedValue)
        assert settled.initializer.value.dtype == FLOAT


def test_called_it_returns_the_value() -> None:
    assert BoundInitializer(Zeros(), FLOAT, (2,))().tolist() == [0.0, 0.0]


def test_a_computed_value_is_an_initializer_of_the_parts_own_shape() -> None:
    value = ComputedValue(np.array([1.0, 2.0], np.float32))
    spec = value.spec(VariableSpec("v", FLOAT, (2,)), job_seed=1)
    assert isinstance(spec.kind, ValueKind)
    assert spec.kind.array is value.value
    assert value([2, 1], np.int32).tolist() == [[1], [2]]


def test_a_deferred_tensor_stays_one() -> None:
    tensor = deferred_graph().create_op("Const", outputs=[OutputSpec(FLOAT, TensorShape([2]))]).outputs[0]
    for given in (tensor, lambda: tensor):
        settled = initial_value(given, "v", FLOAT)
        assert (settled.initializer, settled.dtype, settled.shape) == (tensor, FLOAT, (2,))
    with pytest.raises(ValueError, match=r"float32.*int32"):
        initial_value(tensor, "v", np.dtype(np.int32))


@pytest.mark.parametrize("dtype", [">f4", "<f4", "=f4"])
def test_the_byte_order_of_an_initializer_is_no_matter(dtype: str) -> None:
    check_initializer_dtype("v", np.array([1, 2], dtype), np.dtype(np.float32), Graph(deferred=False))
    with pytest.raises(ValueError, match="variable v is float32, but dtype=float64"):
        check_initializer_dtype("v", np.array([1, 2], dtype), np.dtype(np.float64), Graph(deferred=False))
