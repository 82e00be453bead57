"""Where the time of a small operation goes: ``python -m benchmarks.small_operations [--socket-version 2]``.

The steps of an addition to a scalar, and of reading it, each alone, in one thread that waits for no other:

- *worker*: from the call on the variable to the transport, and back;
- *client connection*: the batch encoded, sent, and a reply that is there already received and decoded;
- *ps connection*: a request that is there already received and decoded, carried out, the reply encoded and sent;
- *core*: the part of that which carries it out, with the ledger.

Beside them what a bare exchange of 64 bytes between two processes costs, which is mostly being woken up. The steps take
turns; printed are medians over the rounds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import numpy as np

import worker_client as ss
from ps_cluster import LocalCluster
from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.codec.fast.reply_bytes import encode_answer
from ps_protocol.codec.fast.request_bytes import encode_request
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import Batch, BatchReply, Declare, PsOperation, Read, Update, UpdateRule, VariableSpec
from ps_protocol.sockets.frames import SOCKET_PROTOCOL_VERSION, FrameKind
from ps_protocol.sockets.framing import Framing
from ps_protocol.sockets.stream import SCRATCH_BYTES
from ps_server.core.parameter_server import ParameterServer
from ps_server.memory.buffer_pool import BufferPool
from ps_server.memory.byte_budget import ByteBudget
from ps_server.transport.sockets import session as ps_side
from ps_server.transport.sockets.slow_peers import PeerStream, SlowPeers
from ps_server.transport.sockets.threads import ServingThreads
from worker_client.transport.sockets import connection as client_side

CALLS: Final = 500
_TIMEOUT_S: Final = 30.0
_TIMEOUT_MS: Final = 500
_CLIENT: Final = UUID(int=1)
_PING_BYTES: Final = 64
NAME: Final = "scalar"

Step = Callable[[int], float]
"""Does a step so often; returns the seconds that all took."""


class Ps:
    """A core with a scalar, and a connection to it whose other end is ours.

    Args:
        version: Of the socket protocol.
    """

    def __init__(self, version: int = SOCKET_PROTOCOL_VERSION) -> None:
        self.version = version
        self.core = ParameterServer(cluster_spec=ClusterSpec({"ps": ["localhost:1"]}), task_index=0)
        self.core.hello(_CLIENT, "worker:0", timeout_s=_TIMEOUT_S)
        self.sequence = 0
        declare = Declare(VariableSpec(NAME, np.dtype(np.float32), ()), InitializerSpec(ConstantKind(0.0)))
        self.run(declare)
        near, self.far = socket.socketpair()
        stream = PeerStream(near, SlowPeers(ServingThreads(1, "socket")), "here")
        self.connection = ps_side.SocketSession(
            stream, client=_CLIENT, core=self.core, staging=ByteBudget(), buffers=BufferPool(0)
        )
        self.connection.stream.lend_scratch(memoryview(bytearray(SCRATCH_BYTES)))
        self.connection.stream.framing = Framing(self.version)
        self.framing = Framing(self.version)

    def batch(self, operation: PsOperation) -> Batch:
        """Returns the next batch with that operation alone."""
        mutates = not isinstance(operation, Read)
        self.sequence += mutates
        return Batch(_CLIENT, self.core.store_incarnation, self.sequence if mutates else 0, (operation,))

    def run(self, operation: PsOperation) -> BatchReply:
        return self.core.exchange(self.batch(operation), timeout_s=_TIMEOUT_S, lend_values=True)

    def core_step(self, operation: PsOperation) -> Step:
        def step(calls: int) -> float:
            batches = [self.batch(operation) for _ in range(calls)]
            began_s = time.perf_counter()
            for batch in batches:
                self.core.exchange(batch, timeout_s=_TIMEOUT_S, lend_values=True)
            return time.perf_counter() - began_s

        return step

    def connection_step(self, operation: PsOperation) -> Step:
        stream = self.connection.stream

        def step(calls: int) -> float:
            taken_s = 0.0
            for _ in range(calls):
                header, buffers = encode_request(self.batch(operation), names_client=False)
                data = b"".join(buffers)
                prefix = self.framing.prefix(FrameKind.REQUEST, header, buffer_bytes=len(data), timeout_ms=30_000)
                self.far.sendall(prefix + header + data)
                began_s = time.perf_counter()
                stream.set_receive_timeout(_TIMEOUT_MS)
                stream.fill()
                self.connection.serve_frame()
                taken_s += time.perf_counter() - began_s
                self.far.recv(SCRATCH_BYTES)
            return taken_s

        return step


def client_step(ps: Ps, operation: PsOperation) -> Step:
    """Returns the step of the client's connection: the replies are there before they are waited for."""
    near, far = socket.socketpair()
    connection = client_side.SocketConnection(near, _CLIENT, task="ps:0", address="here", version=ps.version)
    framing = Framing(ps.version)

    def step(calls: int) -> float:
        reply = ps.run(operation)
        header, buffers = encode_answer(reply, [operation])
        data = b"".join(buffers)
        taken_s = 0.0
        for _ in range(calls):
            batch = ps.batch(operation)
            far.sendall(framing.prefix(FrameKind.REPLY, header, buffer_bytes=len(data)) + header + data)
            began_s = time.perf_counter()
            connection.exchange(batch, _TIMEOUT_S)
            taken_s += time.perf_counter() - began_s
            far.recv(SCRATCH_BYTES)
        return taken_s

    return step


