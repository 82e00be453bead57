"""Checkpoints of version 2: written, read as a whole and in part, by one process and several."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ps_protocol import errors
from ps_protocol.tensor_files import checkpoint_file
from ps_protocol.tensorflow_files import checkpoint_pb2
from ps_protocol.tensorflow_files.bundle import HEADER_KEY, index_path, shard_path
from ps_protocol.tensorflow_files.bundle_writer import ShardWriter, new_checkpoint, write_index
from ps_protocol.tensorflow_files.checkpoint import open_tensorflow
from ps_protocol.tensorflow_files.dtypes import BY_NAME
from ps_protocol.tensorflow_files.table_writer import write_table


def written(prefix: Path, **tensors: Any) -> Path:
    with new_checkpoint(prefix) as writer:
        for name, value in tensors.items():
            writer.add(name, value)
    return prefix


def in_parts(prefix: Path, whole: np.ndarray[Any, Any], cuts: list[list[int]], shards: int = 1) -> Path:
    """Writes a tensor cut at places along each axis, its parts in turn to shards."""
    writers = [ShardWriter(prefix, number, shards) for number in range(shards)]
    ranges = [[*zip([0, *each], [*each, size], strict=True)] for each, size in zip(cuts, whole.shape, strict=True)]
    for number, index in enumerate(np.ndindex(*map(len, ranges))):
        box = [ranges[axis][place] for axis, place in enumerate(index)]
        part = whole[tuple([slice(low, high) for low, high in box])]
        writers[number % shards].add_slice("whole", whole.shape, [low for low, _ in box], part)
    write_index(prefix, [each.finish() for each in writers])
    return prefix


NUMBERS = [each.dtype for each in BY_NAME.values() if not each.is_string and each.dtype.kind != "V"]
ARRAYS = st.sampled_from(NUMBERS).flatmap(
    lambda dtype: npst.arrays(np.uint8, npst.array_shapes(min_dims=0, min_side=0, max_side=4)).map(
        lambda array: (array % 2).astype(dtype)
    )
)


@given(arrays=st.lists(ARRAYS, max_size=5))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_arrays_come_back(arrays: list[np.ndarray[Any, Any]], tmp_path_factory: pytest.TempPathFactory) -> None:
    prefix = written(tmp_path_factory.mktemp("c") / "m", **{f"a{number}": each for number, each in enumerate(arrays)})
    with open_tensorflow(prefix) as checkpoint:
        assert len(checkpoint) == len(arrays)
        for number, array in enumerate(arrays):
            found = checkpoint[f"a{number}"].read()
            assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_the_order_of_bytes_and_of_elements_does_not_matter(tmp_path: Path) -> None:
    array = np.arange(12.0).reshape(3, 4)
    prefix = written(tmp_path / "m", big=array.astype(">f8"), turned=array.T, every_other=array[::2, ::-1])
    with open_tensorflow(prefix) as checkpoint:
        assert np.array_equal(checkpoint["big"], array)
        assert np.array_equal(checkpoint["turned"], array.T)
        assert np.array_equal(checkpoint["every_other"], array[::2, ::-1])


@given(strings=st.lists(st.binary(max_size=300), max_size=30))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_strings_come_back(strings: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    array = np.empty(len(strings), object)
    array[:] = strings
    with open_tensorflow(written(tmp_path_factory.mktemp("c") / "m", text=array)) as checkpoint:
        assert checkpoint["text"].read().tolist() == strings
        assert checkpoint["text"][1:3].tolist() == strings[1:3]


def test_text_is_written_as_utf8_and_zeros_at_its_end_stay(tmp_path: Path) -> None:
    prefix = written(tmp_path / "m", one="é", zeros=b"a\0\0", listed=["a", b"b\0"], fixed=np.array([b"ab", b"c"]))
    with open_tensorflow(prefix) as checkpoint:
        assert checkpoint["one"].read().item() == "é".encode()
        assert checkpoint["zeros"][()] == b"a\0\0"
        assert checkpoint["listed"].read().tolist() == [b"a", b"b\0"]
        assert checkpoint["fixed"].read().tolist() == [b"ab", b"c"]


@given(
    cuts=st.tuples(
        st.lists(st.integers(1, 19), unique=True, max_size=4).map(sorted),
        st.lists(st.integers(1, 4), unique=True, max_size=2).map(sorted),
    ),
    rows=st.slices(20),
    shards=st.integers(1, 3),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_rows_of_a_tensor_in_parts_are_put_together(
    cuts: tuple[list[int], list[int]], rows: slice, shards: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = np.arange(100, dtype=np.int32).reshape(20, 5)
    with open_tensorflow(in_parts(tmp_path_factory.mktemp("c") / "m", whole, [*cuts], shards)) as checkpoint:
        tensor = checkpoint["whole"]
        assert np.array_equal(tensor, whole)
        assert np.array_equal(tensor[rows], whole[rows])
        if rows.step is None or rows.step > 0:
            assert np.array_equal(tensor.read(rows), whole[rows])
        assert np.array_equal(tensor[3], whole[3])
        assert np.array_equal(tensor[-1, 1:3], whole[-1, 1:3])
        assert np.array_equal(tensor[2:9, [0, 4]], whole[2:9, [0, 4]])
        assert np.array_equal(tensor[..., 2], whole[..., 2])
        assert np.array_equal(list(tensor), list(whole))
        aside = np.zeros((4, 10), np.int32)[:, ::2]
        assert tensor.read(slice(5, 9), out=aside) is aside
        assert np.array_equal(aside, whole[5:9])


@given(data=st.data())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_block_of_a_tensor_in_parts_is_read(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    shape = (6, 5, 3)
    cuts = [data.draw(st.lists(st.integers(1, size - 1), unique=True, max_size=2).map(sorted)) for size in shape]
    whole = np.arange(90, dtype=np.int16).reshape(shape)
    starts = [data.draw(st.integers(0, size)) for size in shape]
    sizes = [data.draw(st.integers(0, size - start)) for size, start in zip(shape, starts, strict=True)]
    prefix = in_parts(tmp_path_factory.mktemp("c") / "m", whole, cuts)
    with open_tensorflow(prefix) as checkpoint, pytest.MonkeyPatch.context() as patched:
        patched.setattr("ps_protocol.tensor_files.stored_tensor._ROOM_BYTES", 20)  # few rows at a time
        found = checkpoint["whole"].read_block(starts, sizes)
        wanted = whole[tuple([slice(start, start + size) for start, size in zip(starts, sizes, strict=True)])]
        assert np.array_equal(found, wanted)
        assert found.shape == wanted.shape


def test_a_block_outside_of_a_tensor_is_refused(tmp_path: Path) -> None:
    with open_tensorflow(written(tmp_path / "m", rows=np.zeros((3, 2)), one=1.5)) as checkpoint:
        for starts, shape in (([2, 0], [2, 2]), ([0], [1]), ([-1, 0], [1, 1])):
            with pytest.raises(errors.InvalidValueError, match="is not in a tensor of shape"):
                checkpoint["rows"].read_block(starts, shape)
        assert checkpoint["one"].read_block([], []).item() == 1.5


def test_parts_that_were_saved_alone_are_listed_and_read(tmp_path: Path) -> None:
    """A saver of TensorFlow's may be given some parts of a variable only, and writes them."""
    prefix = some_parts(tmp_path / "m", {(3, 0): np.ones((2, 2)), (5, 0): np.full((2, 2), 2.0)}, (7, 2))
    with open_tensorflow(prefix) as checkpoint:
        tensor = checkpoint["whole"]
        assert {name: each.shape for name, each in checkpoint.items()} == {"whole": (7, 2)}
        assert not tensor.is_whole
        assert tensor[4:6].tolist() == [[1, 1], [2, 2]]
        assert tensor.read_block([3, 1], [4, 1]).ravel().tolist() == [1, 1, 2, 2]
        tensor.verify()
        for read in (tensor.read, lambda: tensor[0], lambda: tensor.read_block([2, 0], [2, 2])):
            with pytest.raises(errors.NotFoundError, match=r"m\.index has of 'whole' \[7, 2\] only parts: \[2, 2\] at"):
                read()


