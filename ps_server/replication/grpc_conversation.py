"""A conversation as a gRPC call of ``Follow``: slower, for followers that offer no connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import grpc

from ps_protocol.fault_points import fault_point
from ps_protocol.v1 import replication_pb2
from ps_server.replication.conversation import Conversation, Link, Tokens, record_message
from ps_server.replication.stream_frames import frames_of

FOLLOW: Final = f"/{replication_pb2.DESCRIPTOR.services_by_name['Replication'].full_name}/Follow"


class GrpcConversation(Conversation):
    """Sends on a thread of gRPC's, and receives on the link's own.

    Args:
        link: Whose conversation it is.
        channel: To the follower.
        tokens: When to ask for a sign of life.
        patience_s: How long it waits for the answer to the attachment.
    """

    def __init__(self, link: Link, channel: grpc.Channel, tokens: Tokens, *, patience_s: float):
        super().__init__()
        self._link = link
        self._tokens = tokens
        self._patience_s = patience_s
        self._channel = channel
        self._call: grpc.Call | None = None  # guarded like the rest

    def run(self) -> None:
        follow: grpc.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(FOLLOW)
        link = self._link
        call = follow(self._frames())
        with link.changed:
            self._call = call
            if self.is_over:
                call.cancel()
        try:
            for answer in call:
                with link.changed:
                    link.take(self, [replication_pb2.FollowAnswer.FromString(answer)])
        finally:
            call.cancel()

    def hang_up(self) -> None:
        self.is_over = True
        if self._call is not None:
            self._call.cancel()
        self._link.changed.notify_all()

    # -- what is sent, on a thread of gRPC's --------------------------------------------------

    def _frames(self) -> Iterator[bytes]:
        link = self._link
        yield link.attachment().SerializeToString()
        with link.changed:
            link.changed.wait_for(lambda: self.is_attached or self.is_over, self._patience_s)
            if not self.is_attached:
                return
        yield from self._token_if_due()
        if self.needs_image:
            for part, buffers in link.image(self):
                for frame in frames_of(part, buffers, cuts=self.takes_large_frames):
                    yield frame
                    yield from self._token_if_due()
        while not self.is_over:
            with link.changed:
                link.changed.wait_for(lambda: self.is_over or link.has_unsent(self), self._tokens.every_s)
                records = link.next_records(self, 0)
            for logged in records:
                if fault_point("replication.send") is not None:
                    with link.changed:
                        self.hang_up()
                    return
                for frame in frames_of(*record_message(logged), cuts=self.takes_large_frames):
                    yield frame
                    yield from self._token_if_due()
            yield from self._token_if_due()

    def _token_if_due(self) -> Iterator[bytes]:
        if self._tokens.is_due:
            yield self._tokens.next().SerializeToString()
