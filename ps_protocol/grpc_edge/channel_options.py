"""Settings of gRPC channels and servers that both sides must agree on, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ps_protocol.codec.limits import MAX_MESSAGE_BYTES, MAX_TAKEN_BYTES
from ps_protocol.liveness import KEEPALIVE_INTERVAL_S, KEEPALIVE_TIMEOUT_S

Options: TypeAlias = list[tuple[str, str | int]]
"""What ``grpc.insecure_channel``, ``grpc.secure_channel`` and ``grpc.server`` take as ``options``."""

INITIAL_RECONNECT_BACKOFF_S = 0.1
MAX_RECONNECT_BACKOFF_S = 1.0
"""Longest pause between two attempts to connect. gRPC's own two minutes suit services with thousands of clients. Here
clients must quickly find a ps that starts late or again."""

CONNECT_TIMEOUT_S = 5.0
"""Longest an attempt to connect may take before the next one starts."""

_MAX_METADATA_BYTES = 64 * 1024
_MAX_CALLS = 100
"""Calls that may be open on one connection."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What a ps task's server takes.

    Attributes:
        message_bytes: Most bytes of one message.
        connections: Most connections; further ones are ended at once.
        handshake_timeout_s: How long a new connection may take to begin with HTTP/2.
        idle_timeout_s: How long a connection may be open without a call; 0 for ever. It is ended in good order, and the
            client opens another one with its next call.
    """

    message_bytes: int = MAX_TAKEN_BYTES
    connections: int = 4096
    handshake_timeout_s: float = 5.0
    idle_timeout_s: float = 60.0


def client_options() -> Options:
    """Returns the options of a channel to a ps task."""
    return [
        *_common_options(),
        # A reply that comes as a stream is received by the thread that waits for it, without another one in between.
        ("SingleThreadedUnaryStream", 1),
        # The client retries by itself: it knows what may be repeated, and counts retries against its deadline.
        ("grpc.enable_retries", 0),
        # Two channels to one address have two connections, so that a bulk transfer on one does not hold up the other,
        # and closing one does not disturb it.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", _milliseconds(INITIAL_RECONNECT_BACKOFF_S)),
        ("grpc.max_reconnect_backoff_ms", _milliseconds(MAX_RECONNECT_BACKOFF_S)),
        ("grpc.min_reconnect_backoff_ms", _milliseconds(CONNECT_TIMEOUT_S)),
        # Tasks of a cluster talk to each other directly; a proxy for outside traffic would not find them.
        ("grpc.enable_http_proxy", 0),
    ]


def server_options(limits: ServerLimits | None = None) -> Options:
    """Returns the options of a ps task's server."""
    limits = limits or ServerLimits()
    idle: Options = [("grpc.max_connection_idle_ms", _milliseconds(limits.idle_timeout_s))]
    return [
        *_common_options(limits.message_bytes),
        # Without these, whoever opens connections takes all descriptors of the process.
        ("grpc.max_allowed_incoming_connections", limits.connections),
        # What a client calls beyond it waits there. Calls that were reset count until the ps is done with them, so that
        # a connection cannot make more work than it may have calls.
        ("grpc.max_concurrent_streams", _MAX_CALLS),
        ("grpc.server_handshake_timeout_ms", _milliseconds(limits.handshake_timeout_s)),
        *(idle if limits.idle_timeout_s else []),
        # By default a second server binds the same port without an error, and takes half of the calls.
        ("grpc.so_reuseport", 0),
        # A server that is pinged more often than it allows (by default every 5 minutes) hangs up with
        # GOAWAY "too_many_pings". Half the interval of the clients leaves room for late and early ones.
        ("grpc.http2.min_ping_interval_without_data_ms", _milliseconds(KEEPALIVE_INTERVAL_S / 2)),
    ]


def _common_options(max_received_bytes: int = MAX_MESSAGE_BYTES) -> Options:
    return [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", max_received_bytes),
        # Errors travel in the trailers; with the default of 8 KiB a long one would arrive as RESOURCE_EXHAUSTED.
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        # Otherwise a call to a peer that has lost power or network would wait until TCP gives up.
        ("grpc.keepalive_time_ms", _milliseconds(KEEPALIVE_INTERVAL_S)),
        ("grpc.keepalive_timeout_ms", _milliseconds(KEEPALIVE_TIMEOUT_S)),
        # Also while no call is running: between two steps of a training nothing else would notice a lost peer.
        ("grpc.keepalive_permit_without_calls", 1),
        # By default only two pings are sent without data between them.
        ("grpc.http2.max_pings_without_data", 0),
    ]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
