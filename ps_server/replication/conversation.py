"""What a primary's link and its conversations with a follower have in common; one conversation follows the other."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from ps_protocol.v1 import replication_pb2
from ps_server.log.record_codec import encode_record
from ps_server.log.records import LoggedRecord

NANOSECONDS: Final = 1_000_000_000
"""Of a second: tokens are the time when they were made."""

Message: TypeAlias = tuple[replication_pb2.FollowFrame, list[memoryview]]
"""What is sent, and the tensors beside it."""


class Conversation(ABC):
    """One conversation. Its fields are guarded by the link's lock."""

    def __init__(self) -> None:
        self.is_over = False
        self.is_attached = False
        self.needs_image = False
        self.image_position: int | None = None  # newest record in the image that is sent in it
        self.cursor = 0  # newest record that was sent in it

    @abstractmethod
    def run(self) -> None:
        """Converses until it is over, by the link's own thread; whatever it raises says why.

        Raises:
            grpc.RpcError, OSError, ShardscopeError: It cannot go on.
        """

    @abstractmethod
    def hang_up(self) -> None:
        """Ends it, under whoever waits in it; with the link's lock held."""

    @property
    def may_be_driven(self) -> bool:
        """Whether a thread that waits for answers should call ``drive``, since nobody else sees to them just now."""
        return False

    def drive(self) -> None:
        """Sends and receives a little; with the link's lock held, which it lets go of meanwhile.

        Whatever goes wrong ends the conversation, and is raised by ``run``.
        """
        raise RuntimeError("this conversation sees to itself")


class Link(Protocol):
    """``BackupLink``, as conversations see it."""

    changed: threading.Condition

    def attachment(self) -> replication_pb2.FollowFrame:
        """The first message."""
        ...

    def image(self, conversation: Conversation) -> Iterator[Message]:
        """Takes the state, and yields its parts; the records after it are sent next."""
        ...

    def next_records(self, conversation: Conversation, size_bytes: int) -> list[LoggedRecord]:
        """Takes records that are to be sent, the first of which may go beyond the size; with the lock held."""
        ...

    def has_unsent(self, conversation: Conversation) -> bool:
        """Whether there are any; with the lock held."""
        ...

    def expects_answer(self) -> bool:
        """Whether the follower is not known to have everything; with the lock held."""
        ...

    def take(self, conversation: Conversation, answers: Sequence[replication_pb2.FollowAnswer]) -> None:
        """Takes answers in; FailedPreconditionError if it is the wrong follower."""
        ...


@dataclass(slots=True)
class Tokens:
    """When to ask for a sign of life. One thread at a time.

    Attributes:
        every_s: How often.
        clock: Monotonic seconds.
        asked_s: When it was asked for the last time.
    """

    every_s: float
    clock: Callable[[], float]
    asked_s: float = float("-inf")

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next."""
        return self.clock() - self.asked_s >= self.every_s

    def next(self) -> replication_pb2.FollowFrame:
        """Returns the next."""
        self.asked_s = self.clock()
        return replication_pb2.FollowFrame(token=max(1, int(self.asked_s * NANOSECONDS)))


def record_message(logged: LoggedRecord) -> Message:
    """Returns a record as it is sent."""
    header, buffers = encode_record(logged)
    return replication_pb2.FollowFrame(record=header), buffers
