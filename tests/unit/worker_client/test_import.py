"""What ``import shardscope`` takes: not what is needed only by gradients, by optimizers, or by a connection."""

from __future__ import annotations

import subprocess
import sys

import pytest

LATER = (
    *("absl", "autograd", "google.protobuf", "grpc", "numba", "tensorboardX"),
    *(
        "ps_cluster",
        "ps_server",
        "worker_client.compat",
        "worker_client.optimizers",
        "worker_client.train",
        "worker_client.checkpoint",
        "worker_client.data",
    ),
)


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


@pytest.mark.parametrize("package", ["shardscope", "worker_client"])
def test_what_takes_long_is_imported_when_it_is_needed(package: str) -> None:
    assert _run(f"import sys, {package}; print([each for each in {LATER} if each in sys.modules])") == "[]\n"


def test_optimizers_are_imported_when_they_are_asked_for() -> None:
    assert _run("import shardscope as ss, sys; print(ss.train is sys.modules['worker_client.train'])") == "True\n"
