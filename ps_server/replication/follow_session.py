"""The follower's end of a connection: receives what a primary sends into pooled memory, and answers.

One answer covers all messages that have come: it is sent when they are carried out, but for the last one, which is
carried out behind the answer if it is a record that need not be on a disk first.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Final, TypeVar

from google.protobuf.message import DecodeError

from ps_protocol.codec.error_codec import encode_error
from ps_protocol.errors import InvalidArgumentError, ResourceExhaustedError, ShardscopeError
from ps_protocol.sockets.frames import FLAG_CLOSING, FrameKind, FramePrefix
from ps_protocol.sockets.stream import SCRATCH_BYTES, ConnectionEnded, SocketStream
from ps_protocol.v1 import replication_pb2
from ps_server.memory.buffer_pool import BufferPool
from ps_server.replication.follower import Follower, FollowStream
from ps_server.replication.long_job import LongJob
from ps_server.replication.replica_doors import Reasons
from ps_server.replication.stream_frames import SOON_BYTES, record_in

_LOG = logging.getLogger(__name__)

_POOLED_BYTES: Final = 256 * 1024**2
"""Most memory kept for the next tensors while the connection lasts."""

_MAX_DATA_BYTES: Final = 1 << 40

_LONG_RECORD_BYTES: Final = 128 * 1024
"""A record with a larger header has thousands of operations, which take longer to carry out than a short lease has."""

_MAX_TOKEN_BYTES: Final = 64
_SIGNS_IN_SILENCE: Final = 18
"""Signs of life in the time for which nothing may be heard, which is three leases: as many as tokens."""

_T = TypeVar("_T")


class FollowSession:
    """One connection of a primary's. One thread.

    Args:
        stream: After the handshake; not owned.
        follower: Takes what comes.
        silence_s: The connection ends when nothing can be received, or sent, for so long.
        endings: Says why it has ended; a primary that is refused tries again several times a second.
    """

    def __init__(self, stream: SocketStream, follower: Follower, *, silence_s: float, endings: Reasons):
        self._stream = stream
        self._endings = endings
        self._follower = follower
        self._follow = FollowStream(follower)
        self._buffers = BufferPool(_POOLED_BYTES)
        self._answer: replication_pb2.FollowAnswer | None = None
        self._ahead: tuple[FramePrefix, bytes] | None = None  # a message of which the prefix was read, and its header
        self._sign_s = silence_s / _SIGNS_IN_SILENCE
        self._unsent = b""  # rest of an answer that was sent without waiting
        stream.lend_scratch(memoryview(bytearray(SCRATCH_BYTES)))
        stream.deadline_s = math.inf  # it may last
        stream.set_receive_timeout(int(silence_s * 1000))
        stream.set_send_timeout(int(silence_s * 1000))

    def serve(self) -> None:
        """Serves until the connection ends, or the follower stops following."""
        try:
            while True:
                self._serve_message()
        except ConnectionEnded:
            _LOG.debug("the primary has closed its connection")
        except OSError as error:
            level = logging.INFO if self._follower.is_leaving else logging.WARNING
            self._endings.log(f"{error}: the connection of the primary broke", level)
        except ShardscopeError as error:
            self._send_reason(error)
        except MemoryError:
            self._send_reason(ResourceExhaustedError("the follower has no memory for what the primary sends"))
        finally:
            self._follow.end()

    def _serve_message(self) -> None:
        (prefix, header), self._ahead = self._ahead or (self._next_prefix(), b""), None
        if not prefix.header_bytes:
            raise InvalidArgumentError("the connection holds data that no message has announced")
        header = header or self._header(prefix)
        found = record_in(header)
        if found is not None:
            record, data_bytes = found
            take = self._take_record if len(record) <= _LONG_RECORD_BYTES else self._take_long_record
            self._take_with_data(prefix, data_bytes, lambda data: take(record, data))
        else:
            message = _parsed(header)
            if message.inline_data:
                raise InvalidArgumentError("a frame holds tensors in its message, which belong beside it")
            if message.image.HasField("end") and not (message.data_bytes or prefix.buffer_bytes):
                # The whole image is put in its place, and perhaps on the disk.
                self._note(self._meanwhile_answering(lambda: self._follow.take(message, memoryview(b""))))
                return
            self._take_with_data(prefix, message.data_bytes, lambda data: self._follow.take(message, data))

    def _take_long_record(self, record: bytes, data: memoryview) -> replication_pb2.FollowAnswer | None:
        if data.readonly:
            data = memoryview(bytes(data))  # the next frame comes into the memory in which it lies
        return self._meanwhile_answering(lambda: self._follow.take_record(record, data))

    def _meanwhile_answering(self, job: Callable[[], _T]) -> _T:
        """Has another thread do something that takes long. Tokens are answered meanwhile, as far as they are next.

        Those behind another message cannot be seen. Then the primary is told now and then that this process is there.
        """
        if self._answer is not None:
            self._send_answer()
        stream = self._stream
        with LongJob(job, stream.sock.fileno()) as running:
            while not running.is_done:
                looks = self._ahead is None
                is_there = looks and stream.buffered_bytes >= stream.framing.prefix_bytes
                if is_there or running.wait(self._sign_s, for_source=looks):
                    self._answer_token()
                elif not running.is_done:
                    self._send(FrameKind.FOLLOW_ANSWER, self._follower.sign().SerializeToString())
        return running.result()

    def _answer_token(self) -> None:
        """Reads the next message, and answers it if it is a token; else keeps it for later."""
        prefix = self._next_prefix()
        if not 0 < prefix.header_bytes <= _MAX_TOKEN_BYTES or prefix.buffer_bytes:
            self._ahead = prefix, b""
            return
        header = self._header(prefix)
        message = _parsed(header)
        if not message.token or message.data_bytes:
            self._ahead = prefix, header
            return
        answer = self._follow.take(message, memoryview(b""))
        assert answer is not None
        self._send(FrameKind.FOLLOW_ANSWER, answer.SerializeToString())  # without a position, which grows just now

    def _take_with_data(
        self, prefix: FramePrefix, data_bytes: int, take: Callable[[memoryview], replication_pb2.FollowAnswer | None]
    ) -> None:
        self._stream.looks_first = (
            data_bytes <= SOON_BYTES
        )  # the next may come when the primary's client has its answer
        if data_bytes == prefix.buffer_bytes <= SCRATCH_BYTES:
            # Read-only, so that the follower copies what it keeps: the next frame comes into the same memory.
            self._note(take(self._stream.take(data_bytes).toreadonly()))
            return
        if not self._follow.is_attached:
            raise InvalidArgumentError("the first frame is not an attachment")
        if not prefix.buffer_bytes <= data_bytes <= _MAX_DATA_BYTES:
            raise InvalidArgumentError(f"a frame announces {data_bytes} bytes that cannot follow it")
        pooled = [self._buffers.take(data_bytes)]
        data = pooled[0].data[:data_bytes]
        try:
            self._receive(data, prefix.buffer_bytes)
            self._note(take(data))
        finally:
            del data
            self._buffers.give_back(pooled)

    def _receive(self, data: memoryview, piece_bytes: int) -> None:
        """Fills the memory piece by piece; tokens may come between them."""
        start = 0
        while True:
            self._stream.read_into(data[start : start + piece_bytes])
            start += piece_bytes
            if start == len(data):
                return
            prefix = self._next_prefix()
            while prefix.header_bytes:
                self._take_between(_parsed(self._header(prefix)), prefix)
                prefix = self._next_prefix()
            self._stream.framing.check_header(b"")
            piece_bytes = prefix.buffer_bytes
            if not 0 < piece_bytes <= len(data) - start:
                raise InvalidArgumentError(f"a piece of {piece_bytes} bytes was received of {len(data) - start}")

    def _take_between(self, message: replication_pb2.FollowFrame, prefix: FramePrefix) -> None:
        if not message.token or message.data_bytes or prefix.buffer_bytes:
            raise InvalidArgumentError("a message begins before the data of the one before it are complete")
        self._note(self._follow.take(message, memoryview(b"")))

    def _note(self, answer: replication_pb2.FollowAnswer | None) -> None:
        if answer is not None:
            if self._answer is not None and not answer.HasField("attached"):
                answer.token = answer.token or self._answer.token
            self._answer = answer

    def _take_record(self, record: bytes, data: memoryview) -> replication_pb2.FollowAnswer | None:
        answer = self._follow.take_record(record, data, self._answer_first)
        if self._unsent:
            unsent, self._unsent = self._unsent, b""
            self._stream.send([unsent], len(unsent))
        return answer

    def _answer_first(self, answer: replication_pb2.FollowAnswer) -> bool:
        stream = self._stream
        if stream.buffered_bytes >= stream.framing.prefix_bytes:
            return False  # the next record has come as well, and one answer is enough
        self._note(answer)
        self._answer = None
        content = answer.SerializeToString()
        frame = stream.framing.prefix(FrameKind.FOLLOW_ANSWER, content) + content
        self._unsent = frame[stream.send_some([frame], 0) :]
        return True

    def _next_prefix(self) -> FramePrefix:
        """Reads the next prefix; sends the answer before it has to wait for more."""
        stream, framing = self._stream, self._stream.framing
        if self._answer is not None and stream.buffered_bytes < framing.prefix_bytes:
            self._send_answer()
        prefix = framing.parse(stream.take(framing.prefix_bytes))
        self._follow.hear()
        if prefix.kind is not FrameKind.FOLLOW or prefix.num_locations:
            raise InvalidArgumentError(f"a primary does not send frames of the kind {prefix.kind.name}")
        if self._answer is not None and stream.buffered_bytes < prefix.header_bytes + prefix.buffer_bytes:
            self._send_answer()
        return prefix

    def _header(self, prefix: FramePrefix) -> bytes:
        size_bytes = prefix.header_bytes
        stream = self._stream
        header = bytes(stream.take(size_bytes) if size_bytes <= SCRATCH_BYTES else stream.read_large(size_bytes))
        stream.framing.check_header(header)
        return header

    def _send_answer(self) -> None:
        assert self._answer is not None
        answer, self._answer = self._follow.complete(self._answer), None
        self._send(FrameKind.FOLLOW_ANSWER, answer.SerializeToString())

    def _send(self, kind: FrameKind, content: bytes, flags: int = 0) -> None:
        frame = self._stream.framing.prefix(kind, content, flags=flags) + content
        self._stream.send([frame], len(frame))

    def _send_reason(self, error: ShardscopeError) -> None:
        level = logging.WARNING if isinstance(error, InvalidArgumentError) else logging.INFO
        self._endings.log(f"{error.message}: the connection of the primary is ended", level)
        try:
            self._send(FrameKind.ERROR, encode_error(error).SerializeToString(), FLAG_CLOSING)
        except OSError:
            _LOG.debug("the primary is gone already")


def _parsed(header: bytes) -> replication_pb2.FollowFrame:
    try:
        return replication_pb2.FollowFrame.FromString(header)
    except DecodeError as error:
        raise InvalidArgumentError(f"{len(header)} bytes were received that are no FollowFrame: {error}") from error
