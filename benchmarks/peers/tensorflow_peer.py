"""TensorFlow's parameter server as a contestant: graph mode over gRPC, one ps process. Needs tensorflow and numpy."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads both when it is imported
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import tensorflow as tf

from benchmarks.harness.line_protocol import Call, end_with_parent, scale_argument, serve
from benchmarks.harness.workloads import SCALES, Scale, observed_state, ones

_TIMEOUT_S = 30.0

v1: Any = tf.compat.v1


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def _server(spec: Mapping[str, list[str]], job: str) -> Any:
    return tf.distribute.Server(v1.train.ClusterSpec(spec), job_name=job, task_index=0)


class TensorFlowContestant:
    """The contestant."""

    name = "tensorflow"

    def __init__(self, scale: Scale):
        self.versions: Mapping[str, str] = {"tensorflow": tf.__version__, "numpy": np.__version__}
        self._scale = scale
        v1.disable_eager_execution()
        spec = {job: [f"127.0.0.1:{port}"] for job, port in zip(("ps", "worker"), _free_ports(2), strict=True)}
        command = [sys.executable, "-m", "benchmarks.peers.tensorflow_peer", "--hold", json.dumps(spec)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)
        self._worker = _server(spec, "worker")
        self._build(spec)
        self._session = v1.Session(self._worker.target)
        self._session.run(self._initializers)

    def _build(self, spec: Mapping[str, list[str]]) -> None:
        """Names the variables on the ps, and on the worker what is added to them."""
        scale, zeros = self._scale, v1.zeros_initializer()
        with v1.device(v1.train.replica_device_setter(cluster=spec)):
            scalar = v1.get_variable("scalar", [], initializer=zeros)
            vector = v1.get_variable("vector", [scale.elements], initializer=zeros)
            table = v1.get_variable("table", [scale.rows, scale.width], initializer=zeros)
            layers = [v1.get_variable(f"layer{i}", [scale.layer], initializer=zeros) for i in range(scale.layers)]
            with v1.device("/job:worker/task:0/cpu:0"):
                delta = v1.Variable(tf.ones([scale.elements]), collections=["local"])
                layer_delta = v1.Variable(tf.ones([scale.layer]), collections=["local"])
            self._indices = v1.placeholder(tf.int64, [None])
            self._rows = v1.placeholder(tf.float32, [None, scale.width])
            self._add, self._scalar = scalar.assign_add(1.0).op, scalar
            self._push, self._vector = v1.assign_add(vector, delta).op, vector
            self._gather = tf.gather(table, self._indices)
            self._scatter = v1.scatter_add(table, self._indices, self._rows).op
            self._pull_layers = [tf.identity(layer) for layer in layers]
            self._push_layers = tf.group(*[v1.assign_add(layer, layer_delta).op for layer in layers])
        self._initializers = [each.initializer for each in (scalar, vector, table, *layers, delta, layer_delta)]

    def cases(self) -> Mapping[str, Mapping[str, Call]]:
        _, row_deltas, _ = ones(self._scale)
        uniform = {self._indices: self._scale.uniform_indices()}
        zipf = {self._indices: self._scale.zipf_indices(), self._rows: row_deltas}

        def bound(fetch: Any, feed: Mapping[Any, Any] | None = None) -> dict[str, Call]:
            return {"": lambda: self._session.run(fetch, feed)}

        return {
            "add": bound(self._add),
            "read": bound(self._scalar),
            "pull": bound(self._vector),
            "push": bound(self._push),
            "gather": bound(self._gather, uniform),
            "scatter": bound(self._scatter, {**uniform, self._rows: row_deltas}),
            "scatter_zipf": bound(self._scatter, zipf),
            "pull161": bound(self._pull_layers),
            "push161": bound(self._push_layers),
        }

    def observed(self) -> Mapping[str, float]:
        run = self._session.run
        rows = run(self._gather, {self._indices: self._scale.uniform_indices()})
        return observed_state(run(self._scalar), run(self._vector), rows, run(self._pull_layers))

    def close(self) -> None:
        self._session.close()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(_TIMEOUT_S)


def main() -> None:
    """Serves requests on standard input, or holds the variables."""
    parser = argparse.ArgumentParser(description=__doc__)
    scale_argument(parser)
    parser.add_argument("--hold", metavar="SPEC", help="be the ps of this cluster, given as JSON")
    arguments = parser.parse_args()
    if arguments.hold is not None:
        end_with_parent()
        _server(json.loads(arguments.hold), "ps").join()
        return
    scale = SCALES[arguments.scale]
    serve(lambda: TensorFlowContestant(scale), scale)


if __name__ == "__main__":
    main()
