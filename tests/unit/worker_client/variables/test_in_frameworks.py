"""Variables where a framework asks for an array: it gets their values and dtypes, or an error says what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.utils import check_array

from worker_client.compat import v1 as tf
from worker_client.initializers import constant_initializer, zeros_initializer
from worker_client.scopes.variable_scope import get_variable
from worker_client.variables.partitioners import fixed_size_partitioner

pytestmark = pytest.mark.usefixtures("client")
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT8 = np.dtype(ml_dtypes.float8_e4m3fn)
NUMBERS = np.arange(12).reshape(4, 3) % 5


def variable(value: Any, dtype: Any = np.float32, *, parts: int = 1) -> Any:
    value = np.asarray(value).astype(dtype)
    return get_variable(
        "v",
        value.shape,
        dtype=value.dtype,
        initializer=constant_initializer(value) if value.size else zeros_initializer(),
        partitioner=fixed_size_partitioner(parts) if parts > 1 else None,
    )


def as_numbers(made: Any) -> Any:
    """Returns what a framework has made as an array of float64 or complex128."""
    if isinstance(made, torch.Tensor):
        made = made.detach().to(torch.complex128 if made.is_complex() else torch.float64).numpy()
    return np.asarray(made).astype(complex if np.asarray(made).dtype.kind == "c" else float)


TORCH: dict[str, Callable[[Any], Any]] = {
    "as_tensor": torch.as_tensor,
    "asarray": torch.asarray,
    "tensor": torch.tensor,
    "from_dlpack": torch.from_dlpack,
}
JAX: dict[str, Callable[[Any], Any]] = {
    "asarray": jnp.asarray,
    "array": jnp.array,
    "from_dlpack": jnp.from_dlpack,
    "a sum": lambda v: jnp.zeros(v.shape, v.dtype) + v,
    "a sum on the right": lambda v: v + jnp.zeros(v.shape, v.dtype),
}
NUMPY: dict[str, Callable[[Any], Any]] = {
    "asarray": np.asarray,
    "array": lambda v: np.array(v, copy=True),
    "check_array": lambda v: check_array(v, ensure_2d=False, allow_nd=True),
}
FRAMEWORKS = {
    **{f"torch {name}": each for name, each in TORCH.items()},
    **{f"jax {name}": each for name, each in JAX.items()},
    **{f"numpy {name}": each for name, each in NUMPY.items()},
}
DTYPES: list[Any] = ["float32", "float16", "bool", "int32", "uint8", "complex64", BFLOAT16, FLOAT8]
WIDE: list[Any] = ["float64", "int64", "uint64"]  # for which JAX wants a setting
VALUES: dict[str, tuple[Any, int]] = {
    "whole": (NUMBERS, 1),
    "in parts": (NUMBERS, 3),
    "a scalar": (3, 1),
    "empty": (np.zeros((0, 3)), 1),
}


def dtype_name(made: Any) -> str:
    return str(made.dtype).removeprefix("torch.")


def cases() -> list[Any]:
    """All that a framework takes: JAX makes 32 bits of 64 unless told otherwise, scikit-learn wants rows of numbers."""
    made = []
    for use in FRAMEWORKS:
        for dtype in DTYPES + ([] if use.startswith("jax") else WIDE):
            for name, (value, parts) in VALUES.items():
                if "check_array" in use and (dtype in ("complex64", BFLOAT16, FLOAT8) or not np.size(value) > 1):
                    continue
                made.append(pytest.param(use, value, parts, dtype, id=f"{use} {np.dtype(dtype).name} {name}"))
    return made


@pytest.mark.parametrize(("use", "value", "parts", "dtype"), cases())
def test_a_tensor_of_it_has_its_dtype_and_values(use: str, value: Any, parts: int, dtype: Any) -> None:
    v = variable(value, dtype, parts=parts)
    made = FRAMEWORKS[use](v)
    assert tuple(made.shape) == np.shape(value)
    assert dtype_name(made) == np.dtype(dtype).name
    np.testing.assert_array_equal(as_numbers(made), as_numbers(np.asarray(value).astype(dtype)))


@pytest.mark.parametrize("take", [torch.as_tensor, torch.from_dlpack])
@pytest.mark.parametrize("dtype", ["float32", BFLOAT16], ids=str)
def test_a_tensor_of_it_is_a_copy_that_may_be_changed(take: Callable[[Any], Any], dtype: Any) -> None:
    v = variable(NUMBERS, dtype, parts=2)
    take(v).add_(1)
    assert v.numpy().tolist() == NUMBERS.tolist()


@pytest.mark.parametrize("parts", [1, 2])
def test_a_framework_may_ask_for_another_dtype(parts: int) -> None:
    v = variable([0, 1, 2, 3], BFLOAT16, parts=parts)
    made = [
        torch.as_tensor(v, dtype=torch.float64),
        torch.asarray(v, dtype=torch.int32),
        jnp.asarray(v, jnp.float16),
        np.asarray(v, dtype=np.float64),
        np.array(v, dtype=np.int8, copy=True),
        check_array(v, dtype="float64", ensure_2d=False),
        pd.Series(v, dtype="float64"),
    ]
    assert [dtype_name(each) for each in made] == ["float64", "int32", "float16", "float64", "int8", *["float64"] * 2]
    for each in made:
        assert as_numbers(each).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bool", "int64", BFLOAT16], ids=str)
@pytest.mark.parametrize("parts", [1, 4])
def test_columns_of_pandas_are_made_of_it(dtype: Any, parts: int) -> None:
    v = variable([0, 1, 2, 3], dtype, parts=parts)
    frame = pd.DataFrame({"index": range(4)})
    frame["v"] = v
    for column in (pd.Series(v), frame["v"], pd.DataFrame(v)[0]):
        assert column.dtype == v.dtype
        assert column.astype(float).tolist() == v.numpy().astype(float).tolist()
    matrix = pd.DataFrame(variable_of_rows := get_variable("rows", [2, 3], partitioner=fixed_size_partitioner(2)))
    np.testing.assert_array_equal(matrix.to_numpy(), variable_of_rows.numpy())


def test_text_is_a_column_and_no_tensor() -> None:
    v = variable([b"a", b"bc"], "S2", parts=1)
    assert pd.Series(v).tolist() == np.asarray(v).tolist() == [b"a", b"bc"]
    for take in (*TORCH.values(), jnp.from_dlpack):
        with pytest.raises(BufferError, match=r"variable v holds bytes16, of which there are no DLPack tensors; take"):
            take(v)


@pytest.mark.parametrize("dtype", ["longdouble", "clongdouble"])
def test_long_doubles_are_no_tensors(dtype: Any) -> None:
    v = variable([1.0, 2.0], dtype, parts=2)
    assert np.asarray(v).tolist() == [1.0, 2.0]
    for take in (*TORCH.values(), jnp.from_dlpack, np.from_dlpack):
        with pytest.raises(BufferError, match=r"variable v holds \w+, of which there are no DLPack tensors; take"):
            take(v)


def test_it_is_given_to_functions_of_torch_and_jax() -> None:
    """As a constant: no gradients go into it, those of the other tensors do."""
    v = variable(NUMBERS, parts=2)
    numbers = torch.as_tensor(NUMBERS, dtype=torch.float32)
    x = torch.ones(4, 3, requires_grad=True)
    made = {
        "a sum": x + v,
        "a sum on the right": v + x,
        "a difference": v - x + 2,
        "a function": torch.add(x, v),
        "a list": torch.stack([v, x])[0] + 1,
        "a keyword": torch.add(input=x, other=v),
        "filled": torch.empty(4, 3).copy_(v) + x,
        "a layer": torch.nn.functional.linear(x, v) @ torch.linalg.pinv(numbers.T) - x + numbers,
    }
    for name, each in made.items():
        expected = numbers + 1 if name != "a layer" else None
        if expected is not None:
            assert torch.equal(each, expected), name
        assert each.requires_grad, name
        assert each.grad_fn is not None
    (v @ torch.ones(3, 1)).sum()
    (x * v).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, numbers)
    assert bool((torch.zeros(4, 3) <= v).all())
    assert bool((v > torch.full((4, 3), -1.0)).all())

    j = jnp.ones((4, 3))
    for total in (j + v, v + j, jax.jit(lambda a: a + v)(j), jax.jit(lambda a: v + a)(j), jnp.stack([v, j])[0] + 1):
        assert isinstance(total, jax.Array)
        np.testing.assert_array_equal(total, NUMBERS + 1)
    np.testing.assert_array_equal(jax.grad(lambda a: (v * a).sum())(j), NUMBERS)


CANNOT: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "from_numpy": (torch.from_numpy, TypeError, r"expected np\.ndarray \(got \w*Variable\)"),
    "without a copy": (lambda v: torch.asarray(v, copy=False), ValueError, "can't alias"),
    "from_dlpack without": (lambda v: torch.from_dlpack(v, copy=False), BufferError, "always a copy"),
    "numpy without": (lambda v: np.array(v, copy=False), ValueError, r"v lives on a ps: .*always a copy"),
    "a parameter": (torch.nn.Parameter, AttributeError, r"v has no 'detach', .* torch\.as_tensor\(variable\)\.detach"),
    "a member": (lambda v: v.requires_grad_(), AttributeError, r"v has no 'requires_grad_', since it is no tensor"),
    "no member": (lambda v: v.of_nobody(), AttributeError, r"has no attribute 'of_nobody'$"),
    "out": (lambda v: torch.add(torch.ones(3), 1, out=v), TypeError, r"v lives on a ps.*in place by torch's add; use"),
    "in place": (
        torch.relu_,
        TypeError,
        r"v lives on a ps and cannot be changed in place by torch's relu_; use assign",
    ),
    "jit": (jax.jit(lambda v: v), ValueError, r"explicitly convert your object using jax\.numpy\.array\(\)"),
}


@pytest.mark.parametrize(("take", "error", "message"), CANNOT.values(), ids=CANNOT)
@pytest.mark.parametrize("parts", [1, 3])
def test_what_cannot_be_says_what_to_do(
    take: Callable[[Any], Any], error: type[Exception], message: str, parts: int
) -> None:
    v = variable([1, 2, 3], parts=parts)
    with pytest.raises(error, match=message):
        take(v)
    assert v.numpy().tolist() == [1, 2, 3]


DEFERRED: dict[str, Callable[[Any], Any]] = {
    **{f"torch {name}": each for name, each in TORCH.items()},
    **{f"jax {name}": JAX[name] for name in ("asarray", "array", "from_dlpack")},
    "jax scalar": jnp.float32,
    "numpy": np.asarray,
    "numpy dlpack": np.from_dlpack,
    "pandas": pd.Index,
    "sklearn": check_array,
    "a function of torch": lambda v: torch.add(torch.ones(3), v),
    "a list for torch": lambda v: torch.stack([v, v]),
    "filled": lambda v: torch.ones(3).copy_(v),
}


@pytest.mark.parametrize("take", DEFERRED.values(), ids=DEFERRED)
def test_what_is_deferred_has_no_value_yet(take: Callable[[Any], Any]) -> None:
    with tf.Graph().as_default() as graph:
        w = tf.get_variable("w", [3])
        p = tf.get_variable("p", [3], partitioner=tf.fixed_size_partitioner(3))
        for deferred in (w, p, w + 1.0, tf.constant([1.0, 2.0, 3.0])):
            tf.convert_to_tensor(deferred)  # which a partitioned variable makes once
            number = len(graph.get_operations())
            with pytest.raises(TypeError, match=r"has no value before a session runs it; use Session\.run or eval\(\)"):
                take(deferred)
            assert len(graph.get_operations()) == number


def test_arrays_of_frameworks_beside_what_is_deferred_make_operations() -> None:
    with tf.Graph().as_default():
        x = tf.constant([1.0, 2.0, 3.0])
        made = [torch.ones(3) + x, x + torch.ones(3), jnp.ones(3) + x, x + jnp.ones(3), pd.Series(np.ones(3)) + x]
        with tf.Session() as session:
            assert [each.tolist() for each in session.run(made)] == [[2, 3, 4]] * 5
        assert np.result_type(x, np.float64) == np.float64
