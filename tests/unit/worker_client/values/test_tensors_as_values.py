"""Tensors of PyTorch and arrays of JAX as values and gradients: taken as what they mean, or refused with the remedy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import torch
from jax.experimental.sparse import BCOO

from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError, ShapeMismatchError
from ps_protocol.operations import VariableSpec
from worker_client.client import Client
from worker_client.initializers import zeros_initializer
from worker_client.initializers.arrays import array_value
from worker_client.optimizers.rules import Adam, GradientDescent
from worker_client.scopes.variable_scope import get_variable
from worker_client.values.array_likes import array_of
from worker_client.values.conversion import convert
from worker_client.variables.partitioners import fixed_size_partitioner

X = [1.0, 2.0, 3.0]


def spec(dtype: npt.DTypeLike = np.float32) -> VariableSpec:
    return VariableSpec("scope/v", np.dtype(dtype), (3,))


class Subclass(torch.Tensor):
    pass


def tensor(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(X).to(dtype)


def strided(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor([1, 0, 2, 0, 3, 0]).to(dtype)[::2]


RIGHT: dict[str, Callable[[], Any]] = {
    **{f"torch {dtype}": partial(tensor, dtype) for dtype in (torch.float32, torch.float64, torch.float16)},
    "torch bfloat16": lambda: tensor(torch.bfloat16),
    "torch float8_e4m3fn": lambda: tensor(torch.float8_e4m3fn),
    "torch float8_e5m2": lambda: tensor(torch.float8_e5m2),
    "torch int64": lambda: tensor(torch.int64),
    "torch strided": strided,
    "torch strided bfloat16": lambda: strided(torch.bfloat16),
    "torch transposed": lambda: torch.tensor([X, X]).T[:, 1],
    "torch channels last": lambda: torch.tensor(X).reshape(1, 3, 1, 1).to(memory_format=torch.channels_last).flatten(),
    "torch expanded": lambda: torch.tensor(1.0).expand(3) * torch.tensor(X),
    "torch negated": lambda: torch.tensor([1j, 2j, 3j]).conj().imag * -1,
    "torch negated view": lambda: torch.tensor([-1j, -2j, -3j]).conj().imag,
    "torch subclass": lambda: tensor().as_subclass(Subclass),
    "torch subclass of bfloat16": lambda: tensor(torch.bfloat16).as_subclass(Subclass),
    "torch detached parameter": lambda: torch.nn.Parameter(tensor(torch.bfloat16)).detach(),
    "torch frozen parameter": lambda: torch.nn.Parameter(tensor(), requires_grad=False),
    "a list of torch's": lambda: [torch.tensor(1.0), torch.tensor(2, dtype=torch.bfloat16), 3],
    "jax": lambda: jnp.array(X),
    "jax bfloat16": lambda: jnp.array(X, jnp.bfloat16),
    "jax float16": lambda: jnp.array(X, jnp.float16),
    "jax float8": lambda: jnp.array(X, jnp.float8_e4m3fn),
    "jax int32": lambda: jnp.array([1, 2, 3]),
    "a list of jax's": lambda: [jnp.float32(1), jnp.bfloat16(2), 3],
}


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("make", RIGHT.values(), ids=RIGHT)
def test_it_has_the_numbers_that_it_means(make: Callable[[], Any], dtype: npt.DTypeLike) -> None:
    for converted in (convert(make(), spec(dtype)), array_value(make(), spec(dtype))):
        assert type(converted) is np.ndarray
        assert converted.dtype == dtype
        assert converted.tolist() == X


@pytest.mark.parametrize("name", ["float32", "float16", "float64", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int8"])
@pytest.mark.parametrize("make", [tensor, strided])
def test_a_tensor_keeps_its_dtype_and_its_memory(make: Callable[[torch.dtype], torch.Tensor], name: str) -> None:
    given = make(getattr(torch, name))
    array = array_of(given, "here")
    assert array.dtype.name == name
    assert array.__array_interface__["data"][0] == given.data_ptr()
    assert array_of(given.reshape(-1)[0], "here").shape == ()
    assert array_of(given[:0], "here").shape == (0,)


def test_numbers_that_lie_conjugated_or_negated_are_those_that_are_meant() -> None:
    given = torch.tensor([1 + 2j, 3 - 4j])
    assert array_of(given.conj(), "here").tolist() == [1 - 2j, 3 + 4j]
    assert array_of(given.conj().imag, "here").tolist() == [-2, 4]


def seen_by(call: Callable[[Callable[[Any], Any]], Any]) -> Any:
    """Returns what a function is given while it is transformed."""
    seen = []

    def take(value: Any) -> Any:
        seen.append(value)
        return value

    call(take)
    return seen[0]


def deleted() -> Any:
    array = jnp.ones(3)
    array.delete()
    return array


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a parameter": (lambda: torch.nn.Parameter(tensor()), r"requires a gradient, which would be lost.*value\.detach"),
    "of bfloat16": (lambda: tensor(torch.bfloat16).requires_grad_(), r"requires a gradient.*value\.detach\(\)"),
    "a list of parameters": (lambda: [torch.nn.Parameter(tensor())], r"requires a gradient.*value\.detach\(\)"),
    "meta": (lambda: tensor().to("meta"), "is on the device meta and has no elements.*make it on the device cpu"),
    "sparse": (lambda: tensor().to_sparse(), r"of the layout torch\.sparse_coo.*value\.to_dense\(\), or IndexedSlices"),
    "compressed": (lambda: torch.eye(3).to_sparse_csr(), r"of the layout torch\.sparse_csr.*value\.to_dense\(\)"),
    "nested": (
        lambda: torch.nested.nested_tensor([tensor(), tensor()], layout=torch.jagged),
        r"is a nested tensor.*pad it, as with value\.to_padded_tensor",
    ),
    "of no memory": (lambda: seen_by(lambda take: torch.func.vmap(take)(torch.ones(2, 3))), "makes no array of itself"),
    "traced": (lambda: seen_by(lambda take: jax.jit(take)(jnp.ones(3))), "is a DynamicJaxprTracer that makes no array"),
    "a sparse array": (lambda: BCOO.fromdense(jnp.ones(3)), r"is a sparse BCOO.*value\.todense\(\), or IndexedSlices"),
    "a key": (lambda: jax.random.key(0), r"is a PRNGKeyArray .*jax\.random\.key_data"),
    "float0": (lambda: np.zeros(3, jax.dtypes.float0), "holds float0, JAX's gradients with respect to integers.*leave"),
    "deleted": (deleted, "is a ArrayImpl that makes no array of itself .*deleted"),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state:UserWarning")
@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_numbers_to_send_is_refused_by_name(make: Callable[[], Any], message: str) -> None:
    for take in (convert, array_value):
        with pytest.raises(DTypeMismatchError, match=rf"variable scope/v: .*{message}") as caught:
            take(make(), spec())
        assert caught.value.variable == "scope/v"


def test_a_tensor_on_another_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one of a GPU, which this machine need not have."""
    monkeypatch.setattr(Subclass, "device", torch.device("cuda", 1), raising=False)
    with pytest.raises(DTypeMismatchError, match=r"the value is on the device cuda:1.*as with value\.cpu\(\)"):
        convert(tensor().as_subclass(Subclass), spec())


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_quantized_numbers_are_refused() -> None:
    quantized = torch.quantize_per_tensor(tensor(), 1.0, 0, torch.qint8)
    with pytest.raises(DTypeMismatchError, match=r"is quantized \(torch\.qint8\).*value\.dequantize\(\)"):
        array_of(quantized, "here")