def test_rows_of_many_parts_are_found_at_once(tmp_path: Path) -> None:
    """In time that does not grow with a call of Python for each part: some ten calls for a read of one row."""
    whole = np.arange(3000, dtype=np.int32).reshape(1000, 3)
    with open_tensorflow(in_parts(tmp_path / "m", whole, [[*range(1, 1000)], []])) as checkpoint:
        tensor, calls = checkpoint["whole"], 0

        def counted(frame: Any, event: str, argument: Any) -> None:
            nonlocal calls
            calls += event == "call"

        sys.setprofile(counted)
        try:
            row = tensor[500]
        finally:
            sys.setprofile(None)
    assert row.tolist() == [1500, 1501, 1502]
    assert calls < 200


def test_parts_that_overlap_are_read_where_they_do_not(tmp_path: Path) -> None:
    prefix = some_parts(tmp_path / "m", {(0, 0): np.ones((4, 2)), (3, 0): np.full((4, 2), 2.0)}, (7, 2))
    with open_tensorflow(prefix) as checkpoint:
        assert checkpoint["whole"][:3].tolist() == [[1, 1]] * 3
        with pytest.raises(errors.DataLossError, match=r"They overlap in what is read, \[7, 2\] at \[0, 0\]"):
            checkpoint["whole"].read()


