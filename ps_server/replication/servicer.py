"""The service ``Replication`` of ``replication.proto``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import grpc

from ps_protocol.v1 import replication_pb2
from ps_server.replication.arbiter import Arbiter
from ps_server.replication.follower import Follower, FollowStream
from ps_server.rpc_boundary import errors_as_status, unary

_SERVICE_NAME: Final = replication_pb2.DESCRIPTOR.services_by_name["Replication"].full_name


class ReplicationServicer:
    """Takes a primary's stream, and decides as an arbiter. Thread-safe.

    Args:
        follower: Takes the frames.
        arbiter: Decides about other tasks than this one.
    """

    def __init__(self, follower: Follower, arbiter: Arbiter):
        self._follower = follower
        self._arbiter = arbiter

    def add_to(self, server: grpc.Server) -> None:
        """Has a server offer the service."""
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Follow": grpc.stream_stream_rpc_method_handler(self.Follow),
            "Consult": grpc.unary_unary_rpc_method_handler(
                self.Consult,
                request_deserializer=replication_pb2.ConsultRequest.FromString,
                response_serializer=replication_pb2.ConsultReply.SerializeToString,
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE_NAME, handlers),))

    def Follow(  # noqa: N802 - the name is the contract's
        self, frames: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        with errors_as_status(context, self._follower.task):
            stream = FollowStream(self._follower)
            for frame in frames:
                answer = stream.feed(frame)
                if answer is not None:
                    yield answer.SerializeToString()

    def Consult(  # noqa: N802 - the name is the contract's
        self, request: replication_pb2.ConsultRequest, context: grpc.ServicerContext
    ) -> replication_pb2.ConsultReply:
        return unary(lambda asked, _timeout_s: self._arbiter.consult(asked), request, context, self._follower.task)
