"""Headers that are written behind their tensors, in the room that was left for them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from ps_protocol.files.safetensors_layout import header_in, header_room
from ps_protocol.operations import VariableSpec

METADATA = {"save": "x"}
FLOAT, TEXT = np.dtype(np.float32), np.dtype("S1")


def room_of(*specs: VariableSpec) -> int:
    return header_room(specs, METADATA)


def test_tensors_of_other_sizes_follow_it_in_any_order() -> None:
    likely = [VariableSpec("a", FLOAT, (2,)), VariableSpec("b", FLOAT, ()), VariableSpec("words", TEXT, (2,))]
    b, a = np.arange(1200, dtype=np.float32).reshape(30, 40), np.ones(3, np.float32)
    words = np.array([b"longer", b"x"])
    made = [VariableSpec(name, value.dtype, value.shape) for name, value in (("b", b), ("a", a), ("words", words))]
    room = room_of(*likely)
    header = header_in(room, made, METADATA)
    assert len(header) == room
    found = load(header + b.tobytes() + a.tobytes() + words.tobytes())
    np.testing.assert_array_equal(found["a"], a)
    np.testing.assert_array_equal(found["b"], b)
    assert found["words"].tobytes() == words.tobytes()


@pytest.mark.parametrize("size", [1, 2**40])
def test_shapes_that_have_no_room_in_it_are_put_down_as_bytes(size: int) -> None:
    likely = [VariableSpec(name, np.dtype(np.int8), ()) for name in "ab"]
    made = [
        VariableSpec("a", np.dtype(np.int8), (1,) * 500 + (size,)),
        VariableSpec("b", np.dtype(np.int8), (2**62 - size,)),
    ]
    room = room_of(*likely)
    header = header_in(room, made, METADATA)
    assert len(header) == room
    entries: dict[str, Any] = json.loads(header[8:])
    assert entries["a"] == {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    assert entries["b"] == {"dtype": "U8", "shape": [2**62 - size], "data_offsets": [size, 2**62]}


@pytest.mark.parametrize("num_values", [0, 1, 1000])
def test_its_room_is_little_and_keeps_what_follows_aligned(num_values: int) -> None:
    specs = [VariableSpec(f"v{number}", FLOAT, (4,)) for number in range(num_values)]
    room = room_of(*specs)
    assert room % 8 == 0
    assert room < 200 * (num_values + 1)
    assert len(header_in(room, [], METADATA)) == room
