"""Whether an array is lent is known exactly, whatever is made from the view that was handed out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from ps_protocol.codec import tensor_codec
from ps_protocol.operations import Array
from ps_server.memory.lent_arrays import LendableArray

DERIVATIONS: dict[str, Callable[[Array], object]] = {
    "itself": lambda view: view,
    "a slice": lambda view: view[1:],
    "a slice of a slice": lambda view: view[1:][:, 1:],
    "the transpose": lambda view: view.T,
    "another shape": lambda view: view.reshape(-1),
    "every other element": lambda view: view.reshape(-1)[::2],
    "its bytes as an array": lambda view: view.view(np.uint8),
    "an array of another class": lambda view: view.view(np.ndarray).view(np.recarray),
    "asarray": np.asarray,
    "broadcast": lambda view: np.broadcast_to(view, (3, *view.shape)),
    "what a transport sends": tensor_codec.bytes_of,
    "a part of what a transport sends": lambda view: tensor_codec.bytes_of(view)[7:],
    "an array over a memoryview": lambda view: np.frombuffer(tensor_codec.bytes_of(view), np.uint8),
    "an iterator": lambda view: view.flat,
}


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_, np.complex64, "S3", ml_dtypes.bfloat16])
@pytest.mark.parametrize("derive", DERIVATIONS.values(), ids=DERIVATIONS.keys())
def test_it_is_lent_as_long_as_anything_made_from_the_view_is_held(
    derive: Callable[[Array], object], dtype: Any
) -> None:
    lendable = LendableArray(np.ones((4, 5), dtype))
    assert not lendable.is_lent
    held: object = derive(lendable.lend())
    assert lendable.is_lent
    del held
    assert not lendable.is_lent


def test_a_copy_does_not_count() -> None:
    lendable = LendableArray(np.ones(3))
    copies = [lendable.lend().copy(), lendable.lend() + 1, copy.deepcopy(lendable.lend())]
    assert not lendable.is_lent
    assert len(copies) == 3


def test_of_several_borrowers_the_last_counts() -> None:
    lendable = LendableArray(np.ones(3))
    first, second = lendable.lend(), lendable.lend()
    del first
    assert lendable.is_lent
    third = lendable.lend()
    del second
    assert lendable.is_lent
    del third
    assert not lendable.is_lent
    assert lendable.lend().tolist() == [1, 1, 1]


@pytest.mark.parametrize("memory", ["its own", "another array's", "a bytearray's"])
def test_what_is_lent_is_the_array_itself_and_read_only(memory: str) -> None:
    array: Array = np.arange(6, dtype=np.float32)
    if memory == "another array's":
        array = np.arange(12, dtype=np.float32)[6:]
    elif memory == "a bytearray's":
        array = np.frombuffer(bytearray(24), np.float32)
    array = array.reshape(2, 3)
    lendable = LendableArray(array)
    view = lendable.lend()
    assert (view.dtype, view.shape) == (array.dtype, array.shape)
    assert np.shares_memory(view, array)
    for each in (view, view[1:], view.view(np.uint8)):
        with pytest.raises(ValueError, match="read-only"):
            each[...] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            each.flags.writeable = True
    del view, each
    assert not lendable.is_lent
