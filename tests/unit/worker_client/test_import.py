"""What ``import worker_client`` takes: not what is needed only when a cluster is connected to."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["grpc", "google.protobuf", "ps_server"])
def test_what_takes_long_is_imported_when_it_is_needed(package: str) -> None:
    code = f"import sys, worker_client; print({package!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"
