"""States of a ps task, of all kinds, and how two of them are compared."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
from hypothesis import strategies as st

from ps_protocol.codec.tensor_codec import parse_dtype
from ps_protocol.errors import FailedPreconditionError, OutOfRangeError, ShardscopeError
from ps_protocol.operations import Array, BatchReply, PartitionSlice, Reply, Result, VariableSpec, Verdict
from ps_protocol.optimizer_constraints import ConstraintSpec
from ps_protocol.optimizer_schedules import ScheduleSpec
from ps_protocol.optimizer_spec import OnNonfinite, OptimizerSpec, SparseMode
from ps_protocol.service_types import Placement
from ps_server.batches.remembered_answers import FORGOTTEN, Answer, ClientImage
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


NUMBERS = st.lists(st.floats() | st.just(math.nan), max_size=3).map(tuple)
WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)


@st.composite
def optimizers(draw: st.DrawFn) -> OptimizerSpec:
    schedules = st.none() | st.builds(ScheduleSpec, WORDS, NUMBERS)
    return OptimizerSpec(
        draw(WORDS),
        draw(NUMBERS),
        draw(st.sampled_from(SparseMode)),
        draw(st.sampled_from(OnNonfinite)),
        draw(schedules | st.builds(ScheduleSpec, WORDS, NUMBERS, schedules)),
        draw(st.none() | st.builds(ConstraintSpec, WORDS, NUMBERS)),
    )


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
    return VariableSpec(name, dtype, shape, part, draw(st.just("") | NAMES), draw(st.none() | optimizers()))


@st.composite
def variables(draw: st.DrawFn, name: str) -> VariableImage:
    spec = draw(specs(name))
    value = draw(st.none() | arrays(spec.dtype, spec.shape))
    declared = None
    if value is not None and spec.slice is None:  # parts are not replaced by values of another layout
        declared = draw(st.none() | st.just(replace(spec, shape=(*spec.shape, 2))))
    return VariableImage(spec, value, draw(COUNTS), declared)


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    if draw(st.booleans()):
        return OutOfRangeError(draw(st.text(max_size=5)), variable=draw(NAMES), task="ps:0", retryable=False)
    spec = draw(st.none() | specs("v"))
    tensor = None if spec is None else draw(st.none() | arrays(spec.dtype, spec.shape))
    verdict = draw(st.sampled_from(Verdict)) if tensor is None else Verdict.APPLIED
    return Result(draw(COUNTS), draw(st.booleans()), tensor, spec, verdict)


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
    checksums = {each: draw(st.integers(1, 2**32 - 1)) for each in sequences if draw(st.booleans())}
    return ClientImage(draw(st.uuids()), draw(st.text(max_size=6)), draw(COUNTS), draw(COUNTS), kept, checksums)


@st.composite
def images(draw: st.DrawFn) -> StateImage:
    names = sorted(draw(st.sets(NAMES, max_size=4)))
    return StateImage(
        position=draw(st.integers(1, 2**64 - 1)),
        variables=tuple(draw(variables(name)) for name in names),
        clients=tuple(draw(st.lists(clients(), max_size=2))),
        departed=tuple(draw(st.lists(st.tuples(st.uuids(), st.text(max_size=6)), max_size=2))),
        placements=tuple(Placement(draw(specs(name)), draw(st.integers(0, 2**32 - 1))) for name in names[:2]),
    )


def comparable(value: object) -> object:
    """The same as plain values, which are compared bit by bit, errors by what they say, and specs in words."""
    if isinstance(value, np.ndarray):
        return (value.dtype, value.shape, value.tobytes())
    if isinstance(value, ShardscopeError):
        return (type(value), value.message, value.variable, value.task, value.retryable, value.retry_after_s)
    if isinstance(value, dict):
        return sorted(value.items())
    if isinstance(value, tuple):
        return [comparable(each) for each in value]
    if isinstance(value, StateImage | VariableImage | ClientImage | BatchReply | Result):
        return [comparable(getattr(value, name)) for name in type(value).__slots__]
    if isinstance(value, VariableSpec | Placement):
        return repr(value)  # since NaN does not equal itself
    assert value is FORGOTTEN or isinstance(value, int | str | UUID | None)
    return value
