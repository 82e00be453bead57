"""Has the batches of one connection carried out, and encodes the answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeAlias
from uuid import UUID

from ps_protocol.codec.error_codec import encode_error
from ps_protocol.codec.fast.reply_bytes import encode_answer
from ps_protocol.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
    ShardscopeError,
)
from ps_protocol.fault_points import times_received
from ps_protocol.operations import Batch
from ps_protocol.sockets.frames import FrameKind, FramePrefix
from ps_protocol.sockets.stream import SCRATCH_BYTES
from ps_server.batches.defects import internal_error
from ps_server.core.parameter_server import ParameterServer
from ps_server.memory.staging import StagingRoom

UNSTAGED_BYTES: Final = SCRATCH_BYTES
"""Batches and replies up to here take no room: each thread has one at a time."""

EncodedReply: TypeAlias = tuple[FrameKind, bytes, list[memoryview]]
"""Kind of the frame, its header, and the tensors' bytes."""


class UnskippableError(InvalidArgumentError):
    """Header and prefix of a frame contradict each other, so the beginning of the next frame is not known."""


class BatchAnswers:
    """Answers the batches of one client. Thread-safe.

    Args:
        core: Carries them out.
        client: Incarnation of the client that has shown a ticket for the connection.
        is_wanted: Says whether it is still there.
    """

    def __init__(self, core: ParameterServer, client: UUID, is_wanted: Callable[[], bool]):
        self._core = core
        self._is_wanted = is_wanted
        self._client = client

    def reply(
        self,
        decode: Callable[[], Batch],
        prefix: FramePrefix,
        started_s: float,
        room: StagingRoom,
        *,
        take_operands: bool = False,
    ) -> EncodedReply:
        """Has a batch carried out; an error becomes the reply.

        Args:
            decode: Decodes the batch.
            prefix: Of its frame.
            started_s: When the frame began to come, on the monotonic clock.
            room: Gives room for the tensors of the reply.
            take_operands: Whether arrays in the batch may be kept as values.

        Raises:
            UnskippableError: Of ``decode``.
        """
        times = times_received("request.received")
        try:
            batch = decode()
            self._check_client(batch)
            reply_bytes = self._core.reply_size_bytes(batch.operations)
            if reply_bytes > UNSTAGED_BYTES:
                room.take(reply_bytes, "the reply's tensors")
            for _ in range(times):
                reply = self._core.exchange(
                    batch,
                    timeout_s=prefix.timeout_ms / 1000 - (time.monotonic() - started_s),
                    lend_values=True,
                    take_operands=take_operands,
                    is_wanted=self._is_wanted,
                )
            answer, buffers = encode_answer(reply, batch.operations)
        except UnskippableError:
            raise
        except Exception as error:  # noqa: BLE001 - nothing stands above that could answer the client
            return self.error(error)
        return FrameKind.REPLY, answer, buffers

    def error(self, error: Exception) -> EncodedReply:
        """Returns the answer to a batch that was not carried out."""
        if isinstance(error, MemoryError):
            answer: ShardscopeError = ResourceExhaustedError("there is not enough memory for this batch; try later")
        elif isinstance(error, ShardscopeError):
            answer = error
        else:
            answer = internal_error(error, self._core.task)
        answer.task = answer.task or self._core.task
        return FrameKind.ERROR, encode_error(answer).SerializeToString(), []

    def _check_client(self, batch: Batch) -> None:
        if batch.client is not self._client and batch.client != self._client:
            raise FailedPreconditionError(
                f"client {batch.client} has not said hello for this connection; it belongs to client {self._client}"
            )
