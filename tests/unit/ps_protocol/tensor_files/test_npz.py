"""Npz files: NumPy reads what is written here and the other way round, no code is run, and damage is found."""

from __future__ import annotations

import io
import zipfile
from operator import itemgetter
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from ps_protocol.errors import (
    AlreadyExistsError,
    DataLossError,
    DTypeMismatchError,
    FailedPreconditionError,
    InvalidValueError,
    NotFoundError,
    UnimplementedError,
)
from ps_protocol.tensor_files import npz, stored_tensor
from ps_protocol.tensor_files.npz import NpzCheckpoint, write_npz
from ps_protocol.tensor_files.stored_tensor import StoredTensor
from tests.tensor_files import in_memory

ARRAYS: dict[str, Any] = {
    "layer/weights": np.arange(21, dtype=np.float32).reshape(7, 3),
    "step": np.array(7, np.int64),
    "none": np.zeros((0, 4)),
    "mask": np.array([True, False]),
    "columns": np.asfortranarray(np.arange(24).reshape(2, 3, 4)),
    "others": np.arange(5, dtype=">i4"),
    "other columns": np.asfortranarray(np.arange(6, dtype=">f8").reshape(2, 3)),
    "complex": np.array([1 + 2j]),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "compressed"])
def test_what_numpy_writes_is_read(tmp_path: Path, save: Any) -> None:
    save(tmp_path / "a.npz", **ARRAYS)
    with NpzCheckpoint(tmp_path / "a.npz") as checkpoint:
        assert list(checkpoint) == list(ARRAYS)
        for name, expected in ARRAYS.items():
            tensor = checkpoint[name]
            tensor.verify()
            assert tensor.dtype == expected.dtype.newbyteorder("=")
            assert tensor.read().dtype.isnative
            np.testing.assert_array_equal(tensor.read(), expected, strict=False)
            if tensor.shape and len(tensor):
                np.testing.assert_array_equal(tensor[1:], expected[1:])
                np.testing.assert_array_equal(tensor[0], expected[0])
        assert "other" not in checkpoint
    with pytest.raises(FailedPreconditionError, match=r"'step' in .*a\.npz is closed; open the checkpoint again"):
        checkpoint["step"].read()


def test_text_is_objects(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", s=np.array([b"one", b"three"]), u=np.array([["ä", "bc"]], ">U2"), one=np.array("x"))
    with NpzCheckpoint(tmp_path / "a.npz") as checkpoint:
        assert checkpoint["s"].dtype_name == "string"
        assert checkpoint["s"].read().tolist() == [b"one", b"three"]
        assert checkpoint["s"][1:].tolist() == [b"three"]
        assert checkpoint["u"].read().tolist() == [["ä".encode(), b"bc"]]
        assert checkpoint["one"].read().item() == b"x"


@pytest.mark.parametrize("rows_at_once", [1, 3, 1000])
def test_numpy_reads_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_at_once: int) -> None:
    monkeypatch.setattr(stored_tensor, "_PIECE_BYTES", rows_at_once * 12)
    monkeypatch.setattr(npz, "_PIECE_BYTES", 5)
    texts: dict[str, Any] = {"text": np.array([[b"one"], [b"three"]], object), "no text": np.empty(0, object)}
    tensors = ARRAYS | texts | {"others": ARRAYS["others"].astype(np.int32), "other columns": np.zeros((2, 3))}
    sizes: list[int] = []
    path = tmp_path / "new" / "a.npz"
    assert write_npz(path, in_memory(tensors), done=sizes.append) == [path]
    assert sum(sizes) >= sum([each.nbytes for name, each in tensors.items() if name not in texts])
    with np.load(path, allow_pickle=False) as found:
        assert set(found) == set(tensors)
        for name, expected in tensors.items():
            wanted = expected.astype("S5" if name == "text" else "S1") if name in texts else expected
            assert found[name].dtype == wanted.dtype
            np.testing.assert_array_equal(found[name], wanted)
    with NpzCheckpoint(path) as checkpoint:
        np.testing.assert_array_equal(checkpoint["layer/weights"].read(), tensors["layer/weights"])


@pytest.mark.parametrize(
    ("dtype", "wide"),
    [("bfloat16", "float32"), ("float8_e4m3fn", "float32"), ("int4", "int8"), ("uint4", "uint8")],
)
def test_what_numpy_has_no_name_for_is_written_wider(tmp_path: Path, dtype: str, wide: str) -> None:
    value = np.array([-1, 0, 1, 3]).astype(np.int8 if "u" not in dtype else np.uint8) % 8
    narrow = value.astype(getattr(ml_dtypes, dtype))
    write_npz(tmp_path / "a.npz", in_memory({"v": narrow}))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert found["v"].dtype == wide
        np.testing.assert_array_equal(found["v"], narrow.astype(wide))


