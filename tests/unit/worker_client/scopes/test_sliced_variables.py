"""Variables that are cut into parts without a partitioner."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import pytest

from tests.unit.worker_client.naming_fakes import deferred_graph, eager_graph
from worker_client.graph.graph import Graph
from worker_client.graph.keys import GraphKeys
from worker_client.initializers import ones_initializer
from worker_client.scopes.sliced_variables import create_partitioned_variables
from worker_client.scopes.variable_scope import variable_scope


@pytest.fixture(params=[eager_graph, deferred_graph], ids=["eager", "deferred"], autouse=True)
def graph(request: pytest.FixtureRequest) -> Iterator[Graph]:
    with cast(Graph, request.param()).as_default() as made:
        yield made


def test_the_parts_have_the_name_of_the_whole(graph: Graph) -> None:
    with variable_scope("a"):
        parts = create_partitioned_variables([5, 2], [2, 1], ones_initializer(), name="p", trainable=False)
    assert [(part.name, tuple(part.shape)) for part in parts] == [("a/p/part_0:0", (3, 2)), ("a/p/part_1:0", (2, 2))]
    assert graph.get_collection(GraphKeys.GLOBAL_VARIABLES) == parts
    assert graph.get_collection(GraphKeys.TRAINABLE_VARIABLES) == []


def test_without_a_name_they_are_numbered() -> None:
    names = [create_partitioned_variables([4], [2], np.arange(4, dtype=np.float32))[0].name for _ in range(2)]
    assert names == ["PartitionedVariable/part_0:0", "PartitionedVariable_1/part_0:0"]


def test_they_are_found_again_with_reuse() -> None:
    parts = create_partitioned_variables([4], [2], ones_initializer(), name="p")
    assert create_partitioned_variables([4], [2], ones_initializer(), name="p", reuse=True) == parts
    with pytest.raises(ValueError, match="already exists"):
        create_partitioned_variables([4], [2], ones_initializer(), name="p")


@pytest.mark.parametrize(
    ("shape", "slicing", "message"),
    [([4], [2, 1], "every dimension"), ([], [], "must be one"), ([4, 4], [2, 2], "only one dimension")],
)
def test_slicing_must_fit(shape: list[int], slicing: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_partitioned_variables(shape, slicing, ones_initializer())
