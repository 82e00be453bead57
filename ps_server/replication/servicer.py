"""The service ``Replication`` of ``replication.proto``."""
# ruff: noqa: N802 - the names of the methods are the contract's

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias
from uuid import UUID

import grpc

from ps_protocol.errors import FailedPreconditionError
from ps_protocol.sockets.frames import SOCKET_PROTOCOL_VERSION
from ps_protocol.sockets.stream import SocketStream
from ps_protocol.v1 import replication_pb2
from ps_server.replication.follow_session import FollowSession
from ps_server.replication.follower import Follower, FollowStream
from ps_server.replication.replica_doors import Reasons
from ps_server.transport.grpc.boundary import errors_as_status, message_handler, unary

_SERVICE_NAME: Final = replication_pb2.DESCRIPTOR.services_by_name["Replication"].full_name


Admit: TypeAlias = Callable[[Callable[[SocketStream], None]], tuple[int, UUID, bytes]]
"""``SocketListener.admit``."""


class ReplicationServicer:
    """Receives a primary's stream. Thread-safe.

    Args:
        follower: Takes the frames.
        silence_s: Silence after which a connection ends.
        admit: Admits a connection of a primary; None if there is no socket port, so that frames come over gRPC.
    """

    def __init__(self, follower: Follower, *, silence_s: float, admit: Admit | None = None):
        self._follower = follower
        self.task = follower.task
        self._silence_s = silence_s
        self._endings = Reasons(follower.task, time.monotonic)
        self._admit = admit

    def add_to(self, server: grpc.Server) -> None:
        """Adds the service to a server."""
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Connect": message_handler(self.Connect, replication_pb2.ConnectRequest, replication_pb2.ConnectReply),
            "Follow": grpc.stream_stream_rpc_method_handler(self.Follow),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE_NAME, handlers),))

    def Follow(self, frames: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        with errors_as_status(context, self.task):
            stream = FollowStream(self._follower)
            try:
                for frame in frames:
                    answer = stream.feed(frame)
                    if answer is not None:
                        yield answer.SerializeToString()
            finally:
                stream.end()

    @unary
    def Connect(self, request: replication_pb2.ConnectRequest, _timeout_s: float) -> replication_pb2.ConnectReply:
        if request.task != self.task:
            raise FailedPreconditionError(
                f"this process is of {self.task}, not of {request.task}; the cluster specs differ"
            )
        if self._admit is None:
            return replication_pb2.ConnectReply()
        port, visitor, ticket = self._admit(self._serve)
        return replication_pb2.ConnectReply(
            port=port, visitor=visitor.bytes, ticket=ticket, newest_version=SOCKET_PROTOCOL_VERSION
        )

    def _serve(self, stream: SocketStream) -> None:
        FollowSession(stream, self._follower, silence_s=self._silence_s, endings=self._endings).serve()
