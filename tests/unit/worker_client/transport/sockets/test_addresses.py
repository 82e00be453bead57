"""Connecting to where a ps can be reached."""

from __future__ import annotations

import contextlib
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from ps_protocol.service_types import FastPath, FastPathKind
from worker_client.transport.sockets.addresses import connect

TIMEOUT_S = 20.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="abstract Unix sockets are Linux's")


def test_a_unix_socket_at_which_many_wait_is_waited_for() -> None:
    name = f"shardscope-test-{uuid4()}"
    path = FastPath(FastPathKind.UNIX, name)
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(1) as threads:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listener.bind(f"\0{name}")
        listener.listen(0)
        stack.enter_context(connect(path, "", TIMEOUT_S))  # all that it lets wait
        with pytest.raises(BlockingIOError):
            connect(path, "", 0.01)
        late = threads.submit(connect, path, "", TIMEOUT_S)
        for _ in range(2):
            stack.enter_context(listener.accept()[0])
        stack.enter_context(late.result(TIMEOUT_S))
