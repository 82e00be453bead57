"""One connection of the socket transport, as the client sees it."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from google.protobuf.message import DecodeError

from ps_protocol.codec import error_codec
from ps_protocol.codec.fast import reply_bytes, request_bytes
from ps_protocol.codec.message_codec import ReplyHead
from ps_protocol.codec.reply_targets import reply_buffers
from ps_protocol.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    ShardscopeError,
    UnavailableError,
)
from ps_protocol.interrupts import is_interrupt, raise_interrupt
from ps_protocol.memory.regions import encode_regions
from ps_protocol.operation_kinds import tensor_bytes
from ps_protocol.operations import Batch, BatchReply
from ps_protocol.shared_objects import Look
from ps_protocol.sockets.faults import before_send
from ps_protocol.sockets.frames import (
    ANSWER_BYTES,
    FLAG_CLOSING,
    FLAG_PIPELINED,
    FLAG_SHARED,
    LOCATION_BYTES,
    OLDEST_SOCKET_VERSION,
    REASONS,
    FrameKind,
    FramePrefix,
    Verdict,
    encode_hello,
    milliseconds,
    parse_answer,
)
from ps_protocol.sockets.framing import Framing
from ps_protocol.sockets.stream import COPIED_BYTES, SCRATCH_BYTES, Part, SocketStream
from worker_client.transport.shared_memory.exchange import SharedExchange, share
from worker_client.transport.shared_memory.pool import SegmentPool
from worker_client.transport.sockets.trust import Trust

_MAX_AHEAD_BYTES: Final = 16 * 1024 * 1024
"""Most bytes of replies that are read while a batch is being sent; they are small, and so are those on their way."""

_LOOK_MS: Final = 500
_LOOK_S: Final = _LOOK_MS / 1000
"""How long a single wait takes. After each it is seen whether anything has moved; setting another costs a call."""

_REASON_WITHIN_S: Final = 0.5
_CUT_OFF: Final = (BrokenPipeError, ConnectionResetError)


class _Asked(NamedTuple):
    batch: Batch
    deadline_s: float


class SilentConnectionError(DeadlineExceededError):
    """A connection was silent for so long that it is not trusted any more; there may be time for another one."""


class _Silence(TimeoutError):  # noqa: N818 - becomes a SilentConnectionError
    pass


class _WatchedStream(SocketStream):
    """A stream that asks its connection whether to wait for a ps that is silent."""

    __slots__ = ("_waits",)

    def __init__(self, sock: socket.socket, waits: Callable[[str], None]):
        super().__init__(sock)
        self._waits = waits

    def waits(self, reason: str) -> None:
        self._waits(reason)


class _Frame(NamedTuple):
    parts: list[Part]
    size_bytes: int
    shared: SharedExchange | None


_Answer: TypeAlias = BatchReply | ShardscopeError


class SocketConnection:
    """Sends batches of one client and receives their replies. One thread at a time.

    After any error that is not the ps's own answer, and after an interrupt, the connection is broken (``is_usable``)
    and must be closed: what comes next on it may be the rest of a reply that was given up. Until then it holds the
    shared memory that the ps may still use.

    Args:
        sock: Connected; owned.
        client: Incarnation of the client.
        task: The ps's name, as "ps:0", for the errors.
        address: Where the ps is, for the errors.
        segments: Memory that is shared with the ps, for large tensors.
        version: Of the socket protocol, of those that the ps speaks.
        checks_tensors: Whether frames have a checksum of their tensors.
        looks_first: Whether a reply is waited for with the processor kept, as long as that pays (``BriefWait``).
        trust: What is thought of the sockets to this ps; it says how long they may be silent.

    Attributes:
        caller: Held by the caller that uses the connection, as long as it does.
    """

    def __init__(
        self,
        sock: socket.socket,
        client: UUID,
        *,
        task: str,
        address: str,
        segments: SegmentPool | None = None,
        version: int = OLDEST_SOCKET_VERSION,
        checks_tensors: bool = False,
        looks_first: bool = True,
        trust: Trust | None = None,
    ):
        self._stream = _WatchedStream(sock, self._wait_on)
        self._stream.lend_scratch(memoryview(bytearray(SCRATCH_BYTES)))
        self._stream.looks_first = looks_first
        self._version = version
        self.framing: Final = Framing(version, checks_tensors=checks_tensors)
        self._stream.framing = self.framing
        self._client = client
        self._task = task
        self._address = address
        self._segments = segments
        self._begun: deque[_PendingReply] = deque()
        self._shared: SharedExchange | None = None  # of the batch that is exchanged
        self._asked: _Asked | None = None
        self._is_broken = False
        self._trust = Trust() if trust is None else trust
        self._awaited: Batch | None = None
        self._last_seen = (0.0, 0)  # the deadline and the bytes that had moved when the silence began
        self._silent_since_s = 0.0
        self.caller = threading.Lock()

    @property
    def is_usable(self) -> bool:
        """Whether another batch may be exchanged."""
        return not self._is_broken

    @property
    def sock(self) -> socket.socket:
        """The socket, for what else may travel on it."""
        return self._stream.sock

    @property
    def deadline_s(self) -> float:
        """When the last exchange has to be done, on the monotonic clock."""
        return self._stream.deadline_s

    def shake_hands(self, ticket: bytes, timeout_s: float) -> None:
        """Shows the ticket.

        Raises:
            UnavailableError: The ps has refused, or the connection broke.
            DeadlineExceededError: It did not answer in time.
            InternalError: What answers is no ps.
        """
        hello = encode_hello(self._client, ticket, version=self._version, checks_tensors=self.framing.checks_tensors)
        self._is_broken = True
        try:
            self._bound(time.monotonic() + timeout_s)
            with contextlib.suppress(*_CUT_OFF):  # a ps that refuses need not read it first, and says why
                self._stream.send([hello], len(hello))
            verdict = parse_answer(self._stream.take(ANSWER_BYTES))
        except Exception as error:
            raise self._failure(error, "to accept the connection") from error
        if verdict is not Verdict.ACCEPTED:
            raise UnavailableError(
                f"the ps at {self._address} refused a connection: {REASONS[verdict]}", task=self._task
            )
        self._is_broken = False

    def exchange(self, batch: Batch, timeout_s: float) -> BatchReply:
        """Sends a batch and waits for its reply; ``Transport.exchange``."""
        self.send(batch, timeout_s=timeout_s)
        return self.receive()

    def send(self, batch: Batch, *, timeout_s: float) -> None:
        """Sends a batch; ``receive`` takes its reply."""
        deadline_s = time.monotonic() + timeout_s
        frame = self._request(batch, timeout_s)
        self._shared = frame.shared
        self._awaited = batch
        self._is_broken = True  # unless all of it succeeds
        try:
            self._bound(deadline_s)
            before_send("request.send", self._stream, frame.parts, frame.size_bytes)
            self._stream.send(frame.parts, frame.size_bytes)
        except Exception as error:
            if is_interrupt(error):
                raise
            what = f"to take a batch of {len(batch.operations)} operations"
            raise self._reason_given(error) or self._failure(error, what) from error
        self._asked = _Asked(batch, deadline_s)

    def receive(self) -> BatchReply:
        """Waits for the reply to the batch that was sent."""
        asked, self._asked = self._asked, None
        if asked is None:
            raise InternalError("a reply is taken once, after its batch was sent")
        batch, deadline_s = asked
        try:
            if deadline_s - time.monotonic() < _LOOK_S:  # else it is bounded as for sending
                self._bound(deadline_s)
            answer = self._receive(batch, deadline_s, self._shared)
        except Exception as error:
            if is_interrupt(error):
                raise
            raise self._failure(error, f"to answer a batch of {len(batch.operations)} operations") from error
        if not self._is_broken:
            self._shared = None
        return _replied(answer)

    # -- several at a time --------------------------------------------------------------------

    def begin(self, batch: Batch, timeout_s: float) -> _PendingReply:
        """Sends a batch; its reply is taken by ``finish`` of what is returned, in the order of the batches."""
        deadline_s = time.monotonic() + timeout_s
        frame = self._request(batch, timeout_s, flags=FLAG_PIPELINED)
        pending = _PendingReply(self, batch, deadline_s, frame.shared)
        was_broken, self._is_broken = self._is_broken, True
        self._awaited = batch
        try:
            _check_whole(was_broken)
            self._bound(pending.deadline_s)
            before_send("request.send", self._stream, frame.parts, frame.size_bytes)
            self._send_reading(frame, pending.deadline_s)
        except Exception as error:
            self._settle_shared(frame.shared)
            raise self._failure(error, f"to take a batch of {len(batch.operations)} operations") from error
        self._is_broken = False
        self._begun.append(pending)
        return pending

    def finish(self, pending: _PendingReply) -> BatchReply:
        """Waits for the reply to the batch that was begun first of those that are not finished."""
        first = self._begun.popleft() if self._begun else None
        self._awaited = pending.batch
        if first is not pending:
            raise InternalError("batches are finished in the order in which they were begun, and once")
        was_broken, self._is_broken = self._is_broken, True
        try:
            _check_whole(was_broken)
            self._bound(pending.deadline_s)
            answer = self._receive(pending.batch, pending.deadline_s, pending.shared)
        except Exception as error:
            raise self._failure(error, f"to answer a batch of {len(pending.batch.operations)} operations") from error
        finally:
            self._settle_shared(pending.shared)
        if isinstance(answer, ShardscopeError) and self._begun:
            self._is_broken = True  # the caller exchanges those behind it again and does not take their replies here
        return _replied(answer)

    def _send_reading(self, frame: _Frame, deadline_s: float) -> None:
        """Sends a frame; while the ps takes nothing, reads the replies that it may be waiting to send."""
        stream, sent = self._stream, 0
        while True:
            sent = stream.send_some(frame.parts, sent)
            if sent == frame.size_bytes:
                return
            poll = select.poll()
            poll.register(stream.sock, select.POLLIN | select.POLLOUT)
            remaining_s = deadline_s - time.monotonic()
            events = poll.poll(max(0.0, min(remaining_s, _LOOK_S)) * 1000)
            if not events:
                stream.waits("the ps takes nothing")
            elif events[0][1] & ~select.POLLOUT:
                stream.read_ahead(_MAX_AHEAD_BYTES)

    # -- frames -------------------------------------------------------------------------------

    def _request(self, batch: Batch, timeout_s: float, *, flags: int = 0) -> _Frame:
        is_own = batch.client is self._client or batch.client == self._client  # then the connection says whose it is
        header, buffers = request_bytes.encode_request(batch, names_client=not is_own)
        locations = b""
        shared = None if self._segments is None else share(self._segments, batch, buffers, timeout_s=timeout_s)
        if shared is not None:
            locations = encode_regions(shared.locations)
            if shared.request is not None:
                buffers = []
        buffer_bytes = sum(map(len, buffers))
        framing = self.framing
        prefix = framing.prefix(
            FrameKind.REQUEST,
            header,
            locations=locations,
            num_locations=len(locations) // LOCATION_BYTES,
            buffers=buffers,
            buffer_bytes=buffer_bytes,
            flags=flags,
            timeout_ms=milliseconds(timeout_s),
        )
        size_bytes = framing.prefix_bytes + len(header) + len(locations) + buffer_bytes
        return _Frame([prefix, header, locations, *buffers], size_bytes, shared)

    def _settle_shared(self, shared: SharedExchange | None) -> None:
        """If the connection broke, gives the shared memory up: the ps may still use what unanswered batches named."""
        if self._is_broken and self._segments is not None:
            for each in (shared, self._shared, *[pending.shared for pending in self._begun]):
                if each is not None:
                    self._segments.retire(each.generation)

    def _receive(self, batch: Batch, deadline_s: float, shared: SharedExchange | None) -> _Answer:
        stream, framing = self._stream, self.framing
        prefix = framing.parse(stream.take(framing.prefix_bytes))
        if prefix.header_bytes <= SCRATCH_BYTES:
            header = bytes(stream.take(prefix.header_bytes))
        else:
            header = bytes(stream.read_large(prefix.header_bytes))
        framing.check_header(header)
        if prefix.kind is not FrameKind.REPLY:
            return self._error_in(prefix, header)
        head = reply_bytes.parse_reply(header, batch.operations)
        if prefix.flags & FLAG_SHARED:
            answer = _received_shared(head, prefix, shared)
        elif prefix.buffer_bytes <= COPIED_BYTES:
            data = stream.take(prefix.buffer_bytes)
            framing.check_tensors((data,))
            answer = head.reply_of(data)
        else:
            answer = self._receive_tensors(head, prefix, deadline_s)
        self._is_broken = False
        return answer

    def _receive_tensors(self, head: ReplyHead, prefix: FramePrefix, deadline_s: float) -> BatchReply:
        if head.data_bytes != prefix.buffer_bytes:
            raise InvalidArgumentError(
                f"a reply announces tensors of {prefix.buffer_bytes} bytes, but those of its header have "
                f"{head.data_bytes}"
            )
        stream, buffers = self._stream, reply_buffers(head.layouts, head.targets)
        for buffer in buffers:
            if len(buffer) <= COPIED_BYTES:
                buffer[:] = stream.take(len(buffer))
            else:
                self._bound(deadline_s)
                stream.read_into(buffer)
        self.framing.check_tensors(buffers)
        return head.reply(buffers)

    def _error_in(self, prefix: FramePrefix, header: bytes) -> ShardscopeError:
        if prefix.kind is not FrameKind.ERROR or prefix.buffer_bytes:
            raise InvalidArgumentError(f"a batch was answered with a frame of the kind {prefix.kind.name}")
        error = error_codec.parse_error(header)
        self._is_broken = bool(prefix.flags & FLAG_CLOSING)
        return error

    # -- time and failures --------------------------------------------------------------------

    def _bound(self, deadline_s: float) -> None:
        """Bounds the whole by a moment, and each wait by a short time, so that a system call is seldom needed."""
        remaining_s = deadline_s - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError("no time is left")
        wait_ms = _LOOK_MS if remaining_s > _LOOK_S else int(remaining_s * 1000) + 1
        stream = self._stream
        stream.deadline_s = deadline_s
        stream.set_receive_timeout(wait_ms)
        stream.set_send_timeout(wait_ms)

    def _wait_on(self, reason: str) -> None:
        """Returns to wait once more for a ps that was silent for the length of a wait.

        Raises:
            TimeoutError: Time ran out, or it was silent for so long that the connection is not trusted any more.
        """
        stream, now_s = self._stream, time.monotonic()
        if now_s >= stream.deadline_s:
            raise TimeoutError(reason) from None
        seen = (stream.deadline_s, stream.moved_bytes)
        if seen != self._last_seen:
            self._last_seen, self._silent_since_s = seen, now_s - _LOOK_S
        silent_s = now_s - self._silent_since_s - self._waits_s()
        if not self._trust.allows(silent_s, *self._on_their_way()):
            self._trust.doubt()
            raise _Silence(f"the connection was silent for {silent_s:.1f} s") from None
        self._bound(stream.deadline_s)

    def _waits_s(self) -> float:
        """How long the ps may wait before it answers, since it was asked to."""
        operations = () if self._awaited is None else self._awaited.operations
        return max([each.wait_s for each in operations if isinstance(each, Look)], default=0.0)

    def _on_their_way(self) -> tuple[int, int]:
        """Operations that have no answer yet, and bytes of their tensors, both ways."""
        batches = [pending.batch for pending in self._begun]
        if self._awaited is not None:
            batches.append(self._awaited)
        size_bytes = sum([tensor_bytes(each.operations) + (each.expected_reply_bytes or 0) for each in batches])
        return sum([len(each.operations) for each in batches]), size_bytes

    def _reason_given(self, error: Exception) -> ShardscopeError | None:
        """What the ps has said before it cut off a batch that it does not take; None if it has said nothing."""
        if not isinstance(error, _CUT_OFF):
            return None
        try:
            self._bound(time.monotonic() + _REASON_WITHIN_S)
            prefix = self.framing.parse(self._stream.take(self.framing.prefix_bytes))
            told = self._error_in(prefix, bytes(self._stream.take(prefix.header_bytes)))
        except (OSError, ValueError, InvalidArgumentError, DecodeError) as failure:
            raise_interrupt(failure)
            return None
        self._is_broken = True
        return told

    def _failure(self, error: Exception, what: str) -> ShardscopeError:
        """Returns what a failed exchange is for the caller; all of these may be tried again on another connection."""
        if isinstance(error, InvalidArgumentError | DecodeError):
            return InternalError(
                f"what was received from {self._task} at {self._address} cannot be understood: {error}",
                task=self._task,
                retryable=True,
            )
        if isinstance(error, ShardscopeError):
            error.task = error.task or self._task
            return error
        if isinstance(error, TimeoutError):
            kind = SilentConnectionError if isinstance(error, _Silence) else DeadlineExceededError
            return kind(f"time ran out waiting for {self._task} at {self._address} {what}: {error}", task=self._task)
        if isinstance(error, OSError):
            return UnavailableError(
                f"the connection to {self._task} at {self._address} broke, waiting for it {what}: {error}",
                task=self._task,
            )
        return InternalError(f"waiting for {self._task} at {self._address} {what} failed: {error!r}", task=self._task)

    def close(self) -> None:
        self._is_broken = True
        self._stream.close()
        self._settle_shared(None)
        self._shared = None


class _PendingReply:
    """A batch on its way; a ``PendingExchange``."""

    __slots__ = ("_connection", "batch", "deadline_s", "shared")

    def __init__(self, connection: SocketConnection, batch: Batch, deadline_s: float, shared: SharedExchange | None):
        self._connection = connection
        self.batch = batch
        self.deadline_s = deadline_s
        self.shared = shared

    def finish(self) -> BatchReply:
        return self._connection.finish(self)


def _received_shared(head: ReplyHead, prefix: FramePrefix, shared: SharedExchange | None) -> BatchReply:
    if shared is None or prefix.buffer_bytes:
        raise InvalidArgumentError("the tensors of a reply are said to be in memory that was not offered for them")
    return head.reply(shared.reply_buffers(head))


def _check_whole(was_broken: bool) -> None:
    if was_broken:
        raise ConnectionError("it broke while an earlier batch was on its way")


def _replied(answer: _Answer) -> BatchReply:
    if isinstance(answer, ShardscopeError):
        raise answer
    return answer
