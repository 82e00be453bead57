"""The average of the rows of a round, each divided by the number of gradients that have it."""

from __future__ import annotations

import numpy as np

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
