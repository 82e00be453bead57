"""Values read into arrays, in other forms, or only if they are new."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import (
    DTypeMismatchError,
    InvalidArgumentError,
    ShapeMismatchError,
)
from ps_protocol.operations import Array
from tests.contract.variables.kinds import (
    AT_ONCE,
    INITIAL,
    PARTITIONED_DEFERRED,
    Subject,
    kinds,
    offered,
)


@kinds(AT_ONCE)
def test_a_value_is_read_into_an_array(subject: Subject) -> None:
    v = subject.variable()
    for out in (np.empty((4, 2), np.float32), np.empty((2, 4), np.float32).T, np.empty((4, 4), np.float32)[:, ::2]):
        assert subject.read(v, out=out) is out
        np.testing.assert_array_equal(out, INITIAL)


def read_only() -> Array:
    array: Array = np.empty((4, 2), np.float32)
    array.flags.writeable = False
    return array


@kinds(AT_ONCE)
@pytest.mark.parametrize(
    ("out", "error"),
    [
        (np.empty((2, 2), np.float32), ShapeMismatchError),
        (np.empty((4, 2)), DTypeMismatchError),
        (read_only(), InvalidArgumentError),
        ([[0.0, 0.0]] * 4, InvalidArgumentError),
    ],
)
def test_an_array_that_does_not_fit_is_refused(subject: Subject, out: Any, error: type[Exception]) -> None:
    v = subject.variable()
    with pytest.raises(error, match=r"variable scope/v: `out` .*make it with np\.empty\(\[4, 2\], 'float32'\)"):
        subject.read(v, out=out)
    with pytest.raises(error, match="scope/v"):
        v.read_if_newer(None, out=out)


@kinds([PARTITIONED_DEFERRED])
@pytest.mark.parametrize("options", [{"out": np.empty((4, 2), np.float32)}, {"wire_dtype": "exact"}])
def test_a_session_has_its_own_arrays_and_forms(subject: Subject, options: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"scope/v belongs to a deferred graph"):
        subject.variable().as_tensor(**options)


@offered("push_dtype")
def test_the_form_in_which_tensors_travel_is_chosen(subject: Subject) -> None:
    v = subject.variable()
    assert (v.push_dtype, v.pull_dtype) == ("exact", "exact")
    v.push_dtype, v.pull_dtype = "bfloat16", "float16"
    assert (v.push_dtype, v.pull_dtype) == ("bfloat16", "float16")
    np.testing.assert_array_equal(subject.read(v, wire_dtype="int8"), INITIAL)  # within a process nothing travels
    v.assign_add(INITIAL, wire_dtype="float16")
    for name in ("push_dtype", "pull_dtype"):
        with pytest.raises(InvalidArgumentError, match="'int4' is no wire dtype"):
            setattr(v, name, "int4")
    with pytest.raises(InvalidArgumentError, match="'int4' is no wire dtype"):
        subject.read(v, wire_dtype="int4")
    with pytest.raises(InvalidArgumentError, match="'int4' is no wire dtype"):
        v.assign(INITIAL, wire_dtype="int4")


@kinds([PARTITIONED_DEFERRED])
def test_in_a_deferred_graph_no_form_is_chosen(subject: Subject) -> None:
    v = subject.variable()
    for name in ("push_dtype", "pull_dtype"):
        with pytest.raises(InvalidArgumentError, match="scope/v belongs to a deferred graph"):
            setattr(v, name, "bfloat16")


@offered("read_if_newer")
def test_a_value_is_read_only_if_it_is_new(subject: Subject) -> None:
    v = subject.variable()
    first = v.read_if_newer(None)
    np.testing.assert_array_equal(first.value, INITIAL)
    assert v.read_if_newer(first.version) is None
    v.assign_add(INITIAL)
    np.testing.assert_array_equal(v.read_if_newer(first.version).value, 2 * INITIAL)
    with pytest.raises(InvalidArgumentError, match="scope/v"):
        v.read_if_newer("newest")
