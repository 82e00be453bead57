"""The same values are refused wherever a variable of any kind takes one."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pytest

from ps_protocol.errors import (
    DTypeMismatchError,
    InvalidArgumentError,
    ShapeMismatchError,
)
from tests.contract.variables.kinds import (
    INITIAL,
    Subject,
    each_kind,
)
from worker_client.initializers import Constant
from worker_client.scopes.variable_scope import get_variable
from worker_client.variables.partitioners import fixed_size_partitioner

MASKED: Final = np.ma.array(np.zeros((4, 2)), mask=True)


@each_kind
def test_the_same_values_are_refused_wherever_one_is_taken(subject: Subject) -> None:
    v = subject.variable()
    for value, error, message in (
        (MASKED, DTypeMismatchError, "masked"),
        (None, (DTypeMismatchError, ValueError), "None"),  # deferred, a ValueError as TensorFlow's
        ({1.0, 2.0}, DTypeMismatchError, "set"),
        (np.full((4, 2), "x"), DTypeMismatchError, "str"),
        (np.full((4, 2), 1e300), InvalidArgumentError, "out of its range"),
        ([[1, 2], [3]], ShapeMismatchError, "differ in length"),
    ):
        for method in ("assign", "assign_add", "assign_sub"):
            with pytest.raises(error, match=f"scope/v.*{message}"):
                getattr(v, method)(value)
        for method in ("scatter_update", "scatter_add", "scatter_nd_add", "batch_scatter_update"):
            if value is not None:
                with pytest.raises(error, match=f"scope/v.*{message}"):
                    subject.scattered(v, method, [[0]], value)
    for indices, message in ((np.ma.array([0], mask=[True]), "masked"), ([None], "None"), (2**64, "out of its range")):
        for read in (v.gather, v.sparse_read, v.gather_nd):
            with pytest.raises(InvalidArgumentError, match=f"scope/v.*{message}"):
                read(indices)
        with pytest.raises(InvalidArgumentError, match=f"scope/v.*{message}"):
            subject.scattered(v, "scatter_add", indices, 1)
    np.testing.assert_array_equal(subject.read(v), INITIAL)


@each_kind
def test_the_same_initial_values_are_refused(subject: Subject) -> None:
    partitioner = fixed_size_partitioner(2) if subject.is_partitioned else None

    def make(initializer: Any) -> None:
        shape = [4, 2] if callable(initializer) or subject.is_partitioned else None
        subject.initialize(get_variable("scope/bad", shape, initializer=initializer, partitioner=partitioner))

    for value in (MASKED, np.zeros((4, 2), "M8[D]"), np.full((4, 2), 1e300)):
        for initializer in (Constant(value), lambda *_, value=value, **__: value):
            with pytest.raises(InvalidArgumentError, match="scope/bad"):
                make(initializer)
    for value in (MASKED, np.zeros((4, 2), "M8[D]")):
        with pytest.raises(InvalidArgumentError, match="scope/bad"):
            make(value)
    for number in (1e300, np.float64(-1e300), [1e39], 2**200):
        with pytest.raises(InvalidArgumentError, match=r"scope/bad.* out of its range") as caught:
            make(Constant(number))
        assert isinstance(caught.value, ValueError)
