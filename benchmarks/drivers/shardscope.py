"""Shardscope as a contestant: one ps process, and this process as the worker, by one transport.

Arrays are made once and used again, as a training loop would: values are read into them (``out=``) and deltas are
sent from them. ``fresh`` variants get a new array from every call instead.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

import worker_client as ss
from benchmarks.harness.contestants import TRANSPORTS
from benchmarks.harness.line_protocol import Call, Contestant, scale_argument, serve
from benchmarks.harness.workloads import SCALES, Scale, observed_state, ones
from ps_cluster import LocalCluster

# "socket" is TCP here, as the peers' sockets are; Shardscope's own "socket" prefers a Unix socket.
_TRANSPORTS = {"socket": "tcp"}


def connect(spec: ss.ClusterSpec | None, transport: str, *, job_name: str = "worker", task_index: int = 0) -> ss.Client:
    """Connects by one transport and no other, to a cluster or to that of ``TF_CONFIG``, as one of its tasks.

    Raises:
        UnavailableError: The transport cannot be used; there is no falling back to another.
    """
    return ss.connect(spec, job_name, task_index, transport=_TRANSPORTS.get(transport, transport))


class Shardscope:
    """The contestant.

    Args:
        transport: One of ``TRANSPORTS``.
        scale: Size of the data.
        cluster: "ps=host:port,..." of a cluster that runs; without it, one with a single ps is started.
    """

    def __init__(self, transport: str, scale: Scale, cluster: str | None = None):
        self.name = transport
        self.versions: Mapping[str, str] = {"numpy": np.__version__}
        self._scale = scale
        self._shared_memory = transport == "shm"
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            if cluster is None:
                spec = stack.enter_context(LocalCluster(num_ps=1)).cluster_spec
            else:
                spec = ss.ClusterSpec.parse(cluster)
            # Several processes may work on one cluster, each of which is a task of its own.
            self._client = stack.enter_context(connect(spec, transport, job_name="contestant", task_index=os.getpid()))
            self._declare()
            self._stack = stack.pop_all()

    def _declare(self) -> None:
        zeros, scale = ss.zeros_initializer(), self._scale
        self._scalar = ss.get_variable("scalar", [], initializer=zeros)
        self._vector = ss.get_variable("vector", [scale.elements], initializer=zeros)
        self._table = ss.get_variable("table", [scale.rows, scale.width], initializer=zeros)
        self._layers = [ss.get_variable(f"layer{i}", [scale.layer], initializer=zeros) for i in range(scale.layers)]

    def cases(self) -> Mapping[str, Mapping[str, Call]]:
        client, scalar, vector, table, layers = self._client, self._scalar, self._vector, self._table, self._layers
        delta, row_deltas, layer_deltas = ones(self._scale)
        uniform, zipf = self._scale.uniform_indices(), self._scale.zipf_indices()
        value, rows = np.zeros_like(delta), np.zeros_like(row_deltas)
        values = [np.zeros_like(each) for each in layer_deltas]
        copied = "copied" if self._shared_memory else ""  # as opposed to a view, or to values computed in place
        pairs = list(zip(layers, layer_deltas, strict=True))
        cases: dict[str, dict[str, Call]] = {
            "add": {"": lambda: scalar.assign_add(1.0)},
            "read": {"": scalar.read_value},
            "pull": {copied: lambda: vector.read_value(out=value), "fresh": vector.read_value},
            "push": {copied: lambda: vector.assign_add(delta)},
            "gather": {"": lambda: table.gather(uniform, out=rows)},
            "scatter": {"": lambda: table.scatter_add(uniform, row_deltas)},
            "scatter_zipf": {"": lambda: table.scatter_add(zipf, row_deltas)},
            "pull161": {copied: lambda: client.read_all(layers, out=values), "fresh": lambda: client.read_all(layers)},
            "push161": {copied: lambda: client.assign_add_all(pairs)},
        }
        if self._shared_memory:
            buffer, *buffers = client.push_buffers([vector, *layers])
            for each in (buffer, *buffers):
                each.fill(1)
            in_place = list(zip(layers, buffers, strict=True))
            cases["pull"] = {"view": lambda: vector.read_value(copy=False), **cases["pull"]}
            cases["push"] = {"in place": lambda: vector.assign_add(buffer), **cases["push"]}
            cases["pull161"] = {"view": lambda: client.read_all(layers, copy=False), **cases["pull161"]}
            cases["push161"] = {"in place": lambda: client.assign_add_all(in_place), **cases["push161"]}
        return cases

    def observed(self) -> Mapping[str, float]:
        rows: Any = self._table.gather(self._scale.uniform_indices())
        return observed_state(
            self._scalar.read_value(), self._vector.read_value(), rows, self._client.read_all(self._layers)
        )

    def close(self) -> None:
        self._stack.close()


def main() -> None:
    """Serves requests on standard input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    scale_argument(parser)
    parser.add_argument("--transport", choices=TRANSPORTS, required=True, help="how bytes move")
    parser.add_argument("--cluster", metavar="SPEC", help="a cluster that runs, instead of one with a ps of its own")
    arguments = parser.parse_args()
    scale = SCALES[arguments.scale]

    def make() -> Contestant:
        return Shardscope(arguments.transport, scale, arguments.cluster)

    serve(make, scale)


if __name__ == "__main__":
    main()
