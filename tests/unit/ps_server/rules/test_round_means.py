"""The average of the gradients of a round: of rows, each divided by those that have it, and of very large numbers."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from ps_server.rules.round_means import mean


def test_a_row_is_divided_by_the_gradients_that_have_it_each_counted_once() -> None:
    draw = np.random.default_rng(5)
    rows = [draw.integers(0, 40, size) for size in (0, 30, 7, 60)]  # some twice in a gradient, some in none
    gradients = [(each, draw.standard_normal((each.size, 3)).astype(np.float32)) for each in rows]
    indices, values = mean(gradients, len(gradients), of_present=True)
    assert indices.tolist() == [row for each in rows for row in each.tolist()]
    divisors = [sum(row in each for each in rows) for row in indices]
    assert max(divisors) > 1
    given = np.concatenate([each for _, each in gradients])
    expected = given / np.array(divisors, np.int64).reshape(-1, 1)
    assert values.tobytes() == expected.astype(np.float32).tobytes()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_the_average_of_finite_gradients_is_finite_though_their_sum_is_not(dtype: type, count: int) -> None:
    largest, size = float(ml_dtypes.finfo(dtype).max), 40_000  # several blocks
    given: Any = np.ones(size, dtype)
    given[[3, size - 1]] = largest
    gradients = [(given.copy(),) for _ in range(count)]
    gradients[1][0][3] = -largest
    gradients[0][0][7] = np.inf
    (found,) = mean(gradients, count)
    assert found.dtype == given.dtype
    assert float(found[size - 1]) == pytest.approx(largest, rel=1e-2)
    assert np.isfinite(found.astype(np.float64)).sum() == size - 1
    assert float(found[7]) == np.inf
    assert float(found[5]) == 1.0


def test_the_average_of_finite_rows_and_a_whole_gradient_is_finite_too() -> None:
    largest = float(np.finfo(np.float32).max)
    whole = np.array([[largest], [2.0], [0.0]], np.float32)
    rows = np.array([0, 1], np.int64), np.array([[largest], [4.0]], np.float32)
    (found,) = mean([(whole,), rows], 2)
    np.testing.assert_allclose(found, [[largest], [3.0], [0.0]], rtol=1e-6)
