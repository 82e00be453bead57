"""The work of the benchmark, and what contestants must hold after it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.harness.workloads import SCALES, WORKLOADS, Scale, expected_state, observed_state, ones

SMALL = SCALES["small"]


def test_full_scale_is_that_of_the_definition() -> None:
    full = SCALES["full"]
    assert full.vector_bytes == 100 * 2**20
    assert full.model_bytes == 161 * 158_720 * 4
    assert (full.rows, full.width, full.batch_rows) == (1_000_000, 64, 4096)


@pytest.mark.parametrize("scale", SCALES.values(), ids=list(SCALES))
def test_indices_are_rows_of_the_table_and_the_same_each_time(scale: Scale) -> None:
    for indices in (scale.uniform_indices(), scale.zipf_indices()):
        assert indices.shape == (scale.batch_rows,)
        assert indices.dtype == np.int64
        assert indices.min() >= 0
        assert indices.max() < scale.rows
    np.testing.assert_array_equal(scale.zipf_indices(), scale.zipf_indices())


def test_zipf_repeats_rows_and_one_most_of_all() -> None:
    full = SCALES["full"]
    assert len(np.unique(full.uniform_indices())) > 0.99 * full.batch_rows
    rows, counts = np.unique(full.zipf_indices(), return_counts=True)
    assert len(rows) < 0.6 * full.batch_rows
    assert counts.max() > 0.08 * full.batch_rows


def test_expected_state_is_what_naive_work_leaves() -> None:
    counts = {"add": 3, "push": 2, "scatter": 4, "scatter_zipf": 5, "push161": 6, "pull": 7}
    delta, rows, layers = ones(SMALL)
    scalar = np.zeros((), np.float32)
    vector, table = np.zeros_like(delta), np.zeros((SMALL.rows, SMALL.width), np.float32)
    model = [np.zeros_like(each) for each in layers]
    for _ in range(counts["add"]):
        scalar += 1
    for _ in range(counts["push"]):
        vector += delta
    for _ in range(counts["scatter"]):
        np.add.at(table, SMALL.uniform_indices(), rows)
    for _ in range(counts["scatter_zipf"]):
        np.add.at(table, SMALL.zipf_indices(), rows)
    for _ in range(counts["push161"]):
        for layer, each in zip(model, layers, strict=True):
            np.add(layer, each, out=layer)
    observed = observed_state(scalar, vector, table[SMALL.uniform_indices()], model)
    assert observed == expected_state(SMALL, counts)
    assert all(observed.values())


def test_titles_say_the_sizes() -> None:
    assert WORKLOADS["pull"].title_at(SCALES["full"]) == "pull 100 MiB"
    assert WORKLOADS["gather"].title_at(SCALES["full"]) == "gather 4,096 rows"
    assert WORKLOADS["push161"].title_at(SCALES["full"]) == "push 161 variables"
