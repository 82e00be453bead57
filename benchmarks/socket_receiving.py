"""How a ps should receive a large update: ``python -m benchmarks.socket_receiving [--rounds N]``.

Two processes and TCP, with nothing of Shardscope between them: one sends 100 MiB, the other one adds them to an array
and answers with a byte. Compared are receiving all of it before it is added (*staged*), adding each chunk while it is
in the processor's cache (*in chunks*), doing that into a second array that then takes the place of the first (*in
chunks beside*), and sizes of the socket's buffers, where the kernel may allow less. All take turns; printed are medians
over the rounds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import statistics
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

ELEMENTS: Final = 25 * 1024 * 1024
MIB: Final = 1024 * 1024
CHUNKS: Final = (256 * 1024, 512 * 1024, 2 * MIB)
BUFFERS: Final = (64 * 1024, 128 * 1024, 256 * 1024, 512 * 1024, MIB, 4 * MIB)
_TIMEOUT_S: Final = 60.0

Array = npt.NDArray[Any]
Receive = Callable[[socket.socket, "Memory"], None]


class Memory:
    """What the receiving process works with, all of it touched before."""

    def __init__(self) -> None:
        self.value = np.zeros(ELEMENTS, np.float32)
        self.spare = np.zeros(ELEMENTS, np.float32)
        self.staging = np.zeros(ELEMENTS, np.float32)
        self.chunk = np.zeros(max(CHUNKS) // 4, np.float32)


class Way(NamedTuple):
    """One way to do it.

    Attributes:
        name: For the table.
        buffer_bytes: Of the socket on both sides; 0 leaves them to the kernel.
        receive: What the receiver does with the bytes.
    """

    name: str
    buffer_bytes: int
    receive: Receive


def staged(sock: socket.socket, memory: Memory) -> None:
    """Receives all, then adds it."""
    _fill(sock, memory.staging)
    memory.value += memory.staging


def in_chunks(chunk_bytes: int) -> Receive:
    """Returns a way that adds each chunk as it comes: an end of the connection would leave half an update."""

    def receive(sock: socket.socket, memory: Memory) -> None:
        step = chunk_bytes // 4
        for start in range(0, ELEMENTS, step):
            chunk = memory.chunk[: min(step, ELEMENTS - start)]
            _fill(sock, chunk)
            memory.value[start : start + chunk.size] += chunk

    return receive


def in_chunks_beside(chunk_bytes: int) -> Receive:
    """Returns a way that adds each chunk into a second array, in vain if the first one changes meanwhile."""

    def receive(sock: socket.socket, memory: Memory) -> None:
        step = chunk_bytes // 4
        for start in range(0, ELEMENTS, step):
            chunk = memory.chunk[: min(step, ELEMENTS - start)]
            _fill(sock, chunk)
            place = slice(start, start + chunk.size)
            np.add(memory.value[place], chunk, out=memory.spare[place])
        memory.value, memory.spare = memory.spare, memory.value

    return receive


WAYS: Final = [
    Way("staged", 0, staged),
    *(Way(f"in chunks of {chunk // 1024} KiB", 0, in_chunks(chunk)) for chunk in CHUNKS),
    *(Way(f"in chunks of {chunk // 1024} KiB beside", 0, in_chunks_beside(chunk)) for chunk in CHUNKS),
    *(Way(f"staged, socket buffers of {size // 1024} KiB", size, staged) for size in BUFFERS),
    Way("in chunks of 256 KiB, socket buffers of 256 KiB", 256 * 1024, in_chunks(256 * 1024)),
    Way("in chunks of 256 KiB beside, socket buffers of 256 KiB", 256 * 1024, in_chunks_beside(256 * 1024)),
]


def _fill(sock: socket.socket, array: Array) -> None:
    view = array.data.cast("B")
    while view:
        count = sock.recv_into(view, 0, socket.MSG_WAITALL)
        if not count:
            raise ConnectionError("the sender has gone")
        view = view[count:]


def _tune(sock: socket.socket, buffer_bytes: int) -> None:
    sock.settimeout(None)
    if buffer_bytes:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, buffer_bytes)


def receiver(port: int) -> None:
    """Connects once for each way, then does what the number of the way, a byte, says."""
    socks = []
    for way in WAYS:
        sock = socket.create_connection(("127.0.0.1", port), _TIMEOUT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _tune(sock, way.buffer_bytes)
        socks.append(sock)
    memory = Memory()
    while which := socks[0].recv(1):
        number = which[0] - 1
        WAYS[number].receive(socks[number], memory)
        socks[0].sendall(b"+")


def main() -> None:
    """Measures in turns and prints a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = multiprocessing.get_context("spawn").Process(target=receiver, args=(listener.getsockname()[1],))
        process.start()
        listener.settimeout(_TIMEOUT_S)
        socks = [listener.accept()[0] for _ in WAYS]
    for sock, way in zip(socks, WAYS, strict=True):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _tune(sock, way.buffer_bytes)
    delta = np.ones(ELEMENTS, np.float32)
    taken: list[list[float]] = [[] for _ in WAYS]
    for turn in range(rounds + 1):
        for number in range(len(WAYS)):
            started_s = time.perf_counter()
            socks[0].sendall(bytes([number + 1]))
            socks[number].sendall(delta.data.cast("B"))
            if socks[0].recv(1) != b"+":
                raise ConnectionError("the receiver has gone")
            if turn:  # the first round only warms up
                taken[number].append(time.perf_counter() - started_s)
    for sock in socks:
        sock.close()
    process.join(_TIMEOUT_S)
    for way, each in zip(WAYS, taken, strict=True):
        print(f"{way.name}: median {1e3 * statistics.median(each):.1f} ms, least {1e3 * min(each):.1f} ms")


if __name__ == "__main__":
    main()