def some_parts(
    prefix: Path, parts: dict[tuple[int, ...], np.ndarray[Any, Any]], shape: tuple[int, ...], name: str = "whole"
) -> Path:
    """Writes parts of a tensor that do not make it up, which this writer refuses and TensorFlow's does not."""
    with ShardWriter(prefix) as writer:
        for starts, value in parts.items():
            writer.add_slice(name, shape, starts, value)
    items = [(HEADER_KEY, checkpoint_pb2.BundleHeader(num_shards=1).SerializeToString())]
    with index_path(prefix).open("wb") as file:
        write_table(file, [*items, *sorted(writer.finish().entries)])
    return prefix


def test_wide_parts_are_read_some_rows_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ps_protocol.tensor_files.stored_tensor._ROOM_BYTES", 40)
    whole = np.arange(100, dtype=np.int32).reshape(20, 5)
    with open_tensorflow(in_parts(tmp_path / "m", whole, [[7], [2]])) as checkpoint:
        assert np.array_equal(checkpoint["whole"], whole)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_large_tensors_are_arrays_like_others(dtype: str, tmp_path: Path) -> None:
    whole = np.arange(3 * 2**21).reshape(3, -1).astype(BY_NAME[dtype].dtype)
    with open_tensorflow(in_parts(tmp_path / "m", whole, [[], [5]])) as checkpoint:
        found = checkpoint["whole"].read()
    assert (found.dtype, found.tobytes()) == (whole.dtype, whole.tobytes())
    found[0] = 1  # it is the caller's
    assert found.flags.writeable
    assert found.flags.c_contiguous


def test_what_a_tensor_says_of_itself(tmp_path: Path) -> None:
    with open_tensorflow(in_parts(tmp_path / "m", np.zeros((4, 2), np.float32), [[1], []])) as checkpoint:
        tensor = checkpoint["whole"]
        assert (tensor.shape, tensor.ndim, tensor.size, tensor.nbytes, len(tensor)) == ((4, 2), 2, 8, 32, 4)
        assert (tensor.dtype, tensor.dtype_name, len(tensor.parts)) == (np.dtype(np.float32), "float32", 2)
        assert repr(tensor) == "<'whole' in a checkpoint: float32 [4, 2], in 2 parts>"
        assert checkpoint["whole"] is tensor
        assert np.asarray(tensor, np.float64).dtype == np.float64
        assert repr(checkpoint) == f"<TensorFlow checkpoint {tmp_path / 'm'}>"


