"""The gRPC way to a ps task: the reference transport, and the only way for everything but batches.

A batch whose tensors are small goes out and comes back in one message, on a stream that stays open while the client is
at work; a larger one goes on a stream of its own, cut into chunks, since a large message in one piece takes several
times as long. A header that is too large for one message goes there too, in parts.

gRPC takes locks of its own, which an interrupt on the main thread leaves taken (grpc/grpc#19973). So the main thread
never calls it: another thread does, and the main thread waits.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final, NoReturn, TypeVar
from uuid import UUID

import grpc

from ps_protocol import fault_points
from ps_protocol.codec import service_codec
from ps_protocol.codec.chunks import Assembler, pieces
from ps_protocol.codec.fast.reply_bytes import parse_reply
from ps_protocol.codec.fast.request_bytes import encode_request
from ps_protocol.codec.limits import CHUNK_SIZE_BYTES, UNARY_LIMIT_BYTES
from ps_protocol.codec.reply_targets import reply_buffers
from ps_protocol.errors import (
    DeadlineExceededError,
    ErrorCode,
    InternalError,
    ResourceExhaustedError,
    ShardscopeError,
    UnavailableError,
)
from ps_protocol.fault_points import FaultAction, fault_point
from ps_protocol.grpc_edge import channel_options, status
from ps_protocol.grpc_edge.chunk_frames import (
    REPLIES,
    data_frame,
    exchange_message,
    header_frame,
    header_frames,
)
from ps_protocol.grpc_edge.fork_gate import GATE
from ps_protocol.interrupts import sheltered, sheltered_to_the_end
from ps_protocol.memory.allocator import keep_freed_chunks
from ps_protocol.operations import READS, Batch, BatchReply, PsOperation
from ps_protocol.ps_service import Line, Transport
from ps_protocol.service_types import Member, Placement, Proposal, PsAddress, Status, VariableInfo, Welcome
from ps_protocol.v1 import (
    checkpoints_pb2_grpc,
    control_pb2,
    control_pb2_grpc,
    data_pb2,
    data_pb2_grpc,
    directory_pb2,
    directory_pb2_grpc,
    inspection_pb2,
    inspection_pb2_grpc,
    membership_pb2,
    membership_pb2_grpc,
)
from worker_client.transport.grpc_checkpoints import GrpcCheckpoints
from worker_client.transport.grpc_stream import BatchStream, BatchStreams

_Reply = TypeVar("_Reply")

_SERVICE: Final = data_pb2.DESCRIPTOR.services_by_name["Data"].full_name
_EXCHANGE: Final = f"/{_SERVICE}/Exchange"
_EXCHANGE_MANY: Final = f"/{_SERVICE}/ExchangeMany"
_EXCHANGE_STREAM: Final = f"/{_SERVICE}/ExchangeStream"
_NOTHING: Final = memoryview(b"")


def connect(address: str, *, task: str) -> GrpcPsService:
    """Opens a channel; nothing is sent yet, and the ps need not be there.

    Args:
        address: "host:port" of the ps.
        task: Its name, as "ps:0", for the errors.
    """
    keep_freed_chunks()
    channel = GATE.call(grpc.insecure_channel, address, options=channel_options.client_options())
    return GrpcPsService(channel, address=address, task=task)


class _Calls:
    """A channel and what can be called on it.

    It has to be dropped by another thread than the main one: gRPC's finalizers take locks, and swallow interrupts. So
    it is kept for a while after it was closed, since the traceback of an interrupt may refer to it.
    """

    def __init__(self, channel: grpc.Channel):
        self.channel = channel
        self.data = data_pb2_grpc.DataStub(channel)
        # The same methods as those of the stub, with messages as bytes. A batch without tensors is one frame: then the
        # caller's own thread receives the reply, and no other is needed.
        self.exchange_message: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_EXCHANGE)
        self.exchange_stream: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(_EXCHANGE_STREAM)
        self.exchange_reading: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(_EXCHANGE_STREAM)
        exchange_many: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(_EXCHANGE_MANY)
        self.streams = BatchStreams(lambda messages, lifetime_s: exchange_many(messages, timeout=lifetime_s))
        self.directory = directory_pb2_grpc.DirectoryStub(channel)
        self.membership = membership_pb2_grpc.MembershipStub(channel)
        self.inspection = inspection_pb2_grpc.InspectionStub(channel)
        self.control = control_pb2_grpc.ControlStub(channel)
        self.checkpoints = checkpoints_pb2_grpc.CheckpointsStub(channel)


_closed: Final[deque[_Calls]] = deque(maxlen=16)


class GrpcPsService(Transport):
    """A ``ClusterService`` and a ``Transport``, both at the other end of one channel. Thread-safe.

    Args:
        channel: Owned: ``close`` closes it.
        address: "host:port", for the errors.
        task: The ps's name, as "ps:0", for the errors.

    Attributes:
        checkpoints: What the ps offers for checkpoints.
    """

    def __init__(self, channel: grpc.Channel, *, address: str, task: str):
        self._address = address
        self._task = task
        self._calls: _Calls | None = _Calls(channel)
        self._takes_parts = False  # whether the ps, when it was last asked, took headers in parts
        self.checkpoints: Final = GrpcCheckpoints(self._call, lambda: self._open.checkpoints)

    @property
    def streams(self) -> BatchStreams:
        """Those for small batches."""
        return self._open.streams

    @property
    def _open(self) -> _Calls:
        calls = self._calls
        if calls is None:
            raise UnavailableError(
                f"the connection to {self._task} at {self._address} is closed", task=self._task, retryable=False
            )
        return calls

    # -- data ---------------------------------------------------------------------------------

    def hello(
        self, client: UUID, task: str, *, num_ps_tasks: int = 0, for_reads: bool = False, timeout_s: float
    ) -> Welcome:
        request = service_codec.encode_hello(client, task, num_ps_tasks, for_reads=for_reads)
        welcome = service_codec.decode_welcome(self._call(self._open.data.Hello, request, timeout_s))
        self._takes_parts = bool(welcome.max_message_bytes)
        return welcome

    def goodbye(self, client: UUID, *, timeout_s: float) -> None:
        self._call(self._open.data.Goodbye, data_pb2.GoodbyeRequest(client_incarnation=client.bytes), timeout_s)

    def exchange(self, batch: Batch, *, timeout_s: float) -> BatchReply:
        header, buffers = self.encoded(batch, timeout_s)
        fits = max(sum(map(len, buffers)), _expected_reply_bytes(batch)) <= UNARY_LIMIT_BYTES
        if fits and self.fits_message(header):
            message = exchange_message(header, buffers)
            stream = self.streams.free(timeout_s)
            if stream is None:
                return self.exchange_message(message, batch, timeout_s)
            line = _StreamLine(self, stream)
            line.send_message(message, batch, timeout_s)
            return line.receive()
        try:
            caller = threading.Lock()
            with caller:
                return sheltered_to_the_end(
                    GATE.call, self._exchange_frames, header, buffers, batch.operations, timeout_s, caller.locked
                )
        except grpc.RpcError as error:
            raise self.failure(error) from None

    def line(self, caller: threading.Lock, *, timeout_s: float) -> Line | None:  # noqa: ARG002 - a stream is taken out
        stream = self.streams.free(timeout_s)
        return None if stream is None else _StreamLine(self, stream)

    def fits_message(self, header: bytes) -> bool:
        """Whether a header may stand in one message with tensors that may."""
        return not self._takes_parts or len(header) <= CHUNK_SIZE_BYTES

    def encoded(self, batch: Batch, timeout_s: float) -> tuple[bytes, Sequence[memoryview]]:
        """Returns the header of a batch and its buffers, unless a test wants it lost."""
        header, buffers = encode_request(batch, names_client=True)
        fault = fault_point("request.send")
        if fault is not None:
            sheltered(GATE.call, self._send_less, header, buffers, fault, timeout_s)
        return header, buffers

    def exchange_message(self, message: bytes, batch: Batch, timeout_s: float) -> BatchReply:
        """Exchanges a batch in a call of its own."""
        try:
            return _decoded_message(
                sheltered(GATE.call, self._open.exchange_message, message, timeout=timeout_s), batch
            )
        except grpc.RpcError as error:
            raise self.failure(error) from None

    def failure(self, error: grpc.RpcError) -> ShardscopeError:
        """Returns what ended a call, for the caller."""
        failure = status.from_rpc_error(error, task=self._task, address=self._address)
        if failure.code is ErrorCode.CANCELLED and self._calls is not None:
            # By gRPC on the ps, to which the call came when it was about to end; or by the ps, since it has waited too
            # long for a message. On this side nobody gives up a call whose end is then looked at.
            return UnavailableError(
                f"the task at {self._address} cannot be reached (it ended before it took the call, or gave up waiting "
                f"for a message of it; the network may be slow, see --message-timeout of the ps)",
                task=self._task,
            )
        return failure

    def late(self, batch: Batch) -> DeadlineExceededError:
        """Returns the error of a batch that was not answered in time."""
        return DeadlineExceededError(
            f"time ran out waiting for {self._task} at {self._address} to answer a batch of {len(batch.operations)} "
            f"operations",
            task=self._task,
        )

    def _send_less(
        self, header: bytes, buffers: Sequence[memoryview], fault: FaultAction, timeout_s: float
    ) -> NoReturn:
        """Sends nothing of a batch, or half of its frames, as a test wants it."""
        if fault is FaultAction.CUT:
            frames = list(_request_frames([header_frame(header)], buffers))

            def half() -> Iterator[bytes]:
                yield from frames[: len(frames) // 2]
                call.cancel()  # asked for one more frame, gRPC has sent those

            call = self._open.exchange_stream(half(), timeout=timeout_s)
            call.code()  # waits for the end
        raise UnavailableError(str(fault_points.lost("request.send", fault)), task=self._task)

    def _exchange_frames(
        self,
        header: bytes,
        buffers: Sequence[memoryview],
        operations: Sequence[PsOperation],
        timeout_s: float,
        is_wanted: Callable[[], bool],
    ) -> BatchReply:
        """Exchanges a batch on a stream, as long as the caller leaves its arrays to it."""
        headers = [header_frame(header)] if self.fits_message(header) else header_frames(header, CHUNK_SIZE_BYTES)
        if buffers or len(headers) > 1:
            frames = self._open.exchange_stream(_request_frames(headers, buffers, is_wanted), timeout=timeout_s)
        else:
            frames = self._open.exchange_reading(headers[0], timeout=timeout_s)
        try:
            return self._receive(frames, operations, is_wanted)
        finally:
            frames.cancel()  # without effect on a stream that has ended

    def _receive(
        self, frames: Iterator[bytes], operations: Sequence[PsOperation], is_wanted: Callable[[], bool]
    ) -> BatchReply:
        first = next(frames, None)
        header = None if first is None else REPLIES.header(first)
        if header is None:
            raise InternalError("the ps ended the stream without a reply", task=self._task, retryable=True)
        head = parse_reply(header, operations)
        buffers = reply_buffers(head.layouts, head.targets)
        assembler = Assembler(buffers)
        for frame in frames:
            _check_wanted(is_wanted)
            assembler.feed(REPLIES.data(frame) or _NOTHING)
        if assembler.missing_bytes:
            raise InternalError(
                f"the ps ended its reply {assembler.missing_bytes} bytes early", task=self._task, retryable=True
            )
        return head.reply(buffers)

    # -- directory and membership -------------------------------------------------------------

    def place(
        self, proposals: Sequence[Proposal], *, store: UUID | None = None, timeout_s: float
    ) -> list[Placement | ShardscopeError]:
        ends_s = time.monotonic() + timeout_s
        placements: list[Placement | ShardscopeError] = []
        for portion in _portions([service_codec.encode_proposal(each) for each in proposals]):
            request = directory_pb2.PlaceRequest(proposals=portion, store_incarnation=store.bytes if store else b"")
            reply = self._call(self._open.directory.Place, request, max(0.0, ends_s - time.monotonic()))
            placements += [service_codec.decode_placement(each) for each in reply.placements]
        return placements

    def list_placements(self, *, timeout_s: float) -> list[Placement]:
        reply = self._call(self._open.directory.ListPlacements, directory_pb2.ListPlacementsRequest(), timeout_s)
        placements = [service_codec.decode_placement(each) for each in reply.placements]
        return [each for each in placements if isinstance(each, Placement)]

    def join(
        self,
        task: str,
        incarnation: UUID,
        host: str,
        pid: int,
        *,
        lease_s: float = 0.0,
        age_s: float = 0.0,
        if_free: bool = False,
        job_sizes: Mapping[str, int] | None = None,
        timeout_s: float,
    ) -> str | None:
        request = membership_pb2.JoinRequest(
            task=task,
            incarnation=incarnation.bytes,
            host=host,
            pid=pid,
            lease_s=lease_s,
            age_s=age_s,
            if_free=if_free,
            job_sizes=job_sizes,
        )
        return self._call(self._open.membership.Join, request, timeout_s).disagreement or None

    def leave(self, task: str, incarnation: UUID, *, end: str = "", timeout_s: float) -> None:
        request = membership_pb2.LeaveRequest(task=task, incarnation=incarnation.bytes, end=end)
        self._call(self._open.membership.Leave, request, timeout_s)

    def report_progress(self, task: str, incarnation: UUID, step: int, *, timeout_s: float) -> None:
        request = membership_pb2.ReportProgressRequest(task=task, incarnation=incarnation.bytes, step=step)
        self._call(self._open.membership.ReportProgress, request, timeout_s)

    def list_members(self, *, timeout_s: float) -> list[Member]:
        reply = self._call(self._open.membership.ListMembers, membership_pb2.ListMembersRequest(), timeout_s)
        return [service_codec.decode_member(each) for each in reply.members]

    def heartbeat(self, task: str, incarnation: UUID, step: int | None = None, *, timeout_s: float) -> str | None:
        request = membership_pb2.HeartbeatRequest(task=task, incarnation=incarnation.bytes, step=step)
        return self._call(self._open.membership.Heartbeat, request, timeout_s).disagreement or None

    def announce(
        self, address: PsAddress, host: str, pid: int, *, lease_s: float = 0.0, age_s: float = 0.0, timeout_s: float
    ) -> list[PsAddress]:
        request = membership_pb2.AnnounceRequest(
            address=service_codec.encode_ps_address(address), host=host, pid=pid, lease_s=lease_s, age_s=age_s
        )
        reply = self._call(self._open.membership.Announce, request, timeout_s)
        return [service_codec.decode_ps_address(each) for each in reply.addresses]

    def list_addresses(self, *, timeout_s: float) -> list[PsAddress]:
        reply = self._call(self._open.membership.ListAddresses, membership_pb2.ListAddressesRequest(), timeout_s)
        return [service_codec.decode_ps_address(each) for each in reply.addresses]

    # -- inspection and control ---------------------------------------------------------------

    def list_variables(self, *, timeout_s: float) -> list[VariableInfo]:
        reply = self._call(self._open.inspection.ListVariables, inspection_pb2.ListVariablesRequest(), timeout_s)
        return [service_codec.decode_variable_info(each) for each in reply.variables]

    def status(self, *, timeout_s: float) -> Status:
        return service_codec.decode_status(
            self._call(self._open.inspection.GetStatus, inspection_pb2.GetStatusRequest(), timeout_s)
        )

    def drain(self, reason: str, *, timeout_s: float) -> None:
        self._call(self._open.control.Drain, control_pb2.DrainRequest(reason=reason), timeout_s)

    def shutdown(self, reason: str, *, timeout_s: float) -> None:
        self._call(self._open.control.Shutdown, control_pb2.ShutdownRequest(reason=reason), timeout_s)

    def promote(self, *, accept_loss: bool = False, timeout_s: float) -> None:
        self._call(self._open.control.Promote, control_pb2.PromoteRequest(accept_loss=accept_loss), timeout_s)

    def close(self) -> None:
        sheltered(self._close)

    def _close(self) -> None:
        calls, self._calls = self._calls, None
        if calls is not None:
            calls.streams.close()
            GATE.call(calls.channel.close)
            _closed.append(calls)

    def _call(self, method: Callable[..., _Reply], request: Any, timeout_s: float) -> _Reply:
        try:
            return sheltered(GATE.call, method, request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise self.failure(error) from None


class _StreamLine:
    """A stream that nobody else uses, as a ``Line``."""

    __slots__ = ("_batch", "_due_s", "_message", "_service", "_stream")

    waits_apart = True
    _batch: Batch
    _message: bytes
    _due_s: float

    def __init__(self, service: GrpcPsService, stream: BatchStream):
        self._service = service
        self._stream = stream

    def send(self, batch: Batch, *, timeout_s: float) -> None:
        header, buffers = self._service.encoded(batch, timeout_s)
        if not self._service.fits_message(header):
            self._service.streams.give_back(self._stream)
            raise ResourceExhaustedError(f"a batch of {len(batch.operations)} operations does not go in one message")
        self.send_message(exchange_message(header, buffers), batch, timeout_s)

    def send_message(self, message: bytes, batch: Batch, timeout_s: float) -> None:
        """Sends what a batch was encoded to."""
        self._message, self._batch, self._due_s = message, batch, time.monotonic() + timeout_s
        self._stream.send(message, timeout_s)

    def wait(self) -> None:
        self._stream.wait()

    def receive(self) -> BatchReply:
        streams = self._service.streams
        try:
            reply = self._stream.receive()
        except grpc.RpcError as error:
            if self._stream.has_expired:
                raise self._service.late(self._batch) from error
            if not _is_unimplemented(error):
                raise self._service.failure(error) from error
            streams.give_up()
            reply = None
        if reply is None:  # it was not read there
            streams.rest()
            return self._service.exchange_message(self._message, self._batch, self._due_s - time.monotonic())
        streams.give_back(self._stream)
        return _decoded_message(reply, self._batch)

    def freed(self) -> None:
        """Nobody waits for a stream."""


def _portions(proposals: Sequence[directory_pb2.Proposal]) -> list[list[directory_pb2.Proposal]]:
    """Divides proposals into lists that each go in one message."""
    portions: list[list[directory_pb2.Proposal]] = [[]]
    size_bytes = 0
    for each in proposals:
        size_bytes += each.ByteSize()
        if portions[-1] and size_bytes > CHUNK_SIZE_BYTES:
            portions.append([])
            size_bytes = each.ByteSize()
        portions[-1].append(each)
    return portions


def _is_unimplemented(error: grpc.RpcError) -> bool:
    return isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.UNIMPLEMENTED


def _expected_reply_bytes(batch: Batch) -> float:
    if batch.expected_reply_bytes is not None:
        return batch.expected_reply_bytes
    reads = [operation for operation in batch.operations if isinstance(operation, READS)]
    return float("inf") if reads else 0


def _check_wanted(is_wanted: Callable[[], bool]) -> None:
    if not is_wanted():
        raise UnavailableError("the call was interrupted")


def _request_frames(
    headers: Sequence[bytes], buffers: Sequence[memoryview], is_wanted: Callable[[], bool] = lambda: True
) -> Iterator[bytes]:
    """Yields a batch; gRPC asks for each frame when the one before it is on its way, so that few are in memory."""
    for header in headers:
        _check_wanted(is_wanted)
        yield header
    for parts in pieces(buffers, CHUNK_SIZE_BYTES):
        _check_wanted(is_wanted)
        yield data_frame(parts)


def _decoded_message(message: bytes, batch: Batch) -> BatchReply:
    header, buffers = REPLIES.message(message)
    head = parse_reply(header, batch.operations)
    if not buffers:
        return head.reply(buffers)
    # What came in the message is read-only. A caller's own array gets a copy of it anyway. Any other value must
    # be writable, and so needs memory of its own.
    return head.reply(
        [bytearray(each) if target is None else each for each, target in zip_longest(buffers, head.targets)]
    )
