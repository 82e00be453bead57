"""A damaged safetensors file is an error, or shows no bytes but its own, where they lie; and takes no more memory."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps_protocol.errors import DataLossError, UnimplementedError
from ps_protocol.files.safetensors_layout import NAME_OF_DTYPE
from ps_protocol.tensor_files.safetensors import SafetensorsCheckpoint
from ps_protocol.tensor_files.safetensors_writer import write_safetensors
from tests.tensor_files import in_memory

ROUNDS = 400
MEMORY_LIMIT_BYTES = 4 * 1024**2

_SIZES = st.sampled_from([0, 1, 2, 3, 4, 8, 12, 16, 2**31, 2**62, 2**63, 2**64, -1])
_ANYTHING = st.recursive(
    st.none() | st.booleans() | _SIZES | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
_ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*NAME_OF_DTYPE.values(), "F4", "?"]) | _ANYTHING,
        "shape": st.lists(_SIZES, max_size=4) | _ANYTHING,
        "data_offsets": st.lists(_SIZES, min_size=2, max_size=2) | _ANYTHING,
    }
)
_HEADERS = st.dictionaries(st.sampled_from(["a", "b", "c", "__metadata__"]), _ENTRIES | _ANYTHING, max_size=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("safetensors")


def readable(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Reads all that can be, or nothing; errors but those that are documented come out."""
    found = {}
    try:
        with SafetensorsCheckpoint(path) as checkpoint:
            for name, tensor in checkpoint.items():
                with contextlib.suppress(UnimplementedError):
                    found[name] = tensor.read()
    except DataLossError as error:
        if str(path) not in str(error):
            raise
        return {}
    return found


@given(_HEADERS, st.binary(max_size=32))
def test_a_tensor_shows_its_own_bytes_and_no_two_the_same(folder: Path, header: Any, data: bytes) -> None:
    path = folder / "drawn.safetensors"
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    places = []
    for name, array in readable(path).items():
        start, end = header[name]["data_offsets"]
        assert array.tobytes() == data[start:end]
        assert list(array.shape) == header[name]["shape"]
        places.append((start, end))
    places.sort()
    assert [end for _, end in places[:-1]] <= [start for start, _ in places[1:]]


def flipped(data: bytearray, random: np.random.Generator) -> bytearray:
    data[random.integers(len(data))] ^= 1 << random.integers(8)
    return data


def other_digits(data: bytearray, random: np.random.Generator) -> bytearray:
    places = [place for place, each in enumerate(data) if each in b"0123456789"]
    data[places[random.integers(len(places))]] = random.choice(list(b"0123456789-"))
    return data


def cut_off(data: bytearray, random: np.random.Generator) -> bytearray:
    return data[: random.integers(len(data))]


def with_a_hole(data: bytearray, random: np.random.Generator) -> bytearray:
    start = random.integers(len(data))
    return data[:start] + data[start + random.integers(1, 9) :]


def grown(data: bytearray, random: np.random.Generator) -> bytearray:
    return data + random.bytes(int(random.integers(1, 60)))


@pytest.mark.parametrize("damage", [flipped, other_digits, cut_off, with_a_hole, grown])
def test_damage_is_an_error_or_leaves_bytes_where_they_are_in_little_memory(
    folder: Path, damage: Callable[[bytearray, np.random.Generator], bytearray]
) -> None:
    """The format has no checksums: another name, dtype or value of the same size cannot be told from the right one."""
    path = folder / f"{damage.__name__}.safetensors"
    values = {
        "a/b": np.arange(40, dtype=np.float32).reshape(10, 4),
        "c": np.arange(7),
        "d": np.arange(3, dtype=np.uint8),
    }
    write_safetensors(path, in_memory(values), overwrite=True)
    whole = path.read_bytes()
    random = np.random.default_rng(len(damage.__name__))
    refused = 0
    tracemalloc.start()
    try:
        for _ in range(ROUNDS):
            content = bytes(damage(bytearray(whole), random))
            path.write_bytes(content)
            found = readable(path)
            refused += not found
            for array in found.values():
                assert array.tobytes() in content
        assert tracemalloc.get_traced_memory()[1] < MEMORY_LIMIT_BYTES
    finally:
        tracemalloc.stop()
    assert refused > ROUNDS // 4