def test_wrong_reads_are_refused(tmp_path: Path) -> None:
    with open_tensorflow(written(tmp_path / "m", rows=np.zeros((3, 2)), one=1.5)) as checkpoint:
        rows, one = checkpoint["rows"], checkpoint["one"]
        for index in (3, -4):
            with pytest.raises(IndexError, match=r"'rows' has 3 rows, and none of number"):
                rows[index]
        with pytest.raises(errors.InvalidValueError, match="read forwards, not with a step of -1"):
            rows.read(slice(None, None, -1))
        with pytest.raises(errors.InvalidValueError, match="'one' is a scalar, which has no rows"):
            one.read(slice(0, 1))
        with pytest.raises(TypeError, match="has no length"):
            len(one)
        assert one[()] == one[...] == 1.5
        with pytest.raises(errors.ShapeMismatchError, match=r"rows: `out` has the shape \[2, 2\]"):
            rows.read(out=np.empty((2, 2)))
        with pytest.raises(errors.DTypeMismatchError, match="rows: `out` has the dtype float32"):
            rows.read(out=np.empty((3, 2), np.float32))
        with pytest.raises(errors.InvalidArgumentError, match="rows: `out` is no NumPy array but list"):
            rows.read(out=[[0.0] * 2] * 3)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="is always a copy"):
            np.asarray(rows, copy=False)
        with pytest.raises(KeyError, match="other"):
            checkpoint["other"]
        assert "" not in checkpoint
        assert "\0rows" not in checkpoint


