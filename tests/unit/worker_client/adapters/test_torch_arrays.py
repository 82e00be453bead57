"""Memory of tensors as arrays: every dtype and layout of parameters and gradients, and what cannot be shared."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError
from worker_client.adapters.torch_arrays import TensorPlace, array_over, check_layout, say_device_once, tensor_over
from worker_client.values.conversion import IndexedSlices

DTYPES = {
    torch.float16: np.float16,
    torch.bfloat16: ml_dtypes.bfloat16,
    torch.float32: np.float32,
    torch.float64: np.float64,
}
OTHER_DTYPES = {
    torch.float8_e5m2: ml_dtypes.float8_e5m2,
    torch.int64: np.int64,
    torch.bool: np.bool_,
    torch.complex64: np.complex64,
}


def parameter(tensor: torch.Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(tensor, requires_grad=tensor.is_floating_point())


@pytest.mark.parametrize(("dtype", "numpy_dtype"), [*DTYPES.items(), *OTHER_DTYPES.items()])
@pytest.mark.parametrize("shape", [(3, 2), (), (0, 4)])
def test_an_array_is_over_the_memory_of_its_tensor_and_the_other_way(
    dtype: torch.dtype, numpy_dtype: Any, shape: tuple[int, ...]
) -> None:
    tensor = torch.zeros(shape).to(dtype)
    array = array_over(tensor)
    assert (array.dtype, array.shape) == (np.dtype(numpy_dtype), shape)
    again = tensor_over(array)
    assert again.dtype == dtype
    assert again.data_ptr() == tensor.data_ptr() == array.__array_interface__["data"][0] or not array.size
    array[...] = 1
    assert bool((tensor.to(torch.complex64) == 1).all())


def test_an_array_of_elements_that_torch_has_not_is_refused() -> None:
    for array in (np.zeros(2, ml_dtypes.float8_e3m4), np.array([b"text"])):
        with pytest.raises(DTypeMismatchError, match=f"PyTorch has no tensors of {array.dtype.name}"):
            tensor_over(array)


class TestPlaces:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_a_contiguous_parameter_is_its_own_place(self, dtype: torch.dtype) -> None:
        tensor = parameter(torch.zeros(3, 2, dtype=dtype))
        place = TensorPlace("w", tensor)
        assert not place.is_beside
        place.array[...] = 5
        assert bool((tensor == 5).all())

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize(
        "layout",
        [
            pytest.param(lambda each: each.to(memory_format=torch.channels_last), id="channels last"),
            pytest.param(lambda each: each.transpose(0, 2), id="transposed"),
            pytest.param(lambda each: each[:, ::2], id="with gaps"),
        ],
    )
    def test_another_one_has_a_place_beside_it(
        self, dtype: torch.dtype, layout: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        tensor = parameter(layout(torch.arange(120.0).to(dtype).reshape(2, 3, 4, 5)))
        place = TensorPlace("w", tensor)
        assert place.is_beside
        assert place.array.flags.c_contiguous
        np.testing.assert_array_equal(place.array.astype(np.float32), tensor.detach().float().numpy())
        place.array[...] = 5
        with torch.no_grad():
            place.take()
            assert bool((tensor == 5).all())
            tensor.fill_(6)
        place.give()
        assert (place.array == 6).all()

    def test_a_parameter_that_has_other_memory_has_moved(self) -> None:
        tensor = parameter(torch.zeros(3))
        place = TensorPlace("w", tensor)
        assert not place.has_moved
        tensor.data = torch.ones(3)
        assert place.has_moved

    def test_one_that_lies_in_its_memory_otherwise_has_moved(self) -> None:
        tensor = parameter(torch.zeros(3, 3))
        place = TensorPlace("w", tensor)
        tensor.data = tensor.data.t()
        assert place.has_moved

    def test_one_on_another_device_goes_through_the_host(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tensor = parameter(torch.full((3,), 4.0))
        # No test has such a device: what is asked of the tensor is the same.
        elsewhere: Any = SimpleNamespace(
            **{name: getattr(tensor, name) for name in ("layout", "is_quantized", "dtype", "shape", "detach", "copy_")},
            device=SimpleNamespace(type="cuda"),
            data_ptr=tensor.data_ptr,
            stride=tensor.stride,
            is_contiguous=lambda: True,
        )
        place = TensorPlace("w", elsewhere)
        assert place.is_beside
        np.testing.assert_array_equal(place.array, np.full(3, 4))
        place.array[...] = 5
        with torch.no_grad():
            place.take()
        assert bool((tensor == 5).all())


class TestGradients:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_a_contiguous_one_is_not_copied(self, dtype: torch.dtype) -> None:
        place = TensorPlace("w", parameter(torch.zeros(3, 2, dtype=dtype)))
        gradient = torch.ones(3, 2, dtype=dtype)
        taken = place.gradient(gradient)
        assert isinstance(taken, np.ndarray)
        assert taken.dtype == DTYPES[dtype]
        assert taken.__array_interface__["data"][0] == gradient.data_ptr()

    @pytest.mark.parametrize(
        "gradient",
        [
            pytest.param(torch.arange(6.0).reshape(2, 3).t(), id="transposed"),
            pytest.param(torch.arange(12.0).reshape(3, 4)[:, ::2], id="with gaps"),
            pytest.param(torch.tensor([1.0, 2.0]).expand(3, 2), id="expanded"),
            pytest.param(torch.arange(6.0, dtype=torch.float64).reshape(3, 2), id="of another dtype"),
            pytest.param(torch.ones(3, 2, dtype=torch.complex64).conj().imag, id="negated"),
        ],
    )
    def test_another_one_is_copied_to_the_same_place_each_time(self, gradient: torch.Tensor) -> None:
        place = TensorPlace("w", parameter(torch.zeros(3, 2)))
        first, second = place.gradient(gradient), place.gradient(gradient)
        assert isinstance(first, np.ndarray)
        assert isinstance(second, np.ndarray)
        np.testing.assert_array_equal(first, gradient.resolve_neg().float().numpy())
        assert first.flags.c_contiguous
        assert first.__array_interface__["data"] == second.__array_interface__["data"]

    def test_a_sparse_one_without_rows_is_made_dense(self) -> None:
        dense = torch.eye(3)[:, :2]
        taken = TensorPlace("w", parameter(torch.zeros(3, 2))).gradient(dense.to_sparse(2))
        np.testing.assert_array_equal(np.asarray(taken), dense.numpy())

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_rows_stay_rows_though_they_come_twice(self, dtype: torch.dtype) -> None:
        table = torch.nn.Embedding(5, 2, sparse=True, dtype=dtype)
        table(torch.tensor([3, 1, 3])).sum().backward()
        assert table.weight.grad is not None
        taken = TensorPlace("w", table.weight).gradient(table.weight.grad)
        assert isinstance(taken, IndexedSlices)
        assert np.asarray(taken.indices).tolist() == [3, 1, 3]
        assert taken.values.dtype == DTYPES[dtype]  # type: ignore[union-attr] # it is an array
        assert np.asarray(taken.values).tolist() == [[1, 1]] * 3


@pytest.mark.parametrize(
    ("tensor", "error", "message"),
    [
        (torch.zeros(2, device="meta"), InvalidArgumentError, r"w is on the meta device.*model\.to_empty"),
        (torch.zeros(2, dtype=torch.complex64), DTypeMismatchError, r"w is torch\.complex64.*torch\.view_as_real"),
        (torch.zeros(2).to_sparse(), InvalidArgumentError, r"w has the layout torch\.sparse_coo; make it dense"),
        (torch.nn.UninitializedParameter(), InvalidArgumentError, "w has no shape yet.*run one batch"),
        (torch.zeros(2, 1).expand(2, 3), InvalidArgumentError, r"w has elements that share their memory.*\.clone\("),
    ],
    ids=["meta", "complex", "sparse", "lazy", "expanded"],
)
def test_what_has_no_values_to_share_is_refused(tensor: torch.Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_layout("w", tensor)


def test_elements_that_no_variable_holds_are_refused() -> None:
    with pytest.raises(DTypeMismatchError, match=r"w is torch\.bits8, which no variable holds"):
        check_layout("w", torch.empty(2, dtype=torch.bits8), trained=False)
    check_layout("w", torch.zeros(2, dtype=torch.complex64), trained=False)


def test_a_default_device_changes_nothing() -> None:
    tensor = parameter(torch.zeros(2, 3, device="cpu"))
    with torch.device("meta"):
        place = TensorPlace("w", tensor)
        assert place.gradient(torch.ones(2, 3, dtype=torch.float64, device="cpu")).shape == (2, 3)


def test_what_is_made_in_inference_mode_is_written_to_outside_of_it() -> None:
    tensor = parameter(torch.zeros(3, 2).t())
    gradient = torch.ones(3, 2).t()
    with torch.inference_mode():
        place = TensorPlace("w", tensor)
        place.gradient(gradient)
    place.give()
    assert np.asarray(place.gradient(gradient * 2)).tolist() == [[2] * 3] * 2


def test_the_log_says_that_values_go_through_the_host(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        say_device_once("net", "cuda")
    assert "net is on the device cuda: its values and gradients are copied through the host in each step" in caplog.text
