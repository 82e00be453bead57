"""Safetensors: its own library reads what is written here and the other way round; what is damaged is refused."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from ps_protocol.errors import (
    AlreadyExistsError,
    DataLossError,
    DTypeMismatchError,
    FailedPreconditionError,
    InvalidValueError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnimplementedError,
    UnknownError,
)
from ps_protocol.files.safetensors_layout import NAME_OF_DTYPE
from ps_protocol.tensor_files import new_files, stored_tensor
from ps_protocol.tensor_files.safetensors import SafetensorsCheckpoint, find_safetensors
from ps_protocol.tensor_files.safetensors_writer import write_safetensors
from ps_protocol.tensor_files.stored_tensor import StoredTensor
from tests.tensor_files import in_memory


def written(path: Path, header: Any, data: bytes = b"", *, size: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if size is None else size).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    tensors: dict[str, Any] = {
        "layer.weight": np.arange(12, dtype=np.float32).reshape(4, 3),
        "half": np.arange(5, dtype=np.float16),
        "step": np.array(7, np.int64),
        "none": np.zeros((0, 4), np.float32),
        "mask": np.array([True, False, True]),
        "complex": np.array([1 + 2j], np.complex64),
    }
    save_file(tensors, tmp_path / "model.safetensors", {"format": "np"})
    with SafetensorsCheckpoint(tmp_path / "model.safetensors") as checkpoint:
        assert set(checkpoint) == set(tensors)
        assert checkpoint.metadata == {"format": "np"}
        for name, expected in tensors.items():
            found = checkpoint[name].read()
            assert (found.dtype, found.shape, found.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())
            checkpoint[name].verify()
        np.testing.assert_array_equal(checkpoint["layer.weight"][1:3], tensors["layer.weight"][1:3])
        assert "other" not in checkpoint
    with pytest.raises(FailedPreconditionError, match="is closed; open the checkpoint again"):
        checkpoint["half"].read()


@pytest.mark.parametrize("rows_at_once", [1, 2, 1000])
def test_the_library_reads_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_at_once: int) -> None:
    monkeypatch.setattr(stored_tensor, "_PIECE_BYTES", rows_at_once * 12)
    tensors: dict[str, Any] = {
        "odd": np.arange(3, dtype=np.uint8),
        "layer/weight": np.arange(21, dtype=np.float32).reshape(7, 3),
        "step": np.array(7, np.int64),
        "none": np.zeros((0, 4), np.float32),
    }
    sizes: list[int] = []
    paths = write_safetensors(
        tmp_path / "new" / "m.safetensors", in_memory(tensors), metadata={"format": "np"}, done=sizes.append
    )
    assert paths == [tmp_path / "new" / "m.safetensors"]
    assert sum(sizes) == sum([each.nbytes for each in tensors.values()])
    found = load_file(paths[0])
    assert set(found) == set(tensors)
    for name, expected in tensors.items():
        assert found[name].dtype == expected.dtype
        np.testing.assert_array_equal(found[name], expected)
    with safe_open(paths[0], "numpy") as opened:
        assert opened.metadata() == {"format": "np"}
    assert [each.name for each in (tmp_path / "new").iterdir()] == ["m.safetensors"]


@pytest.mark.parametrize("name", NAME_OF_DTYPE)
def test_each_dtype_comes_back(tmp_path: Path, name: str) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    value = np.arange(6).reshape(2, 3).astype(dtype)
    write_safetensors(tmp_path / "m.safetensors", in_memory({"v": value}))
    with SafetensorsCheckpoint(tmp_path / "m.safetensors") as checkpoint:
        found = checkpoint["v"].read()
    assert (found.dtype, found.tobytes()) == (value.dtype, value.tobytes())
    with safe_open(tmp_path / "m.safetensors", "numpy") as opened:
        assert opened.get_slice("v").get_dtype() == NAME_OF_DTYPE[name]


def test_what_is_too_large_for_one_file_goes_to_several_with_an_index(tmp_path: Path) -> None:
    tensors = {f"layer.{number}": np.full(10, number, np.float32) for number in range(5)}
    tensors["large"] = np.arange(100, dtype=np.float32)
    paths = write_safetensors(tmp_path / "model.safetensors", in_memory(tensors), shard_bytes=100)
    names = [f"model-0000{number}-of-00004.safetensors" for number in range(1, 5)]
    assert [each.name for each in paths] == [*names, "model.safetensors.index.json"]
    index = json.loads(paths[-1].read_text())
    assert index["metadata"] == {"total_size": 600}
    assert [index["weight_map"][name] for name in tensors] == [names[0]] * 2 + [names[1]] * 2 + [names[2], names[3]]
    for name, file in index["weight_map"].items():
        np.testing.assert_array_equal(load_file(tmp_path / file)[name], tensors[name])
    assert find_safetensors(tmp_path) == paths[-1]
    with SafetensorsCheckpoint(paths[-1]) as checkpoint:
        assert list(checkpoint) == sorted(tensors)
        for name, expected in tensors.items():
            np.testing.assert_array_equal(checkpoint[name].read(), expected)


def test_what_is_there_is_replaced_only_if_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    few, more = in_memory({"a": np.zeros(4)}), in_memory({"a": np.ones(4), "b": np.ones(4)})
    write_safetensors(path, more, shard_bytes=32)
    with pytest.raises(AlreadyExistsError, match=r"model\.safetensors\.index\.json already exists"):
        write_safetensors(path, few)
    write_safetensors(path, few, overwrite=True)
    assert [each.name for each in tmp_path.iterdir()] == ["model.safetensors"]
    with pytest.raises(AlreadyExistsError, match=r"model\.safetensors already exists"):
        write_safetensors(path, more, shard_bytes=32)
    np.testing.assert_array_equal(load_file(path)["a"], np.zeros(4))
    write_safetensors(path, more, shard_bytes=32, overwrite=True)
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
    assert sorted([each.name for each in tmp_path.iterdir()]) == names


@pytest.mark.parametrize("shard_bytes", [None, 32])
def test_after_an_error_nothing_is_left(tmp_path: Path, shard_bytes: int | None) -> None:
    tensors = in_memory({"a": np.zeros(4), "b": np.zeros(4), "c": np.zeros(4)})
    tensors["b"] = broken("b")
    with pytest.raises(DataLossError, match="the disk is broken"):
        write_safetensors(tmp_path / "m.safetensors", tensors, shard_bytes=shard_bytes)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_at_the_end_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished: list[Path] = []
    plain = new_files.NewFile.finish

    def finish(self: new_files.NewFile) -> None:
        if len(finished) == 2:
            self.discard()
            raise OSError(28, "No space left on device")
        finished.append(self.path)
        plain(self)

    monkeypatch.setattr(new_files.NewFile, "finish", finish)
    with pytest.raises(ResourceExhaustedError, match="No space left on device"):
        write_safetensors(tmp_path / "m.safetensors", in_memory({each: np.zeros(4) for each in "abc"}), shard_bytes=32)
    assert len(finished) == 2
    assert list(tmp_path.iterdir()) == []


def broken(name: str) -> StoredTensor:
    class Values:
        def check_size(self) -> None:
            pass

        def verify(self) -> None:
            pass

        def read_into(self, target: Any, first_row: int) -> None:
            raise DataLossError("the disk is broken")

    return StoredTensor(name, np.dtype(float), (4,), [stored_tensor.Part((0,), (4,), Values())])


@pytest.mark.parametrize("name", ["", "__metadata__", "byte \udcff"], ids=["empty", "metadata", "no text"])
def test_a_name_that_the_format_does_not_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidValueError, match="cannot be called"):
        write_safetensors(tmp_path / "m.safetensors", in_memory({name: np.zeros(2)}))


def test_a_dtype_that_the_format_does_not_have_is_refused(tmp_path: Path) -> None:
    for value in (np.zeros(2, complex), np.array([b"a"], object), np.zeros(2, ml_dtypes.int4)):
        with pytest.raises(DTypeMismatchError, match=r"cannot hold .*, the dtype of 'v'"):
            write_safetensors(tmp_path / "m.safetensors", in_memory({"v": value}))
    assert list(tmp_path.iterdir()) == []


F4 = np.arange(4, dtype="<f4").tobytes()

DAMAGED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "empty": (lambda path: written(path, b"", size=0).with_name(path.name), "header"),
    "huge header": (lambda path: written(path, {}, size=2**63), "says that its header has 9223372036854775808 bytes"),
    "header beyond the end": (lambda path: written(path, {}, size=3), "says that its header has 3 bytes, and has 10"),
    "no json": (lambda path: written(path, b"{'a'}"), "its header is not what"),
    "no object": (lambda path: written(path, []), "no JSON object"),
    "no text": (lambda path: written(path, b"\xff\xfe"), "its header is not what"),
    "deep": (lambda path: written(path, b"[" * 100_000), "its header is not what"),
    "twice": (
        lambda path: written(path, b'{"a":%s,"a":%s}' % ((json.dumps(entry("F32", [4], 0, 16)).encode(),) * 2), F4),
        "'a' is there twice",
    ),
    "metadata": (lambda path: written(path, {"__metadata__": {"a": 1}}), "should be texts by name"),
    "no fields": (lambda path: written(path, {"a": {"dtype": "F32"}}, F4), "of the tensor 'a', its dtype, shape"),
    "three offsets": (
        lambda path: written(path, {"a": entry("F32", [4], 0, 16) | {"data_offsets": [0, 8, 16]}}, F4),
        "of the tensor 'a'",
    ),
    "negative shape": (lambda path: written(path, {"a": entry("F32", [-4, -1], 0, 16)}, F4), "cannot have the shape"),
    "shape of fractions": (
        lambda path: written(path, {"a": entry("F32", [4.0], 0, 16)}, F4),  # type: ignore[list-item]
        "cannot have the shape",
    ),
    "shape of truth values": (lambda path: written(path, {"a": entry("F32", [True], 0, 4)}, F4[:4]), "cannot have"),
    "negative offset": (lambda path: written(path, {"a": entry("F32", [4], -16, 0)}, F4), "cannot have the shape"),
    "backwards": (lambda path: written(path, {"a": entry("F32", [4], 16, 0)}, F4), r"at \[16, 0\] of 16 bytes"),
    "beyond the end": (lambda path: written(path, {"a": entry("F32", [8], 0, 32)}, F4), r"at \[0, 32\] of 16 bytes"),
    "huge shape": (
        lambda path: written(path, {"a": entry("F32", [2**62, 2**62], 0, 16)}, F4),
        r"16 bytes cannot be F32 of shape",
    ),
    "huge offsets": (lambda path: written(path, {"a": entry("F32", [2**60], 0, 2**62)}, F4), "cut off or damaged"),
    "other size": (lambda path: written(path, {"a": entry("F32", [3], 0, 16)}, F4), r"16 bytes cannot be F32 of"),
    "overlapping": (
        lambda path: written(path, {"a": entry("F32", [3], 0, 12), "b": entry("F32", [2], 8, 16)}, F4),
        "of the tensor 'b', it should begin at 12",
    ),
    "same place": (
        lambda path: written(path, {"a": entry("F32", [4], 0, 16), "b": entry("F32", [4], 0, 16)}, F4),
        "of the tensor 'b', it should begin at 16",
    ),
    "gap": (
        lambda path: written(path, {"a": entry("F32", [1], 0, 4), "b": entry("F32", [2], 8, 16)}, F4),
        "of the tensor 'b', it should begin at 4",
    ),
    "gap at the beginning": (lambda path: written(path, {"a": entry("F32", [3], 4, 16)}, F4), "should begin at 0"),
    "more at the end": (lambda path: written(path, {"a": entry("F32", [3], 0, 12)}, F4), "4 bytes follow that belong"),
    "no tensors but bytes": (lambda path: written(path, {}, F4), "16 bytes follow that belong to no tensor"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, what: str) -> None:
    make, message = DAMAGED[what]
    path = make(tmp_path / "m.safetensors")
    with pytest.raises(DataLossError, match=message) as caught:
        SafetensorsCheckpoint(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_shorter_than_the_size_of_a_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"\0" * 7)
    with pytest.raises(DataLossError, match=r"m\.safetensors is damaged at byte 0: it has 7 bytes"):
        SafetensorsCheckpoint(tmp_path / "m.safetensors")


def test_a_tensor_need_not_be_aligned(tmp_path: Path) -> None:
    header = {"a": entry("U8", [1], 0, 1), "b": entry("F64", [1], 1, 9)}
    path = written(tmp_path / "m.safetensors", header, b"\5" + np.float64(2.5).tobytes())
    with SafetensorsCheckpoint(path) as checkpoint:
        assert checkpoint["b"].read().tolist() == [2.5]


def test_a_truth_value_is_one_of_two(tmp_path: Path) -> None:
    path = written(tmp_path / "m.safetensors", {"a": entry("BOOL", [3], 0, 3)}, b"\0\1\2")
    with SafetensorsCheckpoint(path) as checkpoint:
        for read in (checkpoint["a"].read, checkpoint["a"].verify):
            with pytest.raises(
                DataLossError, match=f"damaged at byte {path.stat().st_size - 1}: the tensor 'a' of truth"
            ):
                read()
        assert checkpoint["a"][:2].tolist() == [False, True]


def test_a_dtype_that_is_not_known_hides_no_others(tmp_path: Path) -> None:
    header = {"a": entry("F4", [2], 0, 1), "b": entry("U8", [1], 1, 2), "c": entry("U8", [1] * 65, 2, 3)}
    with SafetensorsCheckpoint(written(tmp_path / "m.safetensors", header, b"\1\2\3")) as checkpoint:
        assert checkpoint["b"].read().tolist() == [2]
        with pytest.raises(UnimplementedError, match=r"'a' in .*m\.safetensors has elements of F4"):
            checkpoint["a"].read()
        with pytest.raises(UnimplementedError, match=r"'c' in .*m\.safetensors has 65 dimensions"):
            checkpoint["c"].read()


def test_a_file_that_is_cut_off_while_it_is_open_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"a": np.zeros(100)}, path)
    with SafetensorsCheckpoint(path) as checkpoint:
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(DataLossError, match="it was cut off while it was open"):
            checkpoint["a"].read()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{}", "no index of safetensors files"),
        (b"[]", "no index of safetensors files"),
        (b"\xff", "no index of safetensors files"),
        (b'{"weight_map": {"a": 3}}', "'a' should be in 3, which is no file beside it"),
        (b'{"weight_map": {"a": "../m.safetensors"}}', "which is no file beside it"),
        (b'{"weight_map": {"a": "/etc/passwd"}}', "which is no file beside it"),
        (b'{"weight_map": {"a": ".."}}', "which is no file beside it"),
        (b'{"weight_map": {"a": "m.safetensors", "a": "n.safetensors"}}', "'a' is there twice"),
    ],
)
def test_a_damaged_index_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "m.safetensors.index.json"
    path.write_bytes(content)
    with pytest.raises(DataLossError, match=message) as caught:
        SafetensorsCheckpoint(path)
    assert str(path) in str(caught.value)


def test_an_index_may_name_what_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors.index.json"
    path.write_text(
        json.dumps({"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors", "c": "m-1.safetensors"}})
    )
    save_file({"a": np.arange(3)}, tmp_path / "m-1.safetensors")
    with SafetensorsCheckpoint(path) as checkpoint:
        assert checkpoint["a"].read().tolist() == [0, 1, 2]
        with pytest.raises(DataLossError, match=r"'c' should be in m-1\.safetensors, which does not have it"):
            checkpoint["c"]
        with pytest.raises(NotFoundError, match=r"m-2\.safetensors is missing; a checkpoint is whole only with all"):
            checkpoint["b"]


def test_several_files_in_a_folder_are_an_error_that_names_them(tmp_path: Path) -> None:
    assert find_safetensors(tmp_path) is None
    for name in ("a", "b"):
        save_file({name: np.zeros(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(NotFoundError, match=r"has 2 files of the form: a\.safetensors, b\.safetensors; give the path"):
        find_safetensors(tmp_path)
    save_file({"m": np.zeros(1)}, tmp_path / "model.safetensors")
    assert find_safetensors(tmp_path) == tmp_path / "model.safetensors"


def test_one_of_several_files_is_no_checkpoint(tmp_path: Path) -> None:
    paths = write_safetensors(
        tmp_path / "m.safetensors", in_memory({each: np.zeros(4) for each in "ab"}), shard_bytes=32
    )
    paths[-1].unlink()
    paths[0].unlink()
    with pytest.raises(NotFoundError, match=r"m-00002-of-00002\.safetensors is one of several files, and there is no"):
        find_safetensors(tmp_path)


def test_a_file_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.safetensors"
    write_safetensors(path, in_memory({"a": np.zeros(4)}))
    failed: list[Path] = []

    def replace(self: Path, target: Path) -> None:
        failed.append(target)
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(PermissionDeniedError, match="this user may not write to"):
        write_safetensors(path, in_memory({"a": np.ones(4)}), overwrite=True)
    assert failed == [path]
    assert [each.name for each in tmp_path.iterdir()] == ["m.safetensors"]
    assert load_file(path)["a"].tolist() == [0, 0, 0, 0]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises((UnknownError, DataLossError), match=str(tmp_path)):
        SafetensorsCheckpoint(tmp_path)


def test_pieces_are_read_into_the_same_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_tensor, "_PIECE_BYTES", 24)
    value = np.arange(15, dtype=np.float32).reshape(5, 3)
    save_file({"a": value}, tmp_path / "m.safetensors")
    with SafetensorsCheckpoint(tmp_path / "m.safetensors") as checkpoint:
        found = checkpoint["a"]
        for pieces in (found.pieces(), found.pieces_of(found.parts[0])):
            first = next(pieces)
            for row, piece in enumerate(pieces, start=1):
                np.testing.assert_array_equal(piece, value[2 * row : 2 * row + 2])
                assert np.shares_memory(first, piece)
            assert row == 2


def test_the_disk_begins_while_more_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    monkeypatch.setattr("os.posix_fadvise", lambda _, start, size_bytes, __: begun.append(start + size_bytes))
    value = np.zeros(3 * 2**22, np.float32)  # of three pieces
    (path,) = write_safetensors(tmp_path / "m.safetensors", in_memory({"v": value}))
    assert len(begun) == 3
    assert begun[-1] == path.stat().st_size
