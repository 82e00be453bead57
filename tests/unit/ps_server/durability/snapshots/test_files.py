from __future__ import annotations

import gc
import itertools
import json
import os
import weakref
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from ps_protocol.codec.tensor_codec import parse_dtype
from ps_protocol.errors import DeadlineExceededError
from ps_protocol.fault_points import Fault, FaultAction, FaultPlan, InjectedFaultError, installed
from ps_protocol.files import synced_files
from ps_protocol.files.synced_files import SyncedWriter
from ps_protocol.operations import Array, VariableSpec
from ps_server.durability.snapshots.files import (
    LEDGER_FILE,
    MANIFEST_FILE,
    VALUES_FILE,
    CorruptSnapshotError,
    SnapshotAbandonedError,
    SnapshotFiles,
)
from ps_server.log.state_image import StateImage
from ps_server.memory.lent_arrays import LendableArray
from ps_server.store.stored_variable import VariableImage

NATIVE = [
    "float64",
    "float32",
    "float16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint64",
    "uint32",
    "uint16",
    "uint8",
    "bool",
]


def variable(name: str, value: Array, version: int = 0) -> VariableImage:
    return VariableImage(VariableSpec(name, value.dtype, value.shape), value, version)


def image(position: int = 7, *values: VariableImage) -> StateImage:
    return StateImage(position, values or (variable("w", np.arange(6, dtype=np.float32).reshape(2, 3)),), ())


@pytest.fixture
def files(tmp_path: Path) -> SnapshotFiles:
    return SnapshotFiles(tmp_path / "snapshots", wall_clock=lambda: 1e9)


# -- the form -----------------------------------------------------------------------------------


def test_the_values_are_a_safetensors_file(files: SnapshotFiles) -> None:
    values: dict[str, Array] = {
        dtype: np.arange(12).reshape(3, 4).astype(parse_dtype(dtype))
        for dtype in [*NATIVE, "bfloat16", "complex64", "float8_e3m4"]
    }
    values |= {"scope/with space": np.array(3.0), "empty": np.empty((0, 4), np.int16), "__metadata__": np.ones(3)}
    path = files.write(image(9, *(variable(name, value) for name, value in values.items()))).path / VALUES_FILE
    with safe_open(path, framework="np") as opened:
        assert set(opened.keys()) == {*values} - {"__metadata__"} | {"__metadata___"}
        assert opened.metadata() == {"position": "9"}
        for name in (*NATIVE, "scope/with space", "empty"):
            loaded = opened.get_tensor(name)
            assert (loaded.dtype, loaded.shape) == (values[name].dtype, values[name].shape)
            assert np.array_equal(loaded, values[name])
        assert opened.get_slice("bfloat16").get_dtype() == "BF16"
        assert opened.get_tensor("complex64").tobytes() == values["complex64"].tobytes()
        assert opened.get_tensor("float8_e3m4").dtype == np.uint8


def test_every_value_is_aligned_to_its_elements(files: SnapshotFiles) -> None:
    values = [np.ones(3, dtype) for dtype in ("int8", "float64", "bool", "int16", "float32")]
    path = files.write(image(9, *(variable(str(i), value) for i, value in enumerate(values)))).path
    stored = json.loads((path / MANIFEST_FILE).read_text())["content"]["variables"]
    assert [each["offset"] % np.dtype(each["dtype"]).itemsize for each in stored] == [0] * len(values)


def test_nothing_but_values_that_there_are_is_in_the_file(files: SnapshotFiles) -> None:
    spec = VariableSpec("declared", np.dtype(np.float32), (2**40,))
    path = files.write(StateImage(3, (VariableImage(spec, None, 0),), ())).path
    assert load_file(path / VALUES_FILE) == {}
    assert files.read(3)[0].variables == (VariableImage(spec, None, 0),)


def test_values_larger_than_a_piece_and_a_sync(files: SnapshotFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synced_files, "PIECE_BYTES", 1000)
    monkeypatch.setattr(synced_files, "_UNSYNCED_BYTES", 3000)
    value = np.random.default_rng(0).random(12_345)
    files.write(image(1, variable("a", value), variable("b", value[:7].copy())))
    back, _ = files.read(1)
    assert [each.value is not None and each.value.tobytes() for each in back.variables] == [
        value.tobytes(),
        value[:7].tobytes(),
    ]


def test_a_lent_value_is_given_back_as_soon_as_it_is_written(files: SnapshotFiles) -> None:
    lendable = [LendableArray(np.full(1000, i, np.float64)) for i in range(3)]
    lent_when_done: list[bool] = []

    def note(_position: int) -> None:
        lent_when_done.extend(each.is_lent for each in lendable)

    def lent_image() -> StateImage:
        return image(4, *(variable(f"v{i}", each.lend()) for i, each in enumerate(lendable)))

    files.write(lent_image(), before_rename=note)
    assert lent_when_done == [False] * 3


def test_the_array_that_is_read_is_held_by_the_image_alone(files: SnapshotFiles) -> None:
    files.write(image())
    back, _ = files.read(7)
    value = back.variables[0].value
    assert value is not None
    alive = weakref.ref(value)
    del back, value
    gc.collect()
    assert alive() is None


# -- whole or not there -------------------------------------------------------------------------


def test_incomplete_ones_are_not_seen_and_are_removed(files: SnapshotFiles, tmp_path: Path) -> None:
    files.write(image(5))
    for name in (f".{8:020}.tmp", f".{3:020}.tmp"):
        (tmp_path / "snapshots" / name / "x").mkdir(parents=True)
    assert files.positions() == [5]
    files.remove_incomplete()
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == [f"{5:020}"]


