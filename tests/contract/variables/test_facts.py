"""What every kind of variable says of itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import (
    InvalidArgumentError,
    ShardscopeError,
)
from tests.contract.variables.kinds import (
    OFFERS,
    PARTITIONED_DEFERRED,
    Subject,
    each_kind,
)
from worker_client.deferred.partitioned import PartitionedDeferredVariable
from worker_client.variables.partitioned import PartitionedVariable


def has(variable: Any, attribute: str) -> bool:
    try:
        return hasattr(variable, attribute)
    except ShardscopeError:
        return False


@each_kind
def test_the_table_says_what_each_kind_offers(subject: Subject) -> None:
    variable = subject.variable()
    offered = {attribute for attribute in OFFERS if has(variable, attribute)}
    if subject.kind == PARTITIONED_DEFERRED:
        with pytest.raises(InvalidArgumentError, match=r"scope/v belongs to a deferred graph.* no read_if_newer"):
            variable.read_if_newer(None)
    assert offered == {attribute for attribute, kinds in OFFERS.items() if subject.kind in kinds}


@each_kind
def test_facts(subject: Subject) -> None:
    v = subject.declared()
    assert v.shape == (4, 2)
    assert v.dtype == np.float32
    assert v.name == ("scope/v" if subject.is_partitioned else "scope/v:0")
    assert isinstance(v, PartitionedVariable) == subject.is_partitioned
    assert isinstance(v, PartitionedDeferredVariable) == (subject.kind == PARTITIONED_DEFERRED)
    assert {v: 1}[v] == 1
    assert "scope/v" in repr(v)