def damage(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_rows_are_given_out_only_when_all_beside_them_are_right(tmp_path: Path) -> None:
    prefix = written(tmp_path / "m", first=np.zeros(10), rows=np.zeros((100, 2)))
    damage(shard_path(prefix, 0, 1), 80 + 1599)
    with open_tensorflow(prefix) as checkpoint:
        expected = r"m.data-00000-of-00001 is damaged at byte 80: the checksum of the 1600 bytes of 'rows' is wrong"
        for read in (checkpoint["rows"].read, lambda: checkpoint["rows"][:2], checkpoint["rows"].verify):
            with pytest.raises(errors.DataLossError, match=expected):
                read()
        checkpoint["first"].verify()
        checkpoint["rows"].check_size()
    with open_tensorflow(prefix, verify=False) as checkpoint:
        assert checkpoint["rows"][:2].tolist() == [[0, 0], [0, 0]]
        with pytest.raises(errors.DataLossError, match=expected):
            checkpoint["rows"].read()


def test_what_was_checked_is_not_read_again_for_the_next_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    plain = checkpoint_file.CheckpointFile.read_into

    def counted(self: checkpoint_file.CheckpointFile, target: Any, offset: int, crc: int = 0) -> int:
        reads.append(len(target))
        return plain(self, target, offset, crc)

    with open_tensorflow(written(tmp_path / "m", rows=np.zeros((100, 2)))) as checkpoint:
        checkpoint["rows"][:2]
        monkeypatch.setattr(checkpoint_file.CheckpointFile, "read_into", counted)
        checkpoint["rows"][2:4]
        assert reads == [32]


def test_a_missing_or_short_shard_is_named(tmp_path: Path) -> None:
    prefix = in_parts(tmp_path / "m", np.zeros((4, 2)), [[2], []], shards=2)
    os.truncate(shard_path(prefix, 1, 2), 10)
    with open_tensorflow(prefix) as checkpoint:
        assert checkpoint["whole"][:2].shape == (2, 2)  # of the other shard
        for read in (checkpoint["whole"].read, checkpoint["whole"].check_size):
            with pytest.raises(
                errors.DataLossError, match=r"m.data-00001-of-00002 ends at byte 10, and 32 bytes should"
            ):
                read()
    shard_path(prefix, 1, 2).unlink()
    with (
        open_tensorflow(prefix) as checkpoint,
        pytest.raises(errors.NotFoundError, match=r"m\.data-00001-of-00002 is mis"),
    ):
        checkpoint["whole"].check_size()


def index_of(prefix: Path, header: checkpoint_pb2.BundleHeader, **entries: checkpoint_pb2.BundleEntry) -> Path:
    items = [(b"", header.SerializeToString())]
    items += sorted([(name.encode(), each.SerializeToString()) for name, each in entries.items()])
    with index_path(prefix).open("wb") as file:
        write_table(file, items)
    shard_path(prefix, 0, 1).write_bytes(bytes(100))
    return prefix


HEADER = checkpoint_pb2.BundleHeader(num_shards=1)


@pytest.mark.parametrize(
    ("header", "kind", "what"),
    [
        (
            checkpoint_pb2.BundleHeader(num_shards=1, endianness=checkpoint_pb2.BundleHeader.BIG),
            errors.UnimplementedError,
            "with the highest byte first",
        ),
        (
            checkpoint_pb2.BundleHeader(num_shards=1, version=checkpoint_pb2.Version(min_consumer=2)),
            errors.UnimplementedError,
            "for readers of version 2 and newer; this one reads version 1",
        ),
        (
            checkpoint_pb2.BundleHeader(num_shards=1, version=checkpoint_pb2.Version(bad_consumers=[1])),
            errors.UnimplementedError,
            "version 1",
        ),
        (checkpoint_pb2.BundleHeader(), errors.DataLossError, "not the index of a checkpoint"),
    ],
    ids=["big-endian", "newer", "excluded", "no-shards"],
)
def test_a_header_that_means_something_else_is_refused(
    header: checkpoint_pb2.BundleHeader, kind: type[Exception], what: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=what):
        open_tensorflow(index_of(tmp_path / "m", header))


def shape(*sizes: int) -> checkpoint_pb2.TensorShape:
    return checkpoint_pb2.TensorShape(dim=[checkpoint_pb2.TensorShape.Dimension(size=size) for size in sizes])


def entry(dtype: int, *sizes: int, **fields: Any) -> checkpoint_pb2.BundleEntry:
    return checkpoint_pb2.BundleEntry(dtype=dtype, shape=shape(*sizes), **fields)


NO_SHAPE = checkpoint_pb2.BundleEntry(dtype=1, shape=checkpoint_pb2.TensorShape(unknown_rank=True))
WHOLE = checkpoint_pb2.TensorSlice(extent=[checkpoint_pb2.TensorSlice.Extent()])


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (entry(1, 3, size=8), "8 bytes at 0 cannot be float32 of shape"),
        (entry(1, 2**40, 2**40, size=8), "cannot be float32"),
        (entry(1, 2, size=8, offset=-8), "8 bytes at -8 cannot be"),
        (entry(7, 9, size=8), "cannot be string"),
        (entry(7, 0, size=-1), "cannot be string"),
        (entry(1, 2, size=8, shard_id=1), "shard 1 of 1 has it"),
        (entry(1, -2, size=8), r"it has no shape, or \[-2\]"),
        (NO_SHAPE, "it has no shape"),
        (entry(1, 2, slices=[checkpoint_pb2.TensorSlice()]), "is not inside"),
        (entry(1, 2, slices=[WHOLE]), r"its slice at \[0\] is missing"),
    ],
    ids=range(10),
)
def test_an_entry_that_cannot_be_right_is_refused(bad: checkpoint_pb2.BundleEntry, what: str, tmp_path: Path) -> None:
    with (
        open_tensorflow(index_of(tmp_path / "m", HEADER, bad=bad)) as checkpoint,
        pytest.raises(errors.DataLossError, match=f"m.index is damaged: of 'bad', .*{what}"),
    ):
        checkpoint["bad"]


def test_more_than_the_file_has_gets_no_memory(tmp_path: Path) -> None:
    huge = entry(1, 2**40, size=2**42)
    with (
        open_tensorflow(index_of(tmp_path / "m", HEADER, bad=huge)) as checkpoint,
        pytest.raises(errors.DataLossError, match=r"ends at byte 100, and 4398046511104 bytes should stand at byte 0"),
    ):
        checkpoint["bad"].read()


def test_many_dimensions_and_dtypes_that_are_not_known_are_refused_by_name(tmp_path: Path) -> None:
    entries = {
        "deep": entry(1, *[1] * 65, size=4),
        "wide": entry(1, 0, 2**62, size=0),
        "new": entry(99, 1, size=4),
    }
    prefix = index_of(tmp_path / "m", HEADER, **entries)
    shard_path(prefix, 0, 1).write_bytes(bytes(100))
    with open_tensorflow(prefix) as checkpoint:
        assert {name: len(each.shape) for name, each in checkpoint.items()} == {"deep": 65, "wide": 2, "new": 1}
        for name in ("deep", "wide"):
            with pytest.raises(
                errors.UnimplementedError, match=f"'{name}' has the shape .*, which NumPy's arrays cannot"
            ):
                checkpoint[name].read()
        assert checkpoint["new"].dtype_name == "dtype 99"
        with pytest.raises(errors.UnimplementedError, match="the elements of 'new' are of dtype 99"):
            checkpoint["new"].read()


