"""The pages of freed chunks are used again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

ROUNDS = 50
PAGES_PER_ROUND = 3 * 256
PROGRAM = f"""
import resource, sys
from ps_protocol.memory.allocator import keep_freed_chunks

def work():
    for _ in range({ROUNDS}):
        chunks = [b"x" * 2**20 for _ in range(3)]
        del chunks

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if sys.argv[1] == "keep":
    keep_freed_chunks()
work()
before = faults()
work()
print(faults() - before)
"""


def faults(how: str) -> int:
    # In a process of its own: the allocator of this one has seen much already.
    command = [sys.executable, "-c", PROGRAM, how]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=50).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that adapts")
def test_chunks_cost_no_page_faults_once_they_are_kept() -> None:
    assert faults("keep") < ROUNDS * PAGES_PER_ROUND // 10 < faults("do not keep")
