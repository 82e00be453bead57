"""The order of repeated updates: whatever the way, applied as it says it is the loop."""

from __future__ import annotations

import numpy as np
import pytest

from ps_server.rules.row_schedule import OrderGiven, Rounds, Rows, order_of_updates


def rows_of(*rows: int) -> Rows:
    return np.array(rows, np.intp)


def updates_of_each_row(order: OrderGiven | Rounds, rows: Rows) -> dict[int, list[int]]:
    """Which updates each row gets, in their order, as ``computed_rows`` would apply them."""
    if isinstance(order, OrderGiven):
        taken = [[position] for position in range(rows.size)]
        for before, after in order.corrections:
            for one, next_one in zip(before.tolist(), after.tolist(), strict=True):
                taken[next_one] = [*taken[one], next_one]
        for one, next_one in order.single_corrections:
            taken[next_one] = [*taken[one], next_one]
        return {int(row): taken[position] for position, row in enumerate(order.rows)}  # the last position stays
    updates: dict[int, list[int]] = {int(row): [] for row in order.rows}
    assert len(updates) == order.rows.size
    begin = 0
    for size in order.sizes:
        for row, position in zip(order.rows[:size].tolist(), order.positions[begin : begin + size], strict=True):
            updates[row].append(int(position))
        begin += size
    assert begin == order.positions.size
    begin = 0
    for row, length in zip(order.rows.tolist(), order.hot_lengths, strict=False):
        updates[row].extend(order.hot_positions[begin : begin + length].tolist())
        begin += length
    assert begin == order.hot_positions.size
    return updates


def expected(rows: Rows) -> dict[int, list[int]]:
    return {int(row): np.flatnonzero(rows == row).tolist() for row in rows}


def uniform(size: int, num_rows: int) -> Rows:
    return np.random.default_rng(size).integers(0, num_rows, size)


def skewed(size: int, num_rows: int) -> Rows:
    return np.asarray((np.random.default_rng(size).zipf(1.1, size) - 1) % num_rows, np.intp)


@pytest.mark.parametrize("num_rows", [5_000, 2**62 - 1])  # with room for a position beside a row in one key, and not
@pytest.mark.parametrize("allow_hot_rows", [True, False])
@pytest.mark.parametrize(
    "rows",
    [
        rows_of(3),
        rows_of(3, 3, 1, 3),
        uniform(128, 40),
        uniform(129, 5_000),
        uniform(2_000, 5_000),
        uniform(2_000, 50),
        skewed(2_000, 5_000),
        np.zeros(500, np.intp),
        np.arange(4_999, -1, -1),
    ],
    ids=lambda rows: f"{rows.size} of {np.unique(rows).size}",
)
def test_each_row_gets_its_updates_in_the_order_given(rows: Rows, num_rows: int, allow_hot_rows: bool) -> None:
    order = order_of_updates(rows, num_rows, allow_hot_rows=allow_hot_rows)
    assert updates_of_each_row(order, rows) == expected(rows)


def test_few_repeats_are_corrections_and_many_are_rounds() -> None:
    small = order_of_updates(uniform(128, 4), 4)
    assert isinstance(small, OrderGiven)
    assert (len(small.single_corrections), small.corrections) == (124, ())
    sparse = np.concatenate((np.arange(1_000), [7, 7, 8]))
    few = order_of_updates(sparse, 1_000)
    assert isinstance(few, OrderGiven)
    assert [before.size for before, _ in few.corrections] == [2, 1]
    assert isinstance(order_of_updates(uniform(1_000, 100), 100), Rounds)


def test_one_row_that_repeats_often_is_no_correction() -> None:
    rows = np.concatenate((np.arange(1_000), np.full(6, 7)))
    order = order_of_updates(rows, 1_000)
    assert isinstance(order, Rounds)
    assert (order.rows[0], order.hot_lengths) == (7, (6,))


def test_a_round_holds_no_row_twice_and_is_no_larger_than_the_one_before() -> None:
    order = order_of_updates(skewed(5_000, 300), 300)
    assert isinstance(order, Rounds)
    assert list(order.sizes) == sorted(order.sizes, reverse=True)
    assert order.sizes[0] == order.rows.size == np.unique(order.rows).size


def test_a_few_hot_rows_do_not_make_many_rounds() -> None:
    rows = np.concatenate((np.zeros(3_000, np.intp), np.arange(1_000)))
    order = order_of_updates(rows, 1_000)
    assert isinstance(order, Rounds)
    assert (order.sizes, order.hot_lengths) == ((1_000,), (3_000,))
    to_the_last = order_of_updates(rows, 1_000, allow_hot_rows=False)
    assert isinstance(to_the_last, Rounds)
    assert (len(to_the_last.sizes), to_the_last.hot_lengths) == (3_001, ())