def test_a_closed_checkpoint_says_so(tmp_path: Path) -> None:
    checkpoint = open_tensorflow(written(tmp_path / "m", a=1.0, b=2.0))
    assert checkpoint["a"].read() + checkpoint["b"].read() == 3
    with checkpoint:
        pass
    checkpoint.close()
    for read in (checkpoint["a"].read, checkpoint["a"].verify, checkpoint["b"].read):
        with pytest.raises(errors.FailedPreconditionError, match="is closed; open the checkpoint again"):
            read()


def test_files_are_closed_when_a_checkpoint_is_forgotten(tmp_path: Path) -> None:
    def count() -> int:
        return sum(each.resolve().parent == tmp_path for each in Path("/proc/self/fd").iterdir())

    checkpoint = open_tensorflow(written(tmp_path / "m", a=1.0))
    checkpoint["a"].read()
    assert count() == 2
    del checkpoint
    assert count() == 0


def test_many_threads_read_at_once(tmp_path: Path) -> None:
    whole = np.arange(40_000).reshape(4000, 10)
    with open_tensorflow(in_parts(tmp_path / "m", whole, [[1000, 2000, 3000], []], shards=4)) as checkpoint:
        found: list[bool] = []

        def read(number: int) -> None:
            rows = slice(number * 400, number * 400 + 1000)
            found.append(np.array_equal(checkpoint["whole"][rows], whole[rows]))

        threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert found == [True] * 8


# Writing


def test_names_and_dtypes_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidValueError, match="cannot be called ''"):
        written(tmp_path / "m", **{"": 1.0})
    with pytest.raises(errors.InvalidValueError, match="cannot be called"):
        written(tmp_path / "m", **{"half a character \ud800": 1.0})
    with pytest.raises(errors.InvalidValueError, match="called by texts, not 1"), new_checkpoint(tmp_path / "m") as new:
        new.add(1, np.zeros(2))  # type: ignore[arg-type]
    with pytest.raises(errors.DTypeMismatchError, match=r"cannot hold datetime64.*, the dtype of 'when'"):
        written(tmp_path / "m", when=np.array(["2020-01-01"], "datetime64[s]"))
    with pytest.raises(errors.DTypeMismatchError, match="the objects of 'thing' have to be bytes or text"):
        written(tmp_path / "m", thing=np.array([1, None], object))
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_written_once(tmp_path: Path) -> None:
    with new_checkpoint(tmp_path / "m") as writer:
        writer.add("w", 1.0)
        with pytest.raises(errors.AlreadyExistsError, match="'w' already exists in"):
            writer.add("w", 2.0)
        with pytest.raises(errors.AlreadyExistsError, match="'w' already exists as a whole tensor"):
            writer.add_slice("w", [2], [0], [1.0])
        writer.add_slice("p", [2], [0], [1.0])
        with pytest.raises(errors.AlreadyExistsError, match=r"'p at \[0\]' already exists"):
            writer.add_slice("p", [2], [0], [1.0])
        with pytest.raises(errors.ShapeMismatchError, match=r"it has the shape \[2\], and \[3\]"):
            writer.add_slice("p", [3], [1], [1.0])
        with pytest.raises(errors.DTypeMismatchError, match="the parts of 'p' have different dtypes"):
            writer.add_slice("p", [2], [1], np.ones(1, np.float32))
        writer.add_slice("p", [2], [1], [5.0])
    with open_tensorflow(tmp_path / "m") as checkpoint:
        assert checkpoint["p"].read().tolist() == [1, 5]
        assert checkpoint["w"].read() == 1