def worker_step(call: Callable[[], Any], transport: Any, reply: BatchReply) -> Step:
    """Returns the step of the layers above the transport, which is replaced by one that knows the answer."""

    def step(calls: int) -> float:
        transport.exchange = lambda _batch, *, timeout_s: reply  # noqa: ARG005 - the signature is the transport's
        try:
            began_s = time.perf_counter()
            for _ in range(calls):
                call()
            return time.perf_counter() - began_s
        finally:
            del transport.exchange

    return step


def answer_pings(sock: socket.socket) -> None:
    """Sends back what comes, until nothing does."""
    while data := sock.recv(_PING_BYTES):
        sock.sendall(data)


@contextmanager
def ping_step() -> Iterator[Step]:
    """Gives the step of a bare exchange with another process."""
    near, far = socket.socketpair()
    process = multiprocessing.get_context("fork").Process(target=answer_pings, args=(far,), daemon=True)
    process.start()
    far.close()

    def step(calls: int) -> float:
        began_s = time.perf_counter()
        for _ in range(calls):
            near.sendall(bytes(_PING_BYTES))
            near.recv(_PING_BYTES)
        return time.perf_counter() - began_s

    yield step
    near.shutdown(socket.SHUT_RDWR)
    process.join(_TIMEOUT_S)
    near.close()


def main() -> None:
    """Measures in turns and prints a line for each step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--socket-version", type=int, default=SOCKET_PROTOCOL_VERSION)
    arguments = parser.parse_args()
    rounds = arguments.rounds
    with ping_step() as ping:  # first: the process is forked before there are threads
        ps = Ps(arguments.socket_version)
        with LocalCluster(num_ps=1) as cluster, ss.connect(cluster.cluster_spec, transport="tcp") as client:
            variable = ss.get_variable(NAME, [], initializer=ss.zeros_initializer())
            transport = client.fanout.handle(0).endpoint.transport
            add = Update(NAME, UpdateRule.ASSIGN_ADD, np.ones((), np.float32))
            steps: dict[str, Step] = {}
            for name, operation, call in (
                ("add", add, lambda: variable.assign_add(1.0)),
                ("read", Read(NAME), variable.read_value),
            ):
                steps[f"{name}: worker"] = worker_step(call, transport, ps.run(operation))
                steps[f"{name}: client connection"] = client_step(ps, operation)
                steps[f"{name}: ps connection"] = ps.connection_step(operation)
                steps[f"{name}:   of which core"] = ps.core_step(operation)
            steps["bare exchange between processes"] = ping
            taken: dict[str, list[float]] = {step: [] for step in steps}
            for turn in range(rounds + 1):
                for name, step in steps.items():
                    each_s = step(CALLS) / CALLS
                    if turn:  # the first round only warms up
                        taken[name].append(each_s)
    for name, each in taken.items():
        print(f"{name}: median {1e6 * statistics.median(each):.1f} us, least {1e6 * min(each):.1f} us")


if __name__ == "__main__":
    main()
