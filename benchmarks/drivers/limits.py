"""What the machine itself can do: bytes over TCP's loopback and nothing else, copies and additions in memory.

The other end of the TCP connection is a process of its own, as a ps is.
"""

from __future__ import annotations

import argparse
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping

import numpy as np

from benchmarks.harness.line_protocol import Call, end_with_parent, scale_argument, serve
from benchmarks.harness.workloads import FLOAT_BYTES, SCALES, Scale, ones

_PING_BYTES = 64
_REQUEST = struct.Struct("<cQ55x")  # what to do, how many bytes; as long as a ping
_PING, _SEND, _RECEIVE = b"p", b"s", b"r"
_TIMEOUT_S = 60.0
_SOCKET_BUFFER_BYTES = 4 << 20

assert _REQUEST.size == _PING_BYTES


def receive_all(connection: socket.socket, target: memoryview) -> None:
    """Fills ``target``.

    Raises:
        ConnectionError: The other end has closed the connection.
    """
    received = 0
    while received < len(target):
        count = connection.recv_into(target[received:], 0, socket.MSG_WAITALL)
        if count == 0:
            raise ConnectionError("the other end of the measured connection is gone")
        received += count


def _tune(connection: socket.socket) -> None:
    """Sets what makes a connection fast; the sizes count only from before it is made."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER_BYTES)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def far_end(port: int, largest: int) -> None:
    """Answers requests on a connection to ``port`` until it is closed."""
    end_with_parent()
    buffer = np.ones(max(largest, _PING_BYTES), np.uint8).data
    with socket.socket() as connection:
        _tune(connection)
        connection.connect(("127.0.0.1", port))  # without a timeout, which would cost a poll for each call from now on
        request = bytearray(_REQUEST.size)
        while True:
            try:
                receive_all(connection, memoryview(request))
            except ConnectionError:
                return
            kind, count = _REQUEST.unpack(request)
            if kind == _SEND:
                connection.sendall(buffer[:count])
            else:
                if kind == _RECEIVE:
                    receive_all(connection, buffer[:count])
                connection.sendall(buffer[:_PING_BYTES])


class Limits:
    """The bare building blocks."""

    name = "limit"

    def __init__(self, scale: Scale):
        self._scale = scale
        self.versions: Mapping[str, str] = {"numpy": np.__version__}
        batch_bytes = scale.batch_rows * (scale.width * FLOAT_BYTES + scale.uniform_indices().itemsize)
        largest = max(scale.vector_bytes, scale.model_bytes, batch_bytes)
        self._bytes = np.ones(largest, np.uint8).data
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(_TIMEOUT_S)
            _tune(listener)  # what it accepts inherits that
            command = [sys.executable, "-m", "benchmarks.drivers.limits", "--far-end", str(listener.getsockname()[1])]
            self._process = subprocess.Popen([*command, "--largest", str(largest)], stdin=subprocess.PIPE)
            self._connection, _ = listener.accept()
        self._connection.settimeout(None)  # the benchmark bounds a run
        self._ping_reply = memoryview(bytearray(_PING_BYTES))
        self._delta, self._row_deltas, _ = ones(scale)
        self._vector = np.zeros_like(self._delta)
        self._table = np.ones((scale.rows, scale.width), np.float32)
        self._rows = np.ones_like(self._row_deltas)

    def cases(self) -> Mapping[str, Mapping[str, Call]]:
        uniform, zipf = self._scale.uniform_indices(), self._scale.zipf_indices()
        vector, model = self._scale.vector_bytes, self._scale.model_bytes

        rows, indexed_rows = self._row_deltas.nbytes, self._row_deltas.nbytes + uniform.nbytes
        model_part = slice(0, self._scale.layers * self._scale.layer)

        def copy() -> None:
            np.copyto(self._vector, self._delta)

        def copy_model() -> None:
            np.copyto(self._vector[model_part], self._delta[model_part])

        def add() -> None:
            np.add(self._vector, self._delta, out=self._vector)

        return {
            "add": {"tcp": self._ping},
            "read": {"tcp": self._ping},
            "pull": {"tcp": lambda: self._pull(vector), "memcpy": copy},
            "push": {"tcp": lambda: self._push(vector), "memcpy": copy, "add in place": add},
            "gather": {
                "tcp": lambda: self._pull(rows),
                "take": lambda: np.take(self._table, uniform, axis=0, out=self._rows),
            },
            "scatter": {
                "tcp": lambda: self._push(indexed_rows),
                "add.at": lambda: np.add.at(self._table, uniform, self._row_deltas),
            },
            "scatter_zipf": {
                "tcp": lambda: self._push(indexed_rows),
                "add.at": lambda: np.add.at(self._table, zipf, self._row_deltas),
            },
            "pull161": {"tcp": lambda: self._pull(model), "memcpy": copy_model},
            "push161": {"tcp": lambda: self._push(model), "memcpy": copy_model},
        }

    def observed(self) -> Mapping[str, float]:
        return {}

    def close(self) -> None:
        self._connection.close()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(_TIMEOUT_S)

    def _ping(self) -> None:
        self._connection.sendall(_REQUEST.pack(_PING, 0))
        receive_all(self._connection, self._ping_reply)

    def _pull(self, count: int) -> None:
        self._connection.sendall(_REQUEST.pack(_SEND, count))
        receive_all(self._connection, self._bytes[:count])

    def _push(self, count: int) -> None:
        self._connection.sendall(_REQUEST.pack(_RECEIVE, count))
        self._connection.sendall(self._bytes[:count])
        receive_all(self._connection, self._ping_reply)


def main() -> None:
    """Runs either end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    scale_argument(parser)
    parser.add_argument("--far-end", type=int, metavar="PORT", help="be the other end of the connection")
    parser.add_argument("--largest", type=int, default=0, metavar="BYTES", help="the most that it is asked for")
    arguments = parser.parse_args()
    if arguments.far_end is not None:
        far_end(arguments.far_end, arguments.largest)
        return
    scale = SCALES[arguments.scale]
    serve(lambda: Limits(scale), scale)


if __name__ == "__main__":
    main()
