"""Clipping of gradients; expected values are TensorFlow's."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError
from worker_client import train
from worker_client.values.conversion import IndexedSlices

GRADIENT = np.array([[3, 4], [6, 8]], np.float32)
ROWS = IndexedSlices(GRADIENT, [0, 0], [3, 2])


def test_elements_are_kept_within_bounds() -> None:
    np.testing.assert_array_equal(train.clip_by_value(GRADIENT, 3.5, 6), [[3.5, 4], [6, 6]])
    assert train.clip_by_value(GRADIENT, 3.5, 6).dtype == np.float32
    rows = train.clip_by_value(ROWS, -1, 5)
    assert (rows.values.tolist(), rows.indices, rows.dense_shape) == ([[3, 4], [5, 5]], [0, 0], [3, 2])


def test_a_long_gradient_is_shortened() -> None:
    np.testing.assert_allclose(
        train.clip_by_norm(ROWS, 5.0).values, [[1.3416408, 1.7888544], [2.6832817, 3.5777087]], rtol=1e-6
    )
    np.testing.assert_array_equal(train.clip_by_norm(GRADIENT, 5.0, axes=1), [[3, 4], [3, 4]])
    np.testing.assert_array_equal(train.clip_by_norm(GRADIENT, 100.0), GRADIENT)
    np.testing.assert_array_equal(train.clip_by_norm(np.zeros(3), 1.0), np.zeros(3))
    np.testing.assert_array_equal(train.clip_by_norm(GRADIENT, -1.0), np.zeros((2, 2)))


def test_several_are_shortened_together() -> None:
    gradients = [ROWS, None, np.array([1], np.float32)]
    assert train.global_norm(gradients) == pytest.approx(11.224972)
    (rows, nothing, clipped), norm = train.clip_by_global_norm(gradients, 1.0)
    assert nothing is None
    assert norm == pytest.approx(11.224972)
    np.testing.assert_allclose(clipped, [0.08908708], rtol=1e-6)
    np.testing.assert_allclose(rows.values, GRADIENT / norm, rtol=1e-6)
    assert clipped.dtype == rows.values.dtype == np.float32
    np.testing.assert_array_equal(train.clip_by_global_norm(gradients, 1.0, use_norm=2.0)[0][2], [0.5])
    np.testing.assert_array_equal(train.clip_by_global_norm(gradients, 100.0)[0][2], [1])


def test_of_none_there_is_no_norm() -> None:
    assert train.global_norm([None]) == 0
    assert train.clip_by_global_norm([None], 1.0) == ([None], 0)


def test_a_norm_that_is_not_finite_makes_all_of_it_nan() -> None:
    (bad, good), norm = train.clip_by_global_norm([np.array([np.inf]), np.array([1.0])], 1.0)
    assert norm == np.inf
    assert np.isnan([*bad, *good]).all()


def test_sixteen_bits_stay_so() -> None:
    gradient = GRADIENT.astype(ml_dtypes.bfloat16)
    for clipped in (
        train.clip_by_value(gradient, 0, 5),
        train.clip_by_norm(gradient, 1.0),
        train.clip_by_global_norm([gradient], 1.0)[0][0],
    ):
        assert clipped.dtype == ml_dtypes.bfloat16


def test_what_is_refused() -> None:
    with pytest.raises(DTypeMismatchError, match="clip_by_norm takes gradients of floats, not int64"):
        train.clip_by_norm(np.array([1]), 1.0)
    with pytest.raises(InvalidArgumentError, match="a list of them"):
        train.global_norm(GRADIENT)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match=r"norm 0\.0; give a number above 0"):
        train.clip_by_global_norm([GRADIENT], 0.0)
