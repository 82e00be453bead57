"""Clients that connect, work and are killed in the middle of it: each one a process of its own, forked from this one.

``python -m tests.chaos.dying_clients ADDRESS NUMBER`` imports everything once and forks before there is any channel or
thread, so that a client costs a tenth of a process started anew.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from typing import Final, NoReturn

import numpy as np

import worker_client as ss

AT_ONCE: Final = 8
ACKNOWLEDGED: Final = "acknowledged"
LARGE: Final = "large"
SCRATCH: Final = "scratch"
LARGE_SHAPE: Final = (100_000,)  # float32: enough to go through shared memory
TRANSPORTS: Final = ("auto", "grpc", "tcp", "unix")
_ROUND_TIMEOUT_S: Final = 60
_READY: Final = b"w"


def work_until_killed(address: str, number: int, ready: int) -> NoReturn:
    """Adds one to each of two variables, says so, and pushes and reads without end."""
    client = ss.connect({"ps": [address]}, "visitor", number, transport=TRANSPORTS[number % len(TRANSPORTS)])
    with client.as_default():
        zeros = ss.zeros_initializer()
        acknowledged = ss.get_variable(ACKNOWLEDGED, [], dtype="int64", initializer=zeros)
        large = ss.get_variable(LARGE, LARGE_SHAPE, dtype="float32", initializer=zeros)
        scratch = ss.get_variable(SCRATCH, LARGE_SHAPE, dtype="float32", initializer=zeros)
    ones = np.ones(LARGE_SHAPE, np.float32)
    large.assign_add(ones)
    acknowledged.assign_add(1)
    views = [large.read_value(copy=False)]
    os.write(ready, _READY)
    while True:
        scratch.assign_add(ones, wait=False)
        views = [*views[-2:], scratch.read_value(copy=False)]


def round_of_clients(address: str, numbers: range) -> None:
    """Starts clients, kills each as soon as it is at work, and waits for their ends."""
    clients = []
    for number in numbers:
        readable, writable = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                os.close(readable)
                work_until_killed(address, number, writable)
            finally:
                os._exit(1)
        os.close(writable)
        clients.append((pid, readable))
    for pid, readable in clients:
        is_at_work = os.read(readable, 1) == _READY
        os.close(readable)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if not (is_at_work and os.WIFSIGNALED(status)):
            raise RuntimeError(f"a client has ended by itself: status {status}")


def main(address: str, number: int) -> None:
    """Runs all rounds; ends by SIGALRM if one takes too long."""
    warnings.simplefilter("error")
    if threading.active_count() > 1:
        raise RuntimeError(f"there are threads, so that it is not safe to fork: {threading.enumerate()}")
    for first in range(0, number, AT_ONCE):
        signal.alarm(_ROUND_TIMEOUT_S)
        round_of_clients(address, range(first, min(first + AT_ONCE, number)))
    sys.stdout.write(f"{number} clients were killed\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
