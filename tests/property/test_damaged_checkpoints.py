"""A damaged checkpoint is an error or, where the damage is in bytes that mean nothing, what it was: never other values.

The damage is drawn from seeds, so that each run does the same. Files of both versions, with many kinds of tensors.
"""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import DataLossError, NotFoundError, ShardscopeError, UnimplementedError
from ps_protocol.tensorflow_files.checkpoint import open_tensorflow
from tests.checkpoint_files import extracted

CASES = ("adam", "sharded", "dtypes", "version_1", "version_1_sharded", "version_1_dtypes", "objects")
ROUNDS = 100
MEMORY_LIMIT_BYTES = 32 * 1024**2


def contents(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    with open_tensorflow(path) as checkpoint:
        return {name: (each.dtype_name, each.shape, shown(each.read())) for name, each in checkpoint.items()}


def contents_or_error(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]] | ShardscopeError:
    try:
        return contents(path)
    except (DataLossError, UnimplementedError) as error:
        return error


def shown(array: np.ndarray[Any, Any]) -> bytes:
    return b"|".join(array.ravel().tolist()) if array.dtype == object else array.tobytes()


def flipped(data: bytearray, random: np.random.Generator) -> bytearray:
    data[random.integers(len(data))] ^= 1 << random.integers(8)
    return data


def overwritten(data: bytearray, random: np.random.Generator) -> bytearray:
    start = random.integers(len(data))
    count = min(len(data) - int(start), int(random.integers(1, 20)))
    data[start : start + count] = random.bytes(count)
    return data


def cut_off(data: bytearray, random: np.random.Generator) -> bytearray:
    return data[: random.integers(len(data))]


def with_a_hole(data: bytearray, random: np.random.Generator) -> bytearray:
    start = random.integers(len(data))
    return data[:start] + data[start + random.integers(1, 9) :]


def grown(data: bytearray, random: np.random.Generator) -> bytearray:
    return data + random.bytes(int(random.integers(1, 60)))


@pytest.mark.parametrize("damage", [flipped, overwritten, cut_off, with_a_hole, grown])
@pytest.mark.parametrize("case", CASES)
def test_no_damage_gives_other_values(
    case: str, damage: Callable[[bytearray, np.random.Generator], bytearray], tmp_path: Path
) -> None:
    whole = extracted(case, tmp_path)
    right = contents(whole.path)
    files = [each for each in sorted(whole.folder.iterdir()) if each.name not in {"expected.json", "checkpoint"}]
    random = np.random.default_rng([CASES.index(case), len(damage.__name__)])
    refused = 0
    for _ in range(ROUNDS // len(files)):
        for file in files:
            before = file.read_bytes()
            file.write_bytes(damage(bytearray(before), random))
            found = contents_or_error(whole.path)
            refused += isinstance(found, ShardscopeError)
            assert found == right or str(whole.folder) in str(found)
            file.write_bytes(before)
    assert damage is grown or refused > ROUNDS // 5
    assert contents(whole.path) == right


@pytest.mark.parametrize("case", CASES)
def test_each_flipped_bit_of_the_end_of_an_index_is_refused_or_means_nothing(case: str, tmp_path: Path) -> None:
    """The footer has no checksum: it says where the index block is, and that has one."""
    whole = extracted(case, tmp_path)
    right = contents(whole.path)
    named = ("ckpt-3", "tensors", ".index")
    tables = [each for each in sorted(whole.folder.iterdir()) if each.name.endswith(named) or "ckpt-3-0" in each.name]
    file = tables[0]
    before = file.read_bytes()
    for bit in range(8 * 48):
        data = bytearray(before)
        data[len(data) - 48 + bit // 8] ^= 1 << bit % 8
        file.write_bytes(data)
        found = contents_or_error(whole.path)
        assert found == right or str(file) in str(found)


@pytest.mark.parametrize("case", CASES)
def test_a_missing_file_is_named(case: str, tmp_path: Path) -> None:
    whole = extracted(case, tmp_path)
    for file in sorted(whole.folder.iterdir()):
        if file.name in {"expected.json", "checkpoint"} or "-1." in file.name:
            continue
        aside = file.rename(tmp_path / "aside")
        with pytest.raises(NotFoundError) as caught:
            contents(whole.path)
        assert str(file) in str(caught.value) or whole.path == file
        aside.rename(file)


def test_a_damaged_file_gets_no_memory(tmp_path: Path) -> None:
    """Numbers that claim gigabytes are found before room is made for them."""
    whole = extracted("dtypes", tmp_path)
    files = sorted(whole.folder.glob("tensors.*"))
    random = np.random.default_rng(7)
    tracemalloc.start()
    try:
        for round_number in range(100):
            file = files[round_number % 2]
            before = file.read_bytes()
            file.write_bytes(overwritten(bytearray(before), random))
            contents_or_error(whole.path)
            file.write_bytes(before)
        assert tracemalloc.get_traced_memory()[1] < MEMORY_LIMIT_BYTES
    finally:
        tracemalloc.stop()


def test_a_file_that_is_cut_off_while_it_is_open_is_an_error(tmp_path: Path) -> None:
    whole = extracted("adam", tmp_path)
    (shard,) = whole.folder.glob("*.data-*")
    with open_tensorflow(whole.path) as checkpoint:
        checkpoint["layer/weights"].read()
        with shard.open("r+b") as file:
            file.truncate(10)
        with pytest.raises(DataLossError, match=r"ends at byte \d+: it was cut off while it was open"):
            checkpoint["wide/columns"].read()
    shutil.rmtree(whole.folder)
