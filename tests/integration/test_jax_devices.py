"""Parameters that JAX has on several devices, which a process has to ask for before it uses JAX."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


def test_pulled_parameters_are_where_the_given_ones_were() -> None:
    command = [sys.executable, "-m", "tests.integration.jax_devices_program"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
