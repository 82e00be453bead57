"""The kinds of variables: eager and deferred ones, whole and partitioned.

Which kind offers what is said in ``OFFERS``; a kind that learns something gets it there, and the tests of it then run
on that kind too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pytest

from ps_protocol.operations import Array
from tests.unit.worker_client.clusters import InProcessCluster
from worker_client.initializers import Constant
from worker_client.scopes.variable_scope import get_variable
from worker_client.sessions.session import Session
from worker_client.values.conversion import IndexedSlices
from worker_client.variables.partitioners import fixed_size_partitioner

EAGER, DEFERRED, PARTITIONED, PARTITIONED_DEFERRED = "eager", "deferred", "partitioned", "partitioned deferred"
ALL: Final = (EAGER, DEFERRED, PARTITIONED, PARTITIONED_DEFERRED)
WHOLE: Final = (EAGER, DEFERRED)
AT_ONCE: Final = (EAGER, PARTITIONED)

OFFERS: Final[dict[str, Sequence[str]]] = {
    "name": ALL,
    "shape": ALL,
    "dtype": ALL,
    "assign": ALL,
    "assign_add": ALL,
    "assign_sub": ALL,
    "get_shape": ALL,
    "op": WHOLE,
    "graph": ALL,
    "device": WHOLE,
    "trainable": ALL,
    "read_value": ALL,
    "as_tensor": (PARTITIONED, PARTITIONED_DEFERRED),
    "value": ALL,
    "numpy": AT_ONCE,
    "read_if_newer": AT_ONCE,
    "push_dtype": AT_ONCE,
    "pull_dtype": AT_ONCE,
    "gather": ALL,
    "sparse_read": ALL,
    "gather_nd": ALL,
    **{f"scatter_{rule}": ALL for rule in ("update", "add", "sub", "mul", "div", "min", "max")},
    **{f"scatter_nd_{rule}": ALL for rule in ("update", "add", "sub")},
    "batch_scatter_update": ALL,
    "__dlpack__": ALL,
    "count_up_to": (DEFERRED,),
    "push_buffer": AT_ONCE,
    "version": AT_ONCE,
    "initialize": AT_ONCE,
    "initialized": AT_ONCE,
    "initializer": (DEFERRED,),
    "is_initialized": (DEFERRED,),
    "load": (DEFERRED,),
    **dict.fromkeys(("ndim", "size", "nbytes", "itemsize", "T", "tolist", "item"), AT_ONCE),
    **dict.fromkeys(("sum", "mean", "max", "min", "norm", "dot", "top_k", "histogram", "apply", "reduce"), AT_ONCE),
}
"""The kinds that have each attribute; what is in it for one that has not yet is an error, or nothing."""

INITIAL: Final = np.arange(8, dtype=np.float32).reshape(4, 2)


class Subject:
    """One kind of variable, and how a test gets at what it does.

    Args:
        kind: One of ``ALL``.
        session: Runs what deferred ones make.
        cluster: Has them.
    """

    def __init__(self, kind: str, session: Session | None, cluster: InProcessCluster):
        self.kind = kind
        self.session = session
        self.cluster = cluster

    @property
    def is_partitioned(self) -> bool:
        return self.kind in (PARTITIONED, PARTITIONED_DEFERRED)

    def declared(self, value: Any = INITIAL, name: str = "scope/v", *, axis: int = 0) -> Any:
        """A variable without a value, whose initial value is given."""
        value = np.asarray(value, np.float32)
        partitioner = fixed_size_partitioner(2, axis=axis) if self.is_partitioned else None
        return get_variable(name, value.shape, initializer=Constant(value), partitioner=partitioner)

    def initialize(self, variable: Any) -> None:
        for part in variable if self.is_partitioned else [variable]:
            if self.session is None:
                part.initialize()
            else:
                self.session.run(part.initializer)

    def variable(self, value: Any = INITIAL, name: str = "scope/v", *, axis: int = 0) -> Any:
        """A variable that has a value."""
        variable = self.declared(value, name, axis=axis)
        self.initialize(variable)
        return variable

    def done(self, result: Any) -> Any:
        """Has what a method returned done, if it is still to be done; returns its value."""
        return result if self.session is None else self.session.run(result)

    def read(self, variable: Any, **options: Any) -> Array:
        value: Array = self.done(variable.read_value(**options))
        return value

    def rows(self, variable: Any, indices: Any) -> Array:
        value: Array = self.done(variable.gather(indices))
        return value

    def scattered(self, variable: Any, method: str, indices: Any, updates: Any) -> Any:
        """Has a method update rows or elements, given as each kind wants them; returns its result."""
        scatter = getattr(variable, method)
        if self.session is None or method.startswith("scatter_nd"):
            return self.done(scatter(indices, updates))
        return self.done(scatter(IndexedSlices(updates, indices)))


def kinds(of: Sequence[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("subject", of, indirect=True)


each_kind = kinds(ALL)


def offered(attribute: str) -> pytest.MarkDecorator:
    """Runs a test on the kinds that have an attribute."""
    return kinds(OFFERS[attribute])
