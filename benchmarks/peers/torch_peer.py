"""torch's RPC as a contestant: one process holds the tensors, this one calls it. Needs torch and numpy.

Two processes on one host share memory unless told otherwise; ``--tcp`` keeps to TCP, as between two machines.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.distributed import rpc

from benchmarks.harness.line_protocol import Call, end_with_parent, scale_argument, serve
from benchmarks.harness.workloads import SCALES, Scale, observed_state, ones
from benchmarks.peers import torch_holder

_HOLDER, _CALLER = "ps", "worker"
_TIMEOUT_S = 120.0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _join(name: str, rank: int, port: int, *, tcp: bool) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    only_tcp: dict[str, Any] = {"_transports": ["uv"], "_channels": ["basic"]} if tcp else {}
    options = rpc.TensorPipeRpcBackendOptions(rpc_timeout=_TIMEOUT_S, **only_tcp)
    rpc.init_rpc(name, rank=rank, world_size=2, rpc_backend_options=options)


class TorchContestant:
    """The contestant."""

    def __init__(self, scale: Scale, *, tcp: bool):
        self.name = "torch" if tcp else "torch_shm"
        self.versions: Mapping[str, str] = {"torch": torch.__version__, "numpy": np.__version__}
        self._scale = scale
        port = _free_port()
        holder = [sys.executable, "-m", "benchmarks.peers.torch_peer", "--hold", str(port)]
        self._process = subprocess.Popen([*holder, *(["--tcp"] if tcp else [])], stdin=subprocess.PIPE)
        _join(_CALLER, 0, port, tcp=tcp)
        self._call(torch_holder.create, scale.elements, scale.rows, scale.width, scale.layers, scale.layer)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return rpc.rpc_sync(_HOLDER, function, arguments)

    def cases(self) -> Mapping[str, Mapping[str, Call]]:
        one = torch.ones(())
        delta, row_deltas, layer_deltas = ones(self._scale)
        vector_delta, row_delta = torch.from_numpy(delta), torch.from_numpy(row_deltas)
        layers = [torch.from_numpy(each) for each in layer_deltas]
        uniform = torch.from_numpy(self._scale.uniform_indices())
        zipf = torch.from_numpy(self._scale.zipf_indices())

        def bound(function: Callable[..., Any], *arguments: Any) -> dict[str, Call]:
            return {"": lambda: self._call(function, *arguments)}

        return {
            "add": bound(torch_holder.add, "scalar", one),
            "read": bound(torch_holder.read, "scalar"),
            "pull": bound(torch_holder.read, "vector"),
            "push": bound(torch_holder.add, "vector", vector_delta),
            "gather": bound(torch_holder.gather, uniform),
            "scatter": bound(torch_holder.scatter, uniform, row_delta),
            "scatter_zipf": bound(torch_holder.scatter, zipf, row_delta),
            "pull161": bound(torch_holder.read, "layers"),
            "push161": bound(torch_holder.add_to_layers, layers),
        }

    def observed(self) -> Mapping[str, float]:
        rows = self._call(torch_holder.gather, torch.from_numpy(self._scale.uniform_indices()))
        scalar, vector, layers = (self._call(torch_holder.read, name) for name in ("scalar", "vector", "layers"))
        return observed_state(scalar, vector, rows, layers)

    def close(self) -> None:
        rpc.shutdown()
        self._process.wait(_TIMEOUT_S)


def main() -> None:
    """Serves requests on standard input, or holds the tensors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    scale_argument(parser)
    parser.add_argument("--tcp", action="store_true", help="do not share memory")
    parser.add_argument("--hold", type=int, metavar="PORT", help="be the process that holds the tensors")
    arguments = parser.parse_args()
    if arguments.hold is not None:
        end_with_parent()
        _join(_HOLDER, 1, arguments.hold, tcp=arguments.tcp)
        rpc.shutdown()
        return
    scale = SCALES[arguments.scale]
    serve(lambda: TorchContestant(scale, tcp=arguments.tcp), scale)


if __name__ == "__main__":
    main()
