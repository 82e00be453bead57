"""Asks the standard gRPC health service of a server whether it serves."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ps_protocol.grpc_edge import channel_options, status


def check_health(address: str, *, service: str = "", timeout_s: float) -> str:
    """Returns what the service says: "SERVING", "NOT_SERVING" or "UNKNOWN".

    Args:
        address: "host:port".
        service: Of what; empty for the whole server.
        timeout_s: How long it may take.

    Raises:
        ShardscopeError: It cannot be reached, has not answered in time, or has no health service.
    """
    with grpc.insecure_channel(address, options=channel_options.client_options()) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # the type stubs leave its methods out
        try:
            reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
        except grpc.RpcError as error:
            raise status.from_rpc_error(error, task="", address=address) from None
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))
