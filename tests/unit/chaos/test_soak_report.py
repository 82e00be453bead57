"""The soak's verdict: an update that is missing or counts twice is found, and only one in doubt may be either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.chaos.soak.report import SoakReport, outcomes
from tests.chaos.soak.variables import (
    NumberedUpdate,
    SoakVariable,
    UpdateLog,
    acknowledged_path,
    num_updates,
    read_updates,
    sent_path,
    soak_variables,
)

VECTOR = SoakVariable("vector", 0, "float64", (10,), 1)
SCALAR = SoakVariable("scalar", 0, "int64", (), 1)


def report(directory: Path, vector: npt.NDArray[Any], scalar: npt.NDArray[Any]) -> SoakReport:
    return SoakReport(outcomes([VECTOR, SCALAR], [vector, scalar], directory))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Of two workers that had 3 and 5 added to the vector and 7 to the scalar, and 2 not acknowledged to the vector."""
    first, second = [NumberedUpdate(1, 0, 3), NumberedUpdate(2, 1, 7)], [NumberedUpdate(1, 0, 5)]
    doubtful = NumberedUpdate(2, 0, 2)
    UpdateLog(sent_path(tmp_path, 0, 0)).append(*first)
    UpdateLog(acknowledged_path(tmp_path, 0, 0)).append(*first)
    UpdateLog(sent_path(tmp_path, 1, 0)).append(*second, doubtful)
    UpdateLog(acknowledged_path(tmp_path, 1, 0)).append(*second)
    return tmp_path


def test_updates_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "updates"
    updates = [NumberedUpdate(1, 3, -7, 2), NumberedUpdate(2**40, 0, 1)]

    assert list(read_updates(path)) == []
    UpdateLog(path).append(*updates)
    UpdateLog(path).append(updates[0])

    assert list(read_updates(path)) == [*updates, updates[0]]
    assert num_updates(path) == 3


def test_equal_sums_are_good(directory: Path) -> None:
    good = report(directory, VECTOR.multiple(8), SCALAR.multiple(7))

    assert [each.verdict for each in good.outcomes] == ["equal", "equal"]
    assert good.is_good
    assert good.outcomes[0].acknowledged_sum == good.outcomes[0].final_sum == 8 * (28 + 6)
    assert "vector" in str(good)
    assert "1 in doubt" in str(good)


def test_an_update_in_doubt_may_count(directory: Path) -> None:
    explained = report(directory, VECTOR.multiple(10), SCALAR.multiple(7))

    assert [each.verdict for each in explained.outcomes] == ["explained", "equal"]
    assert explained.is_good


@pytest.mark.parametrize(
    ("vector", "scalar"),
    [
        (VECTOR.multiple(5), SCALAR.multiple(7)),  # lost
        (VECTOR.multiple(8), SCALAR.multiple(14)),  # twice
        (VECTOR.multiple(8), SCALAR.multiple(0)),
        (VECTOR.multiple(11), SCALAR.multiple(7)),  # more than what was in doubt
        (VECTOR.multiple(8) + np.eye(1, 10, 4)[0], SCALAR.multiple(7)),  # one element more
        (VECTOR.multiple(8) - 3 * (np.arange(10) < 5), SCALAR.multiple(7)),  # half of an update
    ],
)
def test_any_other_difference_is_a_failure(directory: Path, vector: npt.NDArray[Any], scalar: npt.NDArray[Any]) -> None:
    bad = report(directory, vector, scalar)

    assert "DIFFERS" in [each.verdict for each in bad.outcomes]
    assert not bad.is_good
    assert "THE RUN HAS FAILED" in str(bad)


def test_a_run_that_ended_early_is_a_failure() -> None:
    assert not SoakReport().is_good
    assert not SoakReport(failures=["no reply was dropped"]).is_good


def test_sums_of_all_variables_stay_exact() -> None:
    for variable in soak_variables(3):
        total = variable.multiple(10**9)
        assert np.array_equal(total + variable.multiple(1), variable.multiple(10**9 + 1)), variable.name
