"""Which part holds which row, and how rows are combined; TensorFlow's answers written out."""

from __future__ import annotations

import numpy as np
import pytest

from ps_protocol.errors import InvalidArgumentError
from worker_client.embeddings.rows import RowAssignment, clipped, combined, rows_of_part, stitched


def test_mod_deals_the_ids_out() -> None:
    assignment = RowAssignment("mod", (5, 4, 4), "the table")
    assert np.stack(assignment.places(np.arange(13)), 1).tolist() == [[i % 3, i // 3] for i in range(13)]


def test_div_gives_stretches_the_first_ones_longer() -> None:
    """The example of TensorFlow's documentation: 13 ids in 5 parts."""
    assignment = RowAssignment("div", (3, 3, 3, 2, 2), "the table")
    parts, rows = assignment.places(np.arange(13, dtype=np.int32))
    assert [np.flatnonzero(parts == part).tolist() for part in range(5)] == [
        [0, 1, 2],
        [3, 4, 5],
        [6, 7, 8],
        [9, 10],
        [11, 12],
    ]
    assert rows.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 0, 1]


def test_div_with_fewer_rows_than_parts() -> None:
    parts, rows = RowAssignment("div", (1, 1, 0), "the table").places(np.arange(2))
    assert (parts.tolist(), rows.tolist()) == ([0, 1], [0, 0])


@pytest.mark.parametrize("strategy", ["mod", "div"])
@pytest.mark.parametrize("wrong", [-1, -2, 5, 6, 1000])
def test_an_id_without_a_row_is_named(strategy: str, wrong: int) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"id {wrong} has no row in the table, .*\[3, 2\]"):
        RowAssignment(strategy, (3, 2), "the table").places(np.array([0, wrong]))


@pytest.mark.parametrize("strategy", ["mod", "div"])
def test_an_id_beyond_int64_is_not_taken_for_another(strategy: str) -> None:
    assignment = RowAssignment(strategy, (3, 2), "the table")
    assert assignment.places(np.array([1, 3], np.uint64))[0].tolist() == ([1, 1] if strategy == "mod" else [0, 1])
    for wrong in (2**63, 2**64 - 1):
        with pytest.raises(InvalidArgumentError, match=f"id {wrong} has no row in the table"):
            assignment.places(np.array([0, wrong], np.uint64))


def test_lengths_may_be_unknown_to_mod() -> None:
    assignment = RowAssignment("mod", (None, 2), "the table")
    assert assignment.places(np.array([100]))[1].tolist() == [50]
    with pytest.raises(InvalidArgumentError, match="id 5"):
        assignment.places(np.array([5]))


def test_rows_come_back_in_the_order_of_the_ids() -> None:
    assignment = RowAssignment("mod", (2, 2), "the table")
    ids = np.array([[3, 0], [0, 2]])
    found = [rows_of_part(ids, part, assignment)[:, np.newaxis] * 10 + part for part in range(2)]
    assert [each.tolist() for each in found] == [[[0], [0], [10]], [[11]]]
    assert stitched(ids, found, assignment).tolist() == [[[11], [0]], [[0], [10]]]


def test_rows_are_clipped_to_a_norm() -> None:
    rows = np.array([[3.0, 4.0], [0.3, 0.4]], np.float32)
    np.testing.assert_allclose(clipped(rows, 1, 1.0), [[0.6, 0.8], [0.3, 0.4]], rtol=1e-6)
    np.testing.assert_allclose(clipped(np.array([-3.0, 1.0]), 0, 2.0), [-2, 1])
    assert clipped(rows.astype(np.float16), 1, 1.0).dtype == np.float16


class TestCombined:
    ROWS = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    UNIQUE = np.array([4, 9])
    IDS = np.array([9, 4, 9])
    PLACES = np.array([[0, 0], [0, 1], [2, 0]])
    WEIGHTS = np.array([2.0, 1.0, 0.5], np.float32)

    @pytest.mark.parametrize(
        ("combiner", "weighted", "expected"),
        [
            ("sum", False, [[4, 6], [0, 0], [3, 4]]),
            ("mean", False, [[2, 3], [0, 0], [3, 4]]),
            ("sqrtn", False, [[4 / 2**0.5, 6 / 2**0.5], [0, 0], [3, 4]]),
            ("sum", True, [[7, 10], [0, 0], [1.5, 2]]),
            ("mean", True, [[7 / 3, 10 / 3], [0, 0], [3, 4]]),
            ("sqrtn", True, [[7 / 5**0.5, 10 / 5**0.5], [0, 0], [3, 4]]),
        ],
    )
    def test_values(self, combiner: str, weighted: bool, expected: list[list[float]]) -> None:
        weights = self.WEIGHTS if weighted else None
        result = combined(self.ROWS, self.UNIQUE, self.IDS, self.PLACES, weights, combiner)
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected, rtol=1e-6)

    def test_weights_that_cancel_out_make_zero(self) -> None:
        weights = np.array([1.0, -1.0, 1.0], np.float32)
        result = combined(self.ROWS, self.UNIQUE, self.IDS, self.PLACES, weights, "mean")
        np.testing.assert_array_equal(result[0], [0, 0])

    def test_no_ids(self) -> None:
        empty = np.zeros(0, np.int64)
        assert combined(self.ROWS[:0], empty, empty, np.zeros((0, 2), np.int64), None, "sum").shape == (0, 2)

    def test_disorder_is_refused(self) -> None:
        with pytest.raises(InvalidArgumentError, match="ascend"):
            combined(self.ROWS, self.UNIQUE, self.IDS, self.PLACES[::-1], None, "sum")
        with pytest.raises(InvalidArgumentError, match="differ in number"):
            combined(self.ROWS, self.UNIQUE, self.IDS, self.PLACES, self.WEIGHTS[:2], "sum")
