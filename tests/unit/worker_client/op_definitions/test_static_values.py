"""Values and sizes that are known while a graph is built."""

from __future__ import annotations

import numpy as np
import pytest

from worker_client.deferred.call import deferred_call
from worker_client.op_definitions.static_values import constant_value, known_sizes
from worker_client.ops.array_ops import concat, stack
from worker_client.ops.constant_ops import constant, placeholder, shape
from worker_client.ops.constant_ops import range as range_
from worker_client.ops.random_ops import random_uniform

pytestmark = pytest.mark.usefixtures("graph")


def test_what_is_made_of_constants_is_known() -> None:
    three = constant(3)
    for tensor, value in (
        (three, 3),
        (three * 2 - 1, 5),
        (range_(three), [0, 1, 2]),
        (stack([three, three + 1])[1], 4),
        (shape(constant(np.zeros((2, 5)))), [2, 5]),
    ):
        known = constant_value(tensor)
        assert known is not None
        np.testing.assert_array_equal(known, value)


def test_what_is_fed_or_drawn_or_cannot_be_computed_is_not_known() -> None:
    one = placeholder(np.int32, [])
    division = constant(1) // constant(0)
    for tensor in (one, one + 1, random_uniform([2]), division, deferred_call(np.abs, [constant(1)], op_type="any")):
        assert constant_value(tensor) is None


def test_a_long_chain_is_followed_only_so_far() -> None:
    tensor = constant(1)
    for _ in np.arange(3000):
        tensor = tensor + tensor
    assert constant_value(tensor) is None


def test_sizes_are_known_one_by_one() -> None:
    batch, number = placeholder(np.float32, [None, 6]), placeholder(np.int32, [])
    for tensor, sizes in (
        (shape(batch), [None, 6]),
        (shape(batch)[1:], [6]),
        (stack([number, 3]), [None, 3]),
        (stack([shape(batch)[1], shape(batch)[0]]), [6, None]),
        (concat([shape(batch), [2]], 0), [None, 6, 2]),
        (constant([4, -1]), [4, None]),
        (placeholder(np.int32, [3]), [None, None, None]),
    ):
        assert known_sizes(tensor).as_list() == sizes
    assert known_sizes(placeholder(np.int32, [None])).ndims is None
