"""Whatever the state, its snapshot brings it back; whatever byte of it is changed, it is refused."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ps_protocol.codec.tensor_codec import parse_dtype
from ps_protocol.errors import FailedPreconditionError, OutOfRangeError, ShardscopeError
from ps_protocol.operations import Array, BatchReply, PartitionSlice, Reply, Result, VariableSpec
from ps_protocol.service_types import Placement
from ps_server.batches.remembered_answers import FORGOTTEN, Answer, ClientImage
from ps_server.durability.snapshots.files import CorruptSnapshotError, SnapshotFiles
from ps_server.log.state_image import StateImage
from ps_server.store.stored_variable import VariableImage

DTYPES = [
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128", "S1", "S7"),
    *("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e3m4", "int4", "uint2", "float4_e2m1fn"),
]
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8) | st.sampled_from(
    ["__metadata__", "__metadata___", "scope/weights", "scope/weights/part_0"]
)
COUNTS = st.integers(0, 2**64 - 1)


@st.composite
def arrays(draw: st.DrawFn, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    size_bytes = int(np.prod(shape)) * dtype.itemsize
    data = draw(st.binary(min_size=size_bytes, max_size=size_bytes))
    array: Array = np.ndarray(shape, dtype, data)  # read-only, as lent values are
    return array


@st.composite
def specs(draw: st.DrawFn, name: str) -> VariableSpec:
    dtype = parse_dtype(draw(st.sampled_from(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    part = None
    is_part = draw(st.booleans())
    if shape and is_part:
        offset = tuple(draw(st.integers(0, 3)) for _ in shape)
        whole = tuple(start + size for start, size in zip(offset, shape, strict=True))
        part = PartitionSlice(draw(NAMES), whole, offset)
    return VariableSpec(name, dtype, shape, part)


@st.composite
def variables(draw: st.DrawFn, name: str) -> VariableImage:
    spec = draw(specs(name))
    value = draw(st.none() | arrays(spec.dtype, spec.shape))
    return VariableImage(spec, value, draw(COUNTS))


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    if draw(st.booleans()):
        return OutOfRangeError(draw(st.text(max_size=5)), variable=draw(NAMES), task="ps:0", retryable=False)
    spec = draw(st.none() | specs("v"))
    tensor = None if spec is None else draw(st.none() | arrays(spec.dtype, spec.shape))
    return Result(draw(COUNTS), draw(st.booleans()), tensor, spec)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    kind = draw(st.sampled_from(["reply", "reply", "error", "forgotten"]))
    if kind == "reply":
        return BatchReply(tuple(draw(st.lists(replies(), max_size=3))))
    return FORGOTTEN if kind == "forgotten" else FailedPreconditionError(draw(st.text(max_size=9)), task="ps:1")


@st.composite
def clients(draw: st.DrawFn) -> ClientImage:
    sequences = sorted(draw(st.sets(COUNTS, max_size=3)))
    kept = tuple((sequence, draw(answers())) for sequence in sequences)
    return ClientImage(draw(st.uuids()), draw(st.text(max_size=6)), draw(COUNTS), draw(COUNTS), kept)


@st.composite
def images(draw: st.DrawFn) -> StateImage:
    names = sorted(draw(st.sets(NAMES, max_size=4)))
    return StateImage(
        position=draw(st.integers(1, 10**20 - 1)),
        variables=tuple(draw(variables(name)) for name in names),
        clients=tuple(draw(st.lists(clients(), max_size=2))),
        departed=tuple(draw(st.lists(st.tuples(st.uuids(), st.text(max_size=6)), max_size=2))),
        placements=tuple(Placement(draw(specs(name)), draw(st.integers(0, 2**32 - 1))) for name in names[:2]),
    )


@contextmanager
def fresh_files() -> Iterator[SnapshotFiles]:
    with tempfile.TemporaryDirectory() as folder:
        yield SnapshotFiles(Path(folder))


@settings(max_examples=60)
@given(images())
def test_a_snapshot_brings_the_state_back(image: StateImage) -> None:
    with fresh_files() as files:
        written = files.write(image)
        back, info = files.read(image.position)
    assert comparable(back) == comparable(image)
    assert info == written
    for variable in back.variables:
        assert variable.value is None or (variable.value.flags.writeable and variable.value.flags.c_contiguous)


@settings(max_examples=60)
@given(images(), st.randoms(use_true_random=False))
def test_any_changed_byte_is_refused(image: StateImage, random: Any) -> None:
    with fresh_files() as files:
        path = random.choice(sorted(files.write(image).path.iterdir()))
        content = bytearray(path.read_bytes())
        if not content:  # a ledger of nobody
            return
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        path.write_bytes(content)
        with pytest.raises(CorruptSnapshotError) as refused:
            files.read(image.position)
    assert str(path) in str(refused.value)


@settings(max_examples=30)
@given(images(), st.randoms(use_true_random=False))
def test_a_file_that_was_cut_off_is_refused(image: StateImage, random: Any) -> None:
    with fresh_files() as files:
        path = random.choice(sorted(files.write(image).path.iterdir()))
        content = path.read_bytes()
        if not content:
            return
        path.write_bytes(content[: random.randrange(len(content))])
        with pytest.raises(CorruptSnapshotError, match=path.name):
            files.read(image.position)


def comparable(value: object) -> object:
    """The same as plain values, which are compared bit by bit and errors by what they say."""
    if isinstance(value, np.ndarray):
        return (value.dtype, value.shape, value.tobytes())
    if isinstance(value, ShardscopeError):
        return (type(value), value.message, value.variable, value.task, value.retryable, value.retry_after_s)
    if isinstance(value, tuple):
        return [comparable(each) for each in value]
    if isinstance(value, StateImage | VariableImage | ClientImage | BatchReply | Result):
        return [comparable(getattr(value, name)) for name in type(value).__slots__]
    assert value is FORGOTTEN or isinstance(value, int | str | UUID | VariableSpec | Placement | None)
    return value