def test_text_that_numpy_would_shorten_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DTypeMismatchError, match="'v' has texts that end in a zero byte"):
        write_npz(tmp_path / "a.npz", in_memory({"u": np.zeros(3), "v": np.array([b"a\0"], object)}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["zero\0byte", "half a character \ud800", "x" * 2**16], ids=["zero", "half", "long"])
def test_a_name_that_an_archive_cannot_have_is_refused_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidValueError, match="an array in an npz file cannot be called"):
        write_npz(tmp_path / "a.npz", in_memory({"u": np.zeros(3), name: np.zeros(1)}))
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_only_if_that_is_said(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", in_memory({"v": np.zeros(3)}))
    with pytest.raises(AlreadyExistsError, match=r"a\.npz already exists; give another name"):
        write_npz(tmp_path / "a.npz", in_memory({"v": np.ones(3)}))
    write_npz(tmp_path / "a.npz", in_memory({"v": np.ones(3)}), overwrite=True)
    assert np.load(tmp_path / "a.npz")["v"].tolist() == [1, 1, 1]


def test_objects_are_not_read_since_that_would_run_code(tmp_path: Path) -> None:
    times = np.zeros(2, "M8[s]")
    np.savez(tmp_path / "a.npz", beside=np.arange(3), objects=np.array([{}, []], object), times=times)
    with NpzCheckpoint(tmp_path / "a.npz") as checkpoint:
        with pytest.raises(UnimplementedError, match=r"'objects' in .*a\.npz has .* object, which are read by running"):
            checkpoint["objects"].read()
        with pytest.raises(UnimplementedError, match=r"'times' in .*a\.npz has .* datetime64\[s\], which no variable"):
            checkpoint["times"].read()
        assert checkpoint["beside"].read().tolist() == [0, 1, 2]


def test_what_is_no_archive_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"something else")
    with pytest.raises(DataLossError, match=r"a\.npz is damaged, or no npz file"):
        NpzCheckpoint(tmp_path / "a.npz")
    with pytest.raises(NotFoundError, match=r"there is no file .*b\.npz"):
        NpzCheckpoint(tmp_path / "b.npz")


def archive(path: Path, content: bytes, compression: int = zipfile.ZIP_STORED, **changes: int) -> Path:
    with zipfile.ZipFile(path, "w", compression) as made:
        made.writestr("v.npy", content)
        for name, value in changes.items():
            setattr(made.infolist()[0], name, value)
    return path


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no array", "'v' in .* is damaged: the magic string"),
        (npy(np.arange(3))[:-1], "23 bytes cannot be int64 of shape"),
        (npy(np.arange(3)) + b"\0", "25 bytes cannot be int64 of shape"),
        (npy(np.arange(3)).replace(b"(3,)", b"(9**9,)"), "is damaged"),
        (npy(np.arange(3)).replace(b"'<i8', ", b"'<i8',}"), "is damaged"),
        (npy(np.arange(3)).replace(b"NUMPY\x01", b"NUMPY\x09"), "version"),
    ],
)
def test_a_damaged_array_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    with NpzCheckpoint(archive(tmp_path / "a.npz", content)) as checkpoint, pytest.raises(DataLossError, match=message):
        checkpoint["v"]


def test_a_size_that_no_compression_reaches_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", npy(np.arange(3)), zipfile.ZIP_DEFLATED, file_size=2**40)
    with NpzCheckpoint(path) as checkpoint, pytest.raises(DataLossError, match=f"bytes cannot be {2**40}"):
        checkpoint["v"]


def test_a_way_of_compressing_that_numpy_does_not_use_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", npy(np.arange(3)), zipfile.ZIP_LZMA)
    with NpzCheckpoint(path) as checkpoint, pytest.raises(UnimplementedError, match="in a way that NumPy does not use"):
        checkpoint["v"].read()


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_flipped_bit_is_found_also_where_other_rows_are_read(tmp_path: Path, compression: int) -> None:
    values = np.random.default_rng(0).integers(0, 2**62, 1000)
    path = archive(tmp_path / "a.npz", npy(values), compression)
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    for read in (StoredTensor.read, StoredTensor.verify, itemgetter(slice(3))):
        with NpzCheckpoint(path) as checkpoint, pytest.raises(DataLossError, match=r"'v' in .*a\.npz is damaged"):
            read(checkpoint["v"])