def test_quantized_numbers_are_written_by_the_name_of_their_dtype(tmp_path: Path) -> None:
    with new_checkpoint(tmp_path / "m") as writer:
        writer.add("q", np.array([1, -2], np.int8), "qint8")
        with pytest.raises(errors.DTypeMismatchError, match="cannot be saved as qint8"):
            writer.add("r", np.array([1], np.int16), "qint8")
        with pytest.raises(errors.DTypeMismatchError, match="cannot be saved as real"):
            writer.add("r", np.array([1], np.int16), "real")
        writer.add("b", np.array([1], ml_dtypes.bfloat16))
    with open_tensorflow(tmp_path / "m") as checkpoint:
        assert (checkpoint["q"].dtype_name, checkpoint["q"].read().tolist()) == ("qint8", [1, -2])
        assert checkpoint["b"].dtype == ml_dtypes.bfloat16


def test_shards_that_do_not_make_a_checkpoint_are_refused(tmp_path: Path) -> None:
    prefix = tmp_path / "m"
    with pytest.raises(errors.InvalidValueError, match="there is no shard 2 of 2"):
        ShardWriter(prefix, 2, 2)
    writers = [ShardWriter(prefix, number, 2) for number in range(2)]
    writers[0].add_slice("p", [3], [0], [1.0])
    writers[1].add_slice("p", [3], [2], [1.0])
    both = [each.finish() for each in writers]
    with pytest.raises(errors.FailedPreconditionError, match=r"needs each of its 2 shards once, and has \[0\]"):
        write_index(prefix, both[:1])
    with pytest.raises(errors.FailedPreconditionError, match=r"and has \[0, 0\]"):
        write_index(prefix, [both[0], both[0]])
    with pytest.raises(
        errors.InvalidValueError, match=r"'p' of shape \[3\] cannot be saved: its parts, at \[\[0\], \[2\]\]"
    ):
        write_index(prefix, both)
    shard_path(prefix, 1, 2).unlink()
    with pytest.raises(errors.NotFoundError, match=r"m\.data-00001-of-00002 is missing; write it before the index"):
        write_index(prefix, both)
    assert not index_path(prefix).exists()
    with pytest.raises(errors.FailedPreconditionError, match="is finished; 'late' has to be added before"):
        writers[0].add("late", 1.0)


def test_two_shards_with_one_tensor_are_refused(tmp_path: Path) -> None:
    writers = [ShardWriter(tmp_path / "m", number, 2) for number in range(2)]
    for writer in writers:
        writer.add("w", 1.0)
    with pytest.raises(errors.AlreadyExistsError, match="'w' is in two shards"):
        write_index(tmp_path / "m", [each.finish() for each in writers])


def test_after_an_error_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(errors.DTypeMismatchError):
        written(tmp_path / "m", w=np.zeros(1000), wrong=[None])
    assert list(tmp_path.iterdir()) == []


def test_an_index_does_not_stay_beside_shards_of_another_checkpoint(tmp_path: Path) -> None:
    """Between the new shard and the new index there is no checkpoint, rather than one of both."""
    prefix = written(tmp_path / "m", w=np.zeros(10))
    writer = ShardWriter(prefix)
    writer.add("w", np.ones(10))
    with open_tensorflow(prefix) as checkpoint:
        assert checkpoint["w"].read().sum() == 0
    entries = writer.finish()
    with pytest.raises(errors.NotFoundError, match="the checkpoint was not written to its end"):
        open_tensorflow(prefix)
    write_index(prefix, [entries])
    with open_tensorflow(prefix) as checkpoint:
        assert checkpoint["w"].read().sum() == 10


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full: list[Path] = []

    def opened(path: Path, mode: str) -> IO[bytes]:
        full.append(path)
        path.touch()
        return open("/dev/full", "wb")  # noqa: PTH123 - Path.open is replaced; its user closes it

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(errors.ResourceExhaustedError, match=r"m\.data-00000-of-00001 cannot be written: No space left"):
        written(tmp_path / "m", w=np.zeros(1000))
    assert len(full) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((errors.NotFoundError, errors.UnknownError), match=r"m\.data-00000-of-00001 cannot be written"):
        written(tmp_path / "file" / "m", w=1.0)
    prefix = written(tmp_path / "new" / "deep" / "m", w=1.0)
    assert prefix.parent.is_dir()
