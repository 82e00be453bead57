"""Names of the forms in which tensors travel."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import VariableSpec, WireDType
from worker_client.values.wire_names import name_of, wire_dtype_of

SPEC = VariableSpec("scope/w", np.dtype(np.float32), (3,))


@pytest.mark.parametrize("wire", list(WireDType))
def test_every_form_has_a_name(wire: WireDType) -> None:
    assert wire_dtype_of(name_of(wire), SPEC) is wire


def test_none_is_exact() -> None:
    assert wire_dtype_of(None, SPEC) is WireDType.EXACT


@pytest.mark.parametrize("name", ["", "int16", "INT8", 3, np.float16])
def test_other_names_are_refused(name: Any) -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"scope/w: .* is no wire dtype; use one of 'exact', 'bfloat16'"
    ) as caught:
        wire_dtype_of(name, SPEC)
    assert caught.value.variable == "scope/w"


@pytest.mark.parametrize("dtype", [np.int64, np.float16, ml_dtypes.bfloat16, np.complex64, np.bool_, "S3"])
def test_a_variable_of_another_dtype_is_refused(dtype: npt.DTypeLike) -> None:
    spec = VariableSpec("step", np.dtype(dtype), ())
    with pytest.raises(InvalidArgumentError, match=r"variable step holds .* leave the wire dtype out") as caught:
        wire_dtype_of("int8", spec)
    assert caught.value.variable == "step"
    assert wire_dtype_of("exact", spec) is wire_dtype_of(None, spec) is WireDType.EXACT


def test_double_precision_may_travel() -> None:
    assert wire_dtype_of("float16", VariableSpec("w", np.dtype(np.float64), ())) is WireDType.FLOAT16