def test_earlier_ones_are_dropped(files: SnapshotFiles, tmp_path: Path) -> None:
    for position in (5, 1000, 9):
        files.write(image(position))
    assert files.positions() == [5, 9, 1000]
    files.drop_before(1000)
    assert files.positions() == [1000]
    assert len(list((tmp_path / "snapshots").iterdir())) == 1


def test_a_failure_leaves_nothing(files: SnapshotFiles, tmp_path: Path) -> None:
    files.write(image(5))

    def refuse(position: int) -> None:
        raise DeadlineExceededError(f"{position} is not committed")

    with pytest.raises(DeadlineExceededError, match="6 is not committed"):
        files.write(image(6), before_rename=refuse)
    with (
        installed(FaultPlan((Fault("snapshot.before_rename", FaultAction.FAIL),))) as plan,
        pytest.raises(InjectedFaultError),
    ):
        files.write(image(6))
    assert plan.fired("snapshot.before_rename") == 1
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == [f"{5:020}"]


def test_one_that_is_wanted_no_more_is_given_up(files: SnapshotFiles, tmp_path: Path) -> None:
    values = (variable("a", np.ones(3)), variable("b", np.ones(3)))
    for asked in range(3):
        answers = iter([True] * asked + [False])
        with pytest.raises(SnapshotAbandonedError):
            files.write(image(6, *values), is_wanted=answers.__next__)
    assert list((tmp_path / "snapshots").iterdir()) == []


def test_a_full_disk_is_known_before_anything_is_written(
    files: SnapshotFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def no_room(_descriptor: int, _offset: int, size_bytes: int) -> None:
        sizes.append(size_bytes)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", no_room)
    with pytest.raises(OSError, match="No space left"):
        files.write(image(6))
    assert len(sizes) == 1
    assert list((tmp_path / "snapshots").iterdir()) == []


def test_what_an_ended_try_left_is_in_nobodys_way(files: SnapshotFiles, tmp_path: Path) -> None:
    (tmp_path / "snapshots" / f".{7:020}.tmp" / VALUES_FILE).mkdir(parents=True)
    files.write(image(7))
    assert files.positions() == [7]


# -- damage -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [VALUES_FILE, LEDGER_FILE, MANIFEST_FILE])
def test_a_missing_file_is_refused(files: SnapshotFiles, name: str) -> None:
    path = files.write(image()).path / name
    path.unlink()
    with pytest.raises(CorruptSnapshotError) as refused:
        files.read(7)
    assert str(path) in str(refused.value)
    assert "Put back a copy" in str(refused.value)
    assert "move the task's data directory away" in str(refused.value)


def test_the_damaged_variable_is_named(files: SnapshotFiles) -> None:
    path = files.write(image(2, variable("a", np.zeros(5)), variable("b", np.zeros(5)))).path / VALUES_FILE
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptSnapshotError, match=r"variable b \(float64\[5\]\)"):
        files.read(2)


def test_a_snapshot_under_the_name_of_another_is_refused(files: SnapshotFiles) -> None:
    files.write(image(7)).path.rename(files.path_of(8))
    with pytest.raises(CorruptSnapshotError, match="record 7, not of 8"):
        files.read(8)


def test_one_of_a_later_version_is_refused_as_such(files: SnapshotFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ps_server.durability.snapshots.manifest.FORMAT_VERSION", 2)
    files.write(image(7))
    monkeypatch.undo()
    with pytest.raises(CorruptSnapshotError, match="format 2, but this version reads 1"):
        files.read(7)


# -- synced files -------------------------------------------------------------------------------


def test_a_writer_that_fails_leaves_its_buffer_unwritten(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def write() -> None:
        with SyncedWriter(tmp_path / "x") as writer:
            writer.write(b"abc")
            raise StopError

    with pytest.raises(StopError):
        write()
    gc.collect()
    assert (tmp_path / "x").read_bytes() == b""


@pytest.mark.parametrize("at_once", [20 * 1024**2, 128 * 1024, 5000])
def test_the_disk_begins_with_each_piece_and_never_has_much_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    begun: list[tuple[int, int]] = []
    unsynced: list[int] = []

    def advise(descriptor: int, offset: int, size_bytes: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_DONTNEED
        assert os.fstat(descriptor).st_size >= offset + size_bytes  # what is still in the process cannot be begun
        begun.append((offset, offset + size_bytes))

    def sync(_descriptor: int) -> None:
        unsynced.append(begun[-1][1] - sum(unsynced))

    monkeypatch.setattr(os, "posix_fadvise", advise)
    monkeypatch.setattr(os, "fdatasync", sync)
    content = bytes(20 * 1024**2)
    with SyncedWriter(tmp_path / "x") as writer:
        writer.write(b"header")
        for start in range(0, len(content), at_once):
            writer.write(content[start : start + at_once])
    assert begun[0][0] == 0
    assert begun[-1][1] > len(content) - synced_files.PIECE_BYTES  # the rest when the file is closed
    assert all(before[1] == after[0] for before, after in itertools.pairwise(begun))
    assert max(end - start for start, end in begun) <= synced_files.PIECE_BYTES + min(at_once, 8192)
    assert min(end - start for start, end in begun) >= synced_files.PIECE_BYTES
    assert len(unsynced) == 2
    assert max(unsynced) <= 8 * 1024**2 + synced_files.PIECE_BYTES


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    for content in (b"one", b"another"):
        synced_files.replace_file(path, content)
        assert path.read_bytes() == content
    assert [each.name for each in tmp_path.iterdir()] == ["f.json"]


def test_reading_past_the_end_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    with path.open("rb") as file, pytest.raises(EOFError, match="ends at byte 3"):
        synced_files.read_into(file.fileno(), memoryview(bytearray(4)), 0)
