"""What rounding may take from any tensor, and that it takes it only once."""

from __future__ import annotations

from typing import Any, Final

import hypothesis.strategies as st
import ml_dtypes
import numpy as np
from hypothesis import given
from hypothesis.extra import numpy as npst

from ps_protocol.codec import wire_dtypes
from ps_protocol.codec.wire_dtypes import BLOCK_SIZE
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array, Update, UpdateRule, WireDType
from worker_client.variables.error_feedback import ErrorFeedback

LOSSY: Final = st.sampled_from((WireDType.BFLOAT16, WireDType.FLOAT16, WireDType.INT8))
DTYPES: Final[st.SearchStrategy[np.dtype[Any]]] = st.sampled_from((np.dtype(np.float32), np.dtype(np.float64)))


@st.composite
def tensors(draw: st.DrawFn, *, largest: float | None = None) -> Array:
    """Float tensors of any value, around the borders of blocks; few drawn elements stand for many."""
    dtype: np.dtype[Any] = draw(DTYPES)
    size = draw(st.sampled_from((0, 1, 2, 255, 256, 257, 600)))
    if largest is not None:
        elements = st.floats(-largest, largest, width=32)
    else:
        elements = st.floats(width=32) if dtype.itemsize == 4 else st.floats(width=64)
    array: Array = draw(npst.arrays(dtype, size, elements=elements, fill=elements))
    return array


def through(wire: WireDType, array: Array) -> Array:
    decoded = np.empty_like(array)
    wire_dtypes.decode_into(wire, wire_dtypes.encode(wire, array), decoded)
    return decoded


@given(LOSSY, tensors())
def test_encoding_what_was_decoded_gives_the_same_bytes(wire: WireDType, values: Array) -> None:
    encoded = wire_dtypes.encode(wire, values)
    decoded = np.empty_like(values)
    wire_dtypes.decode_into(wire, encoded, decoded)
    assert wire_dtypes.encode(wire, decoded).tobytes() == encoded.tobytes()


@given(tensors(largest=float(np.float32(1e38))))
def test_bfloat16_is_off_by_at_most_an_eighth_bit(values: Array) -> None:
    error = np.abs(through(WireDType.BFLOAT16, values).astype(np.float64) - values)
    assert (error <= np.maximum(2.0**-8 * np.abs(values.astype(np.float64)), 2.0**-134)).all()


@given(tensors(largest=65504.0))
def test_float16_is_off_by_at_most_an_eleventh_bit(values: Array) -> None:
    error = np.abs(through(WireDType.FLOAT16, values).astype(np.float64) - values)
    assert (error <= np.maximum(2.0**-11 * np.abs(values.astype(np.float64)), 2.0**-25)).all()


@given(tensors(largest=float(np.float32(1e38))))
def test_int8_is_off_by_at_most_half_a_scale(values: Array) -> None:
    encoded = wire_dtypes.encode(WireDType.INT8, values)
    scales = encoded[: encoded.size - values.size].view(np.float32).astype(np.float64)
    error = np.abs(through(WireDType.INT8, values).astype(np.float64) - values)
    peaks = np.array([np.abs(values[at : at + BLOCK_SIZE]).max() for at in range(0, values.size, BLOCK_SIZE)])
    assert (scales <= peaks / 127 * (1 + 2.0**-23)).all()
    # The quotient by the scale is rounded before the integer is: by half a unit of its last place more.
    bounds = np.where(scales > 0, scales * (0.5 + 2.0**-17), 2.0**-119)
    assert (error <= np.repeat(bounds, BLOCK_SIZE)[: values.size]).all()


@given(tensors())
def test_nothing_that_is_no_number_becomes_one(values: Array) -> None:
    for wire in (WireDType.BFLOAT16, WireDType.FLOAT16, WireDType.INT8):
        assert not np.isfinite(through(wire, values)[~np.isfinite(values)]).any()


@given(npst.arrays(np.float64, st.integers(1, 50), elements=st.floats(width=64)))
def test_bfloat16_of_a_float64_is_the_nearest(values: Array) -> None:
    """Against a search over all bfloat16 values."""
    patterns = np.arange(2**16, dtype=np.uint16)
    patterns = patterns[patterns & 0x7F80 != 0x7F80]  # neither infinite nor NaN
    finite = np.unique(patterns.view(ml_dtypes.bfloat16).astype(np.float64))
    decoded = through(WireDType.BFLOAT16, values)
    inside = np.abs(values) <= finite[-1]
    nearest = np.abs(finite[:, None] - values[inside]).min(axis=0)
    np.testing.assert_array_equal(np.abs(decoded[inside] - values[inside]), nearest)


@given(st.binary(max_size=600), LOSSY, DTYPES, st.integers(0, 300))
def test_any_bytes_are_a_tensor_or_refused(data: bytes, wire: WireDType, dtype: np.dtype[Any], size: int) -> None:
    decoded = np.zeros(size, dtype)
    try:
        wire_dtypes.decode_into(wire, data, decoded)
    except InvalidArgumentError:
        assert not decoded.any()
    else:
        assert len(data) == wire_dtypes.encoded_bytes(wire, size)


@given(
    wire=LOSSY,
    seed=st.integers(0, 2**32 - 1),
    pushes=st.lists(
        st.tuples(
            st.sampled_from((UpdateRule.ASSIGN_ADD, UpdateRule.ASSIGN_SUB)),
            st.sampled_from((0.0, 1e-3, 1.0, 100.0)),
            st.booleans(),
        ),
        max_size=40,
    ),
)
def test_what_is_pushed_adds_up_to_the_deltas(
    wire: WireDType, seed: int, pushes: list[tuple[UpdateRule, float, bool]]
) -> None:
    """Whatever fails in between: all that is missing is what is owed, which is less than one quantum."""
    random = np.random.default_rng(seed)
    feedback = ErrorFeedback()
    wanted, applied = np.zeros(300), np.zeros(300)
    for rule, largest, fails in pushes:
        delta = random.uniform(-largest, largest, 300).astype(np.float32)
        push = feedback.push(Update("w", rule, delta, wire))
        sent = push.operation.value
        assert push.operation.encoded is not None
        assert wire_dtypes.encode(wire, sent).tobytes() == push.operation.encoded.tobytes()
        if fails:
            push.roll_back()
            continue
        sign = -1 if rule is UpdateRule.ASSIGN_SUB else 1
        wanted += sign * delta.astype(np.float64)
        applied += sign * sent.astype(np.float64)
    owed = feedback.owed((300,), np.dtype(np.float32))
    # A sum of a delta and what is owed is rounded to float32 each time.
    np.testing.assert_allclose(applied + owed, wanted, rtol=0, atol=len(pushes) * 200 * 2.0**-23)
    quantum = 201 / 127 if wire is WireDType.INT8 else 201 * 2.0**-7
    assert np.abs(owed).max(initial=0) <= quantum
