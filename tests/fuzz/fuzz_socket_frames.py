"""Coverage-guided fuzzing of what a ps reads from a socket: ``make fuzz``.

Each input is sent to a live connection in the place of the frames that a client sends, or of its handshake. The ps may
refuse it and may end the connection; it must not raise, take memory for what was only announced, keep room or change
the variable. Needs atheris (the extra ``fuzz``).
"""

from __future__ import annotations

import logging
import sys
from uuid import UUID

import atheris

with atheris.instrument_imports(include=["ps_protocol", "ps_server"]):
    import contextlib
    import socket

    import numpy as np

    from ps_protocol.cluster_spec import ClusterSpec
    from ps_protocol.codec import message_codec
    from ps_protocol.errors import InvalidArgumentError
    from ps_protocol.initializer_spec import ConstantKind, InitializerSpec, ValueKind
    from ps_protocol.operations import (
        Batch,
        Declare,
        Gather,
        PsOperation,
        Read,
        Scatter,
        ScatterRule,
        Update,
        UpdateRule,
        VariableSpec,
        WireDType,
    )
    from ps_protocol.sockets.frames import FrameKind, Verdict, encode_prefix, parse_answer, parse_hello, parse_prefix
    from ps_protocol.sockets.stream import SCRATCH_BYTES
    from ps_server.core.parameter_server import ParameterServer
    from ps_server.core.state import MemoryState
    from ps_server.log.state_parts import StateParts
    from ps_server.memory.buffer_pool import BufferPool
    from ps_server.memory.byte_budget import ByteBudget
    from ps_server.transport.sockets.newcomers import Newcomers
    from ps_server.transport.sockets.session import SocketSession
    from ps_server.transport.sockets.slow_peers import PeerStream, SlowPeers
    from ps_server.transport.sockets.threads import ServingThreads
    from ps_server.transport.sockets.tickets import TicketOffice

_OPERATIONS: tuple[PsOperation, ...] = (
    Read("w"),
    Gather("w", np.array([1, 2, 3])),
    Update("w", UpdateRule.ASSIGN_ADD, np.zeros(4, np.float32)),
    Update("w", UpdateRule.ASSIGN_ADD, np.zeros(4, np.float32), WireDType.INT8),
    Update("w", UpdateRule.ASSIGN, np.zeros(20_000, np.float32)),
    Scatter("w", ScatterRule.ADD, np.array([0, 0]), np.zeros(2, np.float32)),
    Declare(VariableSpec("v", np.dtype(np.float64), (2, 3)), InitializerSpec(ValueKind(np.zeros((2, 3))))),
)
_CLIENT = UUID(int=1)
_STAGING_LIMIT_BYTES = 1024**2
_TIMEOUT_S = 5.0


class Target:
    """A ps without a listener; each input gets a connection of its own."""

    def __init__(self) -> None:
        cluster_spec = ClusterSpec({"ps": ["localhost:1"]})
        state = MemoryState(StateParts(cluster_spec, 0, memory_limit_bytes=_STAGING_LIMIT_BYTES))
        self.core = ParameterServer(cluster_spec=cluster_spec, task_index=0, state=state)
        self.core.hello(_CLIENT, "worker:0", timeout_s=_TIMEOUT_S)
        declare = Declare(VariableSpec("w", np.dtype(np.float32), (4,)), InitializerSpec(ConstantKind(1.0)))
        self.core.exchange(Batch(_CLIENT, self.core.store_incarnation, 1, (declare,)), timeout_s=_TIMEOUT_S)
        self.staging = ByteBudget(_STAGING_LIMIT_BYTES)
        self.buffers = BufferPool(_STAGING_LIMIT_BYTES)
        self.tickets = TicketOffice()
        self.slow_peers = SlowPeers(ServingThreads(1, "socket"), stall_timeout_s=_TIMEOUT_S)
        self.scratch = memoryview(bytearray(SCRATCH_BYTES))
        self.sound_frames = [self.frame(each) for each in _OPERATIONS]

    def frame(self, operation: PsOperation) -> bytes:
        batch = Batch(
            _CLIENT, self.core.store_incarnation, 0 if isinstance(operation, Read | Gather) else 2, (operation,)
        )
        message, buffers = message_codec.encode_batch(batch)
        header, tensors = message.SerializeToString(), b"".join(buffers)
        prefix = encode_prefix(FrameKind.REQUEST, header_bytes=len(header), buffer_bytes=len(tensors), timeout_ms=1000)
        return prefix + header + tensors

    def __call__(self, data: bytes) -> None:
        provider = atheris.FuzzedDataProvider(data)
        how = provider.ConsumeIntInRange(0, 4)
        if how == 4:
            self.serve(self.tampered(provider))
            return
        rest = provider.ConsumeBytes(len(data))
        if how == 0:
            self.parse(rest)
        elif how == 1:
            self.handshake(rest)
        elif how == 2:
            self.serve(rest)
        else:
            # A sound prefix before a header that is none: so that the header is reached more often.
            self.serve(encode_prefix(FrameKind.REQUEST, header_bytes=len(rest), timeout_ms=1000) + rest)

    def tampered(self, provider: atheris.FuzzedDataProvider) -> bytes:
        """A sound frame in which some bytes are others."""
        frame = bytearray(self.sound_frames[provider.ConsumeIntInRange(0, len(self.sound_frames) - 1)])
        for _ in range(provider.ConsumeIntInRange(0, 6)):
            frame[provider.ConsumeIntInRange(0, len(frame) - 1)] = provider.ConsumeIntInRange(0, 255)
        return bytes(frame + provider.ConsumeBytes(32))

    def parse(self, data: bytes) -> None:
        parse_hello(data)
        with contextlib.suppress(InvalidArgumentError):
            parse_answer(data)
        if len(data) >= 24:
            with contextlib.suppress(InvalidArgumentError):
                parse_prefix(data)

    def handshake(self, data: bytes) -> None:
        with self.connection(data) as ours, contextlib.suppress(OSError):
            newcomers = Newcomers(self.tickets)
            newcomers.add(ours)
            assert isinstance(newcomers.read(ours), Verdict | None)

    def serve(self, data: bytes) -> None:
        with self.connection(data) as ours:
            connection = SocketSession(
                PeerStream(ours, self.slow_peers, "the fuzzer"),
                client=_CLIENT,
                core=self.core,
                staging=self.staging,
                buffers=self.buffers,
            )
            assert not connection.serve(self.scratch, _TIMEOUT_S), "the end of the stream ends the connection"
        assert self.staging.used_bytes == 0
        read = Batch(_CLIENT, self.core.store_incarnation, 0, (Read("w"),))
        message_codec.encode_reply(self.core.exchange(read, timeout_s=_TIMEOUT_S))

    @contextlib.contextmanager
    def connection(self, data: bytes):  # type: ignore[no-untyped-def]  # an iterator of a socket
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(data[:SCRATCH_BYTES])  # what the kernel takes without anybody reading
            theirs.shutdown(socket.SHUT_WR)
            yield ours


def main() -> None:
    """Fuzzes until a limit given as an argument of libFuzzer, such as ``-max_total_time=60``."""
    logging.disable(logging.CRITICAL)
    atheris.Setup(sys.argv, Target())
    atheris.Fuzz()


if __name__ == "__main__":
    main()
