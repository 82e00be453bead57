"""What may not be read into, and how a value gets into the array that was given for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import InternalError, InvalidArgumentError
from ps_protocol.operations import Result, VariableSpec
from worker_client.values.out_arrays import check_disjoint, check_not_read, direct_target, received

SPEC = VariableSpec("scope/v", np.dtype(np.float32), (3, 2))
VALUE = np.arange(6, dtype=np.float32).reshape(3, 2)


def test_only_contiguous_arrays_are_for_transports() -> None:
    contiguous = np.empty((3, 2), np.float32)
    assert direct_target(contiguous) is contiguous
    assert direct_target(np.empty((2, 3), np.float32).T) is None
    assert direct_target(np.empty((3, 4), np.float32)[:, ::2]) is None
    assert direct_target(None) is None


def test_a_tensor_that_is_elsewhere_is_copied() -> None:
    out = np.empty((3, 2), np.float32)
    assert received(Result(1, True, VALUE), out) is out
    np.testing.assert_array_equal(out, VALUE)
    columns = np.zeros((3, 4), np.float32)
    received(Result(1, True, VALUE), columns[:, 1:3])
    np.testing.assert_array_equal(columns[:, 1:3], VALUE)
    assert columns[:, [0, 3]].max() == 0
    assert received(Result(1, True, out), out) is out
    assert received(Result(1, True, VALUE), None) is VALUE


@pytest.mark.parametrize("tensor", [None, VALUE[0], VALUE.astype(np.float64)])
def test_a_reply_that_does_not_fit_is_never_spread_over_the_array(tensor: Any) -> None:
    out = np.zeros((3, 2), np.float32)
    with pytest.raises(InternalError, match="the reply"):
        received(Result(1, True, tensor), out)
    assert out.max() == 0


def test_what_is_still_to_be_read_is_not_written_to() -> None:
    memory = np.empty(10, np.int64)
    outs = [(memory[6:8], "b"), (memory[3:3], "empty"), (memory[2:4], "a")]
    check_not_read(outs, [memory[:2], memory[4:6], memory[8:], memory[3:3], np.empty(2)])
    check_not_read([], [memory])
    for operand, name in [(memory[:3], "a"), (memory[3:5], "a"), (memory[7:], "b"), (memory[2:3], "a"), (memory, "b")]:
        with pytest.raises(InvalidArgumentError, match=rf"variable {name}: `out` overlaps the indices"):
            check_not_read(outs, [memory[:1], operand])


def test_no_two_may_overlap() -> None:
    whole = np.empty(10, np.float32)
    check_disjoint([whole[5:], np.empty(3), whole[:5], whole[3:3], np.empty(0)], ["a", "b", "c", "d", "e"])
    for overlapping in ([whole[:6], whole[5:]], [whole, whole], [whole[4:5], whole], [whole[::2], whole[1::2]]):
        with pytest.raises(InvalidArgumentError, match=r"variables [ab] and [ab] overlap.*of its own"):
            check_disjoint([*overlapping, np.empty(2)], ["a", "b", "c"])