# -- as values and gradients of variables -----------------------------------------------------------


def test_a_variable_made_of_a_tensor_has_its_dtype(client: Client) -> None:
    assert get_variable("half", initializer=tensor(torch.bfloat16)).dtype == ml_dtypes.bfloat16
    assert get_variable("jax", initializer=jnp.array(X, jnp.bfloat16)).dtype == ml_dtypes.bfloat16
    with pytest.raises(DTypeMismatchError, match=r"variable layer: .*requires a gradient.*detach"):
        get_variable("layer", initializer=torch.nn.Linear(2, 2).weight)


GRADIENTS = {name: make for name, make in RIGHT.items() if "int" not in name}


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("make", GRADIENTS.values(), ids=GRADIENTS)
def test_it_is_a_gradient(client: Client, make: Callable[[], Any], dtype: npt.DTypeLike) -> None:
    v = get_variable("v", [3], dtype=dtype, initializer=zeros_initializer())
    GradientDescent(1.0).apply_gradients([(make(), v)])
    assert v.numpy().tolist() == [-1, -2, -3]


def sparse_gradient(ids: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Returns the gradient of a table ``[4, 2]`` of which rows were looked up; that of row i is i + 1 each time."""
    table = torch.nn.Embedding(4, 2, sparse=True, dtype=dtype)
    ids = torch.tensor(ids, dtype=torch.int64)
    (table(ids) * (ids[..., None] + 1)).sum().backward()
    gradient = table.weight.grad
    assert gradient is not None
    assert gradient.is_sparse
    return gradient


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("ids", [[1, 1, 3], [[0, 3], [3, 3]], []], ids=["repeated", "of two dimensions", "none"])
def test_the_gradient_of_a_sparse_embedding_is_one_for_some_rows(
    client: Client, ids: Any, parts: int, dtype: torch.dtype
) -> None:
    v = get_variable("v", [4, 2], initializer=zeros_initializer(), partitioner=fixed_size_partitioner(parts))
    optimizer = GradientDescent(1.0)
    for gradient in (sparse_gradient(ids, dtype), sparse_gradient(ids, dtype).coalesce()):
        optimizer.apply_gradients([(gradient, v)])
    times = np.bincount(np.array(ids, np.int64).ravel(), minlength=4)
    assert v.numpy().tolist() == [[-2.0 * count * (row + 1)] * 2 for row, count in enumerate(times)]


def test_rows_that_have_no_gradient_do_not_move(client: Client) -> None:
    """Adam moves all rows by a whole gradient, even by zeros, as long as its slots are not zero."""
    v = get_variable("v", [4, 2], initializer=zeros_initializer())
    optimizer = Adam(0.1, sparse="lazy")
    optimizer.apply_gradients([(sparse_gradient([1, 2]), v)])
    before = v.numpy()
    optimizer.apply_gradients([(sparse_gradient([2]), v)])
    assert (v.numpy() == before).all(axis=1).tolist() == [True, True, False, True]


def test_sparse_gradients_of_another_form_are_refused(client: Client) -> None:
    v = get_variable("v", [4, 2], initializer=zeros_initializer())
    optimizer = GradientDescent(1.0)
    with pytest.raises(ShapeMismatchError, match=r"gradient of variable v .*has the shape \[5, 2\]"):
        optimizer.apply_gradients(
            [(torch.sparse_coo_tensor([[4]], torch.ones(1, 2), (5, 2), check_invariants=True), v)]
        )
    with pytest.raises(DTypeMismatchError, match=r"variable v: .*torch\.sparse_coo.*to_dense"):
        optimizer.apply_gradients(
            [(torch.sparse_coo_tensor([[1], [1]], torch.ones(1), (4, 2), check_invariants=True), v)]
        )
    with pytest.raises(DTypeMismatchError, match=r"variable v: .*requires a gradient.*detach"):
        optimizer.apply_gradients([(sparse_gradient([1]).requires_grad_(), v)])
    with pytest.raises(InvalidArgumentError, match="the gradient of variable v is None"):
        optimizer.apply_gradients([(None, v)])  # type: ignore[list-item] # which is what is tested
    assert not v.numpy().any()


def test_a_gradient_without_waiting_is_copied(client: Client) -> None:
    v = get_variable("v", [3], initializer=zeros_initializer())
    gradient = tensor()
    done = GradientDescent(1.0).apply_gradients([(gradient, v)], wait=False)
    gradient.zero_()
    done.result(60)
    assert v.numpy().tolist() == [-1, -2, -3]
