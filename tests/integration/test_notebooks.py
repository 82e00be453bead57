"""Cells of a notebook, run one by one and again, with names that stay."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import shardscope as ss
from ps_cluster import LocalCluster

pytestmark = pytest.mark.integration


class Notebook:
    """Runs cells as a notebook does, and at the end closes what they have left open.

    Attributes:
        names: What the cells have defined.
    """

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self._used: list[Any] = []

    def run(self, cell: str) -> None:
        exec(compile(cell, "cell", "exec"), self.names)
        self._used += [each for each in self.names.values() if isinstance(each, ss.Client | LocalCluster)]

    def close(self) -> None:
        for kind in (ss.Client, LocalCluster):
            for each in self._used:
                if isinstance(each, kind):
                    each.close()


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    # Other tests may have imported it, and then the default graph is a deferred one.
    monkeypatch.delitem(sys.modules, "worker_client.compat.v1", raising=False)
    opened = Notebook()
    opened.run("import numpy as np\nimport shardscope as ss")
    try:
        yield opened
    finally:
        opened.close()


CLUSTER = "cluster = ss.LocalCluster(num_ps=2, num_workers=1)\ncluster.start()"
CONNECT = "client = ss.connect(cluster.cluster_spec)"
VARIABLES = """
with ss.variable_scope("", reuse=ss.AUTO_REUSE):
    weights = ss.get_variable("weights", [2], initializer=ss.zeros_initializer())
    table = ss.get_variable(
        "table", [4, 2], initializer=ss.zeros_initializer(), partitioner=ss.fixed_size_partitioner(2)
    )
"""


def shown(value: Any) -> str:
    """What a notebook shows of a value; it is well-formed."""
    text = str(value._repr_html_())
    return "\n".join(ElementTree.fromstring(text).itertext())


def test_a_cluster_and_a_connection_last_over_cells(notebook: Notebook) -> None:
    for cell in (CLUSTER, CONNECT, VARIABLES, "weights.assign_add([1, 2])", "value = weights.numpy()"):
        notebook.run(cell)
    assert notebook.names["value"].tolist() == [1, 2]
    notebook.run("client.close()\ncluster.stop()")
    assert "stopped" in repr(notebook.names["cluster"])


def test_cells_can_be_run_again(notebook: Notebook) -> None:
    notebook.run(CLUSTER)
    notebook.run(CONNECT)
    notebook.run(VARIABLES)
    first = notebook.names["weights"]
    notebook.run("weights.assign_add([1, 2])")
    notebook.run(VARIABLES)
    assert notebook.names["weights"] is first
    assert first.numpy().tolist() == [1, 2]


def test_starting_is_done_once_and_stopping_can_be_repeated() -> None:
    cluster = LocalCluster(num_ps=1)
    try:
        assert cluster.start() is cluster
        pid = cluster.ps_pid(0)
        assert cluster.start() is cluster
        assert cluster.ps_pid(0) == pid
        cluster.stop()
        cluster.stop()
        assert cluster.ps_exit_code(0) == 0
        with pytest.raises(RuntimeError, match="make a new one"):
            cluster.start()
    finally:
        cluster.stop()


def test_a_cluster_says_what_runs_and_how_to_use_it() -> None:
    cluster = LocalCluster(num_ps=2)
    assert "not started" in repr(cluster)
    assert "cluster.start()" in shown(cluster)
    with cluster:
        addresses = cluster.cluster_spec.ps_addresses()
        for text in (repr(cluster), shown(cluster)):
            assert all(each in text for each in addresses)
            assert "ss.connect(cluster.cluster_spec)" in text
            assert "stop()" in text
        cluster.kill_ps(1)
        assert "ps:1 at " in repr(cluster)
        assert repr(cluster).count("has ended with -9") == 1
    assert "stopped" in repr(cluster)
    assert "stopped" in shown(cluster)


def test_what_cells_show_needs_no_ps(notebook: Notebook) -> None:
    for cell in (CLUSTER, CONNECT, VARIABLES):
        notebook.run(cell)
    client, weights, table = (notebook.names[name] for name in ("client", "weights", "table"))
    assert "weights:0" in shown(weights)
    assert "float32" in shown(weights)
    assert "/job:ps/task:" in shown(weights)
    assert "table/part_1:0" in shown(table)
    assert "worker:0: open" in shown(client)
    assert all(each in repr(client) for each in notebook.names["cluster"].cluster_spec.ps_addresses())
    before = [shown(each) for each in (weights, table)]
    notebook.run("cluster.stop()")
    notebook.run("client.close()")
    assert [shown(each) for each in (weights, table)] == before
    assert "worker:0: closed" in shown(client)
    assert "closed" in repr(client)


def test_what_is_shown_is_escaped() -> None:
    with LocalCluster(num_ps=1) as cluster, ss.connect(cluster.cluster_spec):
        odd = ss.get_variable("odd>name", [2], initializer=ss.zeros_initializer())
        assert "odd&gt;name:0" in odd._repr_html_()
        assert "odd>name:0" in shown(odd)


def test_of_many_parts_the_first_are_shown() -> None:
    with LocalCluster(num_ps=1) as cluster, ss.connect(cluster.cluster_spec):
        cut = ss.get_variable(
            "cut", [50], initializer=ss.zeros_initializer(), partitioner=ss.fixed_size_partitioner(50)
        )
        assert shown(cut).count("cut/part_") == 20
        assert "and 30 more" in shown(cut)
        assert np.asarray(cut).shape == (50,)
