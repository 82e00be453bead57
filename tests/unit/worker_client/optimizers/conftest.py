"""A cluster of two ps tasks, and variables of every kind in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from worker_client.client import Client
from worker_client.initializers import Constant
from worker_client.scopes.variable_scope import get_variable
from worker_client.variables.partitioners import fixed_size_partitioner

VALUE = np.arange(12, dtype=np.float32).reshape(4, 3)
WAYS: dict[str, int | None] = {"whole": None, "cut by rows": 0, "cut by columns": 1}


def variable_of(way: str, name: str = "w", value: npt.ArrayLike = VALUE, dtype: npt.DTypeLike = np.float32) -> Any:
    """A variable of the default connection."""
    axis, array = WAYS[way], np.asarray(value, dtype)
    partitioner = None if axis is None else fixed_size_partitioner(2, axis=axis)
    return get_variable(name, array.shape, dtype, initializer=Constant(array), partitioner=partitioner)


@pytest.fixture(params=WAYS)
def w(request: pytest.FixtureRequest, client: Client) -> Any:
    """A variable of each kind."""
    del client
    return variable_of(request.param)


@pytest.fixture
def variables(client: Client) -> list[Any]:
    """One on each ps task, and two that are cut over both."""
    del client
    return [
        variable_of("whole", "a"),
        variable_of("whole", "b"),
        variable_of("cut by rows", "rows"),
        variable_of("cut by columns", "columns"),
    ]
