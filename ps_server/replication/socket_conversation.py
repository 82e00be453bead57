"""A conversation over a connection of its own: faster than gRPC.

No thread sleeps on the connection until an answer comes. A thread that waits for an answer drives the conversation: it
sends what there is to send, and receives the answers itself, so that no other thread has to be woken. When no thread
waits, the link's own thread drives it: it sends tokens, and brings a new follower into step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ps_protocol.errors import UnavailableError
from ps_protocol.fault_points import fault_point
from ps_protocol.v1 import replication_pb2
from ps_server.log.records import LoggedRecord
from ps_server.replication.connection import FollowerConnection
from ps_server.replication.conversation import Conversation, Link, Tokens

_BURST_BYTES: Final = 32 * 1024
"""Small records are sent together up to this size."""

_LOOK_EVERY_S: Final = 0.2
_STOP_TIMEOUT_S: Final = 10.0


class SocketConversation(Conversation):
    """Thread-safe by the link's lock; one thread drives it at a time.

    Args:
        link: Whose conversation it is.
        connection: Owned.
        tokens: When to ask for a sign of life.
    """

    def __init__(self, link: Link, connection: FollowerConnection, tokens: Tokens):
        super().__init__()
        self._link = link
        self._connection = connection  # of the thread that drives
        self._tokens = tokens  # likewise
        self._is_driven = False
        self._sends_image = False  # the follower does not answer the parts
        self._sends_records = False  # the follower has the image, or needs none
        self._failure: Exception | None = None  # why it is over

    def run(self) -> None:
        link, connection = self._link, self._connection
        try:
            connection.put(link.attachment())
            self._drive_until(lambda: self.is_attached)
            self._sends_image = self.needs_image
            if self.needs_image:
                for part, buffers in link.image(self):
                    connection.put(part, buffers)
                    self._drive_until(lambda: connection.is_clear)
            self._sends_image = False
            self._sends_records = True
            while not self.is_over:
                self._keep_up()
            if self._failure is not None:
                raise self._failure
        finally:
            with link.changed:
                self.hang_up()
                # The thread that drives ends soon: its waits are bounded, and the connection is broken.
                link.changed.wait_for(lambda: not self._is_driven, _STOP_TIMEOUT_S)
            connection.close()

    def hang_up(self) -> None:
        self.is_over = True
        self._connection.abort()
        self._link.changed.notify_all()

    @property
    def may_be_driven(self) -> bool:
        return self._sends_records and not (self._is_driven or self.is_over)

    def drive(self) -> None:
        link = self._link
        lock = link.changed
        self._is_driven = True
        records = link.next_records(self, _BURST_BYTES) if self._sends_records else []
        lock.release()
        answers: list[replication_pb2.FollowAnswer] = []
        try:
            answers = self._send_and_receive(records)
        except Exception as error:  # noqa: BLE001 - ``run`` raises it again
            self._failure = error
        finally:
            lock.acquire()
            self._is_driven = False
            self._take(answers)
            if self._failure is not None:
                self.hang_up()
            lock.notify_all()

    # -- the link's own thread ----------------------------------------------------------------

    def _drive_until(self, is_done: Callable[[], bool]) -> None:
        while not is_done():
            with self._link.changed:
                self.drive()
            if self.is_over:
                raise self._failure or UnavailableError("the conversation was given up")

    def _keep_up(self) -> None:
        link = self._link
        with link.changed:
            if self.may_be_driven and (link.expects_answer() or self._tokens.is_due or not self._connection.is_clear):
                self.drive()
                return
        self._connection.wait_for_end(min(_LOOK_EVERY_S, self._tokens.every_s))

    # -- the thread that drives ---------------------------------------------------------------

    def _send_and_receive(self, records: Sequence[LoggedRecord]) -> list[replication_pb2.FollowAnswer]:
        """Sends records, and all that is to be sent by then; returns the answers that have come at the end."""
        link, connection = self._link, self._connection
        self._put_token_if_due()
        self._put(records)
        while not connection.is_clear:
            if not connection.send():
                return connection.receive(waits=False)  # the other side takes no more just now
            if connection.is_clear:
                if self._sends_records and link.has_unsent(self):
                    with link.changed:
                        records = link.next_records(self, _BURST_BYTES)
                    self._put(records)
            else:
                answers = connection.receive(waits=False)
                if answers:
                    with link.changed:
                        link.take(self, answers)
                self._put_token_if_due()
        return connection.receive(waits=not self._sends_image)

    def _take(self, answers: Sequence[replication_pb2.FollowAnswer]) -> None:
        """With the lock held."""
        if answers and self._failure is None:
            try:
                self._link.take(self, answers)
            except Exception as error:  # noqa: BLE001 - as above
                self._failure = error

    def _put(self, records: Sequence[LoggedRecord]) -> None:
        for logged in records:
            if fault_point("replication.send") is not None:
                raise UnavailableError("the conversation was ended by a fault injected at replication.send")
            self._connection.put_bytes(*self._link.frame_of(logged))

    def _put_token_if_due(self) -> None:
        if self.is_attached and self._tokens.is_due:
            self._connection.put_first(self._tokens.next())
