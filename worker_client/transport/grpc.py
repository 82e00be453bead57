"""The gRPC way to a ps task: the reference transport, and the way of everything that is not data.

A batch whose tensors are small goes out and comes back in one message; a larger one goes on a stream of its own,
cut into chunks, since a large message in one piece takes several times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar
from uuid import UUID

import grpc

from ps_protocol import channel_options, message_codec, status
from ps_protocol.errors import InternalError, ShardscopeError
from ps_protocol.frames import Assembler, cut
from ps_protocol.operations import Batch, BatchReply, Gather, Read
from ps_protocol.ps_service import PROTOCOL_VERSION, Member, Placement, Proposal, Status, VariableInfo, Welcome
from ps_protocol.v1 import (
    batch_pb2,
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

_Reply = TypeVar("_Reply")


def connect(address: str, *, task: str) -> GrpcPsService:
    """Opens a channel; nothing is sent yet, and the ps need not be there.

    Args:
        address: "host:port" of the ps.
        task: Its name, as "ps:0", for the errors.
    """
    channel = grpc.insecure_channel(address, options=channel_options.client_options())
    return GrpcPsService(channel, address=address, task=task)


class GrpcPsService:
    """A ``PsService`` at the other end of a channel. Thread-safe.

    Args:
        channel: Owned: ``close`` closes it.
        address: "host:port", for the errors.
        task: The ps's name, as "ps:0", for the errors.
    """

    def __init__(self, channel: grpc.Channel, *, address: str, task: str):
        self._channel = channel
        self._address = address
        self._task = task
        self._data = data_pb2_grpc.DataStub(channel)
        self._directory = directory_pb2_grpc.DirectoryStub(channel)
        self._membership = membership_pb2_grpc.MembershipStub(channel)
        self._inspection = inspection_pb2_grpc.InspectionStub(channel)
        self._control = control_pb2_grpc.ControlStub(channel)

    # -- data ---------------------------------------------------------------------------------

    def hello(self, client: UUID, task: str, *, timeout_s: float) -> Welcome:
        request = data_pb2.HelloRequest(client_incarnation=client.bytes, task=task, protocol_version=PROTOCOL_VERSION)
        return message_codec.decode_welcome(self._call(self._data.Hello, request, timeout_s))

    def goodbye(self, client: UUID, *, timeout_s: float) -> None:
        self._call(self._data.Goodbye, data_pb2.GoodbyeRequest(client_incarnation=client.bytes), timeout_s)

    def exchange(self, batch: Batch, *, timeout_s: float) -> BatchReply:
        header, buffers = message_codec.encode_batch(batch)
        request_bytes = sum(len(buffer) for buffer in buffers)
        if max(request_bytes, _expected_reply_bytes(batch)) <= channel_options.UNARY_LIMIT_BYTES:
            request = data_pb2.ExchangeRequest(header=header, buffers=[bytes(buffer) for buffer in buffers])
            reply = self._call(self._data.Exchange, request, timeout_s)
            # The buffers of a message are read-only; what a caller reads is its own to change.
            return message_codec.decode_reply(reply.header, [bytearray(buffer) for buffer in reply.buffers])
        return self._exchange_stream(header, buffers, timeout_s)

    def _exchange_stream(
        self, header: batch_pb2.BatchRequest, buffers: Sequence[memoryview], timeout_s: float
    ) -> BatchReply:
        def frames() -> Iterator[data_pb2.RequestFrame]:
            yield data_pb2.RequestFrame(header=header)
            for chunk in cut(buffers, channel_options.CHUNK_SIZE_BYTES):
                yield data_pb2.RequestFrame(data=chunk)

        try:
            replies = self._data.ExchangeStream(frames(), timeout=timeout_s)
            try:
                return self._receive(replies)
            finally:
                replies.cancel()  # without effect on a stream that has ended
        except grpc.RpcError as error:
            raise status.from_rpc_error(error, task=self._task, address=self._address) from error

    def _receive(self, frames: Iterator[data_pb2.ReplyFrame]) -> BatchReply:
        first = next(frames, None)
        if first is None or first.WhichOneof("frame") != "header":
            raise InternalError("the ps ended the stream without a reply", task=self._task, retryable=True)
        assembler = Assembler(message_codec.reply_layouts(first.header))
        for frame in frames:
            assembler.feed(frame.data)
        if assembler.missing_bytes:
            raise InternalError(
                f"the ps ended its reply {assembler.missing_bytes} bytes early", task=self._task, retryable=True
            )
        return message_codec.decode_reply(first.header, assembler.buffers)

    # -- directory and membership -------------------------------------------------------------

    def place(
        self, proposals: Sequence[Proposal], *, store: UUID | None = None, timeout_s: float
    ) -> list[Placement | ShardscopeError]:
        request = directory_pb2.PlaceRequest(
            proposals=[message_codec.encode_proposal(each) for each in proposals],
            store_incarnation=store.bytes if store else b"",
        )
        reply = self._call(self._directory.Place, request, timeout_s)
        return [message_codec.decode_placement(each) for each in reply.placements]

    def list_placements(self, *, timeout_s: float) -> list[Placement]:
        reply = self._call(self._directory.ListPlacements, directory_pb2.ListPlacementsRequest(), timeout_s)
        placements = [message_codec.decode_placement(each) for each in reply.placements]
        return [each for each in placements if isinstance(each, Placement)]

    def join(self, task: str, incarnation: UUID, host: str, pid: int, *, timeout_s: float) -> None:
        request = membership_pb2.JoinRequest(task=task, incarnation=incarnation.bytes, host=host, pid=pid)
        self._call(self._membership.Join, request, timeout_s)

    def leave(self, task: str, incarnation: UUID, *, timeout_s: float) -> None:
        request = membership_pb2.LeaveRequest(task=task, incarnation=incarnation.bytes)
        self._call(self._membership.Leave, request, timeout_s)

    def report_progress(self, task: str, incarnation: UUID, step: int, *, timeout_s: float) -> None:
        request = membership_pb2.ReportProgressRequest(task=task, incarnation=incarnation.bytes, step=step)
        self._call(self._membership.ReportProgress, request, timeout_s)

    def list_members(self, *, timeout_s: float) -> list[Member]:
        reply = self._call(self._membership.ListMembers, membership_pb2.ListMembersRequest(), timeout_s)
        return [message_codec.decode_member(each) for each in reply.members]

    # -- inspection and control ---------------------------------------------------------------

    def list_variables(self, *, timeout_s: float) -> list[VariableInfo]:
        reply = self._call(self._inspection.ListVariables, inspection_pb2.ListVariablesRequest(), timeout_s)
        return [message_codec.decode_variable_info(each) for each in reply.variables]

    def status(self, *, timeout_s: float) -> Status:
        return message_codec.decode_status(
            self._call(self._inspection.GetStatus, inspection_pb2.GetStatusRequest(), timeout_s)
        )

    def drain(self, reason: str, *, timeout_s: float) -> None:
        self._call(self._control.Drain, control_pb2.DrainRequest(reason=reason), timeout_s)

    def shutdown(self, reason: str, *, timeout_s: float) -> None:
        self._call(self._control.Shutdown, control_pb2.ShutdownRequest(reason=reason), timeout_s)

    def close(self) -> None:
        self._channel.close()

    def _call(self, method: Callable[..., _Reply], request: Any, timeout_s: float) -> _Reply:
        try:
            return method(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise status.from_rpc_error(error, task=self._task, address=self._address) from error


def _expected_reply_bytes(batch: Batch) -> float:
    if batch.expected_reply_bytes is not None:
        return batch.expected_reply_bytes
    returns_tensors = any(isinstance(operation, (Read, Gather)) for operation in batch.operations)
    return float("inf") if returns_tensors else 0
