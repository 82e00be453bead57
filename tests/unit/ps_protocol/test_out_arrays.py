"""What may be given as ``out``, and what is refused with which remedy."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError, ShapeMismatchError
from ps_protocol.operations import VariableSpec
from ps_protocol.out_arrays import check_out

SPEC = VariableSpec("scope/v", np.dtype(np.float32), (3, 2))


def read_only() -> npt.NDArray[np.float32]:
    array = np.empty((3, 2), np.float32)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        ([[0.0, 0.0]] * 3, InvalidArgumentError, r"no NumPy array but list"),
        (np.float32(0), InvalidArgumentError, r"no NumPy array but float32"),
        (np.empty((3, 2)), DTypeMismatchError, r"dtype float64, but it should be float32"),
        (np.empty((3, 2), ">f4"), DTypeMismatchError, r"dtype >f4, but it should be float32"),
        (np.empty((3, 2), ml_dtypes.bfloat16), DTypeMismatchError, r"dtype bfloat16"),
        (np.empty((2, 3), np.float32), ShapeMismatchError, r"shape \[2, 3\], but it should be \[3, 2\]"),
        (np.empty(6, np.float32), ShapeMismatchError, r"shape \[6\]"),
        (read_only(), InvalidArgumentError, r"read-only"),
        (np.ma.empty((3, 2), np.float32), InvalidArgumentError, r"is masked"),
        (np.lib.stride_tricks.as_strided(np.empty(1, np.float32), (3, 2), (0, 0)), InvalidArgumentError, "share"),
        (np.lib.stride_tricks.as_strided(np.empty(4, np.float32), (3, 2), (4, 4)), InvalidArgumentError, "share"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_remedy(out: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=rf"scope/v: .*{message}.*np\.empty\(\[3, 2\], 'float32'\)"):
        check_out(out, SPEC)


def test_what_fits_is_taken() -> None:
    check_out(np.empty((3, 2), np.float32), SPEC)
    check_out(np.empty((2, 3), np.float32).T, SPEC)
    check_out(np.empty((3, 4), np.float32)[::-1, ::2], SPEC)
    check_out(np.empty((3, 2), np.float32).view(np.recarray), SPEC)
    check_out(np.empty((4, 4, 2), np.float32), SPEC, (4, 4, 2))


def test_some_need_c_order_as_well() -> None:
    check_out(np.empty((3, 2), np.float32), SPEC, in_order=True)
    with pytest.raises(InvalidArgumentError, match="not in C order"):
        check_out(np.empty((2, 3), np.float32).T, SPEC, in_order=True)
