"""A ps process with nothing but the socket listener, in any settings, for measurements of the transport alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

import numpy as np

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.initializer_spec import Constant, InitializerSpec
from ps_protocol.operations import Batch, Declare, Read, VariableSpec
from ps_protocol.service_types import FastPath, FastPathKind
from ps_server.byte_budget import ByteBudget
from ps_server.parameter_server import ParameterServer
from ps_server.transport.buffer_pool import BufferPool
from ps_server.transport.socket_listener import SocketListener, SocketSettings
from worker_client.transport.socket_addresses import connect
from worker_client.transport.socket_connection import SocketConnection

TIMEOUT_S: Final = 30.0
CLIENT: Final = UUID(int=1)
SCALAR: Final = "scalar"


def serve(settings: SocketSettings) -> None:
    """Runs it, with one scalar; answers each line of standard input with a ``Door``."""
    core = ParameterServer(cluster_spec=ClusterSpec({"ps": ["localhost:1"]}), task_index=0)
    listener = SocketListener(core, settings, staging=ByteBudget(), buffers=BufferPool(0))
    welcome = core.hello(CLIENT, "worker:0", timeout_s=TIMEOUT_S)
    declare = Declare(VariableSpec(SCALAR, np.dtype(np.float32), ()), InitializerSpec(Constant(0.0)))
    core.exchange(Batch(CLIENT, welcome.store, 1, (declare,)), timeout_s=TIMEOUT_S)
    listener.start()
    for _ in sys.stdin:
        offer = listener.welcome(welcome, CLIENT)
        (tcp,) = [path.address for path in offer.fast_paths if path.kind is FastPathKind.TCP]
        print(tcp, offer.ticket.hex(), offer.store, flush=True)
    listener.stop(0.0)


class Door(NamedTuple):
    """Where one connection may be opened, by any process.

    Attributes:
        address: TCP, as offered.
        ticket: To be shown, in hexadecimal digits.
        store: Incarnation of the store.
    """

    address: str
    ticket: str
    store: str

    def connection(self, *, looks_first: bool = True) -> tuple[SocketConnection, Batch]:
        """Opens it; returns it with a batch that reads the scalar; ``looks_first`` as of ``SocketConnection``."""
        sock = connect(FastPath(FastPathKind.TCP, self.address), "127.0.0.1", TIMEOUT_S)
        connection = SocketConnection(sock, CLIENT, task="ps:0", address=self.address, looks_first=looks_first)
        connection.shake_hands(bytes.fromhex(self.ticket), TIMEOUT_S)
        return connection, Batch(CLIENT, UUID(self.store), 0, (Read(SCALAR),))


class BarePs:
    """Such a process, which a command has to make call ``serve``.

    Args:
        arguments: Of the Python interpreter.
    """

    def __init__(self, arguments: Sequence[str]):
        self._process = subprocess.Popen(
            [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def door(self) -> Door:
        """Returns where one more connection may be opened."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Door(*self._process.stdout.readline().split())

    def close(self) -> None:
        self._process.communicate(timeout=TIMEOUT_S)
