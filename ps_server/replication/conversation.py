"""The interfaces between a primary's link and its conversations with a follower, of which there is one at a time."""

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
"""In a second. A token is the time when it was made."""

Message: TypeAlias = tuple[replication_pb2.FollowFrame, list[memoryview]]
"""A frame, and the tensors beside it."""


class Conversation(ABC):
    """One conversation. Its fields are guarded by the link's lock."""

    def __init__(self) -> None:
        self.is_over = False
        self.is_attached = False
        self.needs_image = False
        self.takes_large_frames = False
        self.image_position: int | None = None  # newest record in the image that it sends
        self.cursor = 0  # newest record that it has sent
        self.long_record = (
            0  # one that takes the follower long, and is not answered; nothing but tokens is sent behind it
        )

    @abstractmethod
    def run(self) -> None:
        """Runs the conversation to its end, on the link's own thread; what it raises says why it ended.

        Raises:
            grpc.RpcError, OSError, ShardscopeError: It cannot go on.
        """

    @abstractmethod
    def hang_up(self) -> None:
        """Ends it, also for a thread that waits in it; with the link's lock held."""

    @property
    def may_be_driven(self) -> bool:
        """Whether a thread that waits for answers should call ``drive``, since no other thread does."""
        return False

    def drive(self) -> None:
        """Sends and receives a little; called with the link's lock, which it releases meanwhile.

        An error ends the conversation, and ``run`` raises it.
        """
        raise RuntimeError("this conversation sees to itself")


class Link(Protocol):
    """``BackupLink``, as conversations see it."""

    changed: threading.Condition

    def attachment(self) -> replication_pb2.FollowFrame:
        """The first message."""
        ...

    def image(self, conversation: Conversation) -> Iterator[Message]:
        """Takes an image of the state, and yields its parts; the records after it are sent next."""
        ...

    def next_records(self, conversation: Conversation, size_bytes: int) -> list[LoggedRecord]:
        """Takes records to send, up to a size but at least one if there is any; with the lock held."""
        ...

    def frame_of(self, logged: LoggedRecord) -> tuple[bytes, list[memoryview]]:
        """Returns the bytes of the frame with a record, and the tensors beside it; for any thread."""
        ...

    def has_unsent(self, conversation: Conversation) -> bool:
        """Whether there are any. Without the lock it may not see those that are put in just now."""
        ...

    def expects_answer(self) -> bool:
        """Whether the follower is not known to have everything; with the lock held."""
        ...

    def take(self, conversation: Conversation, answers: Sequence[replication_pb2.FollowAnswer]) -> None:
        """Handles answers; FailedPreconditionError if they are another follower's."""
        ...


@dataclass(slots=True)
class Tokens:
    """When to ask for a sign of life. One thread at a time.

    Attributes:
        every_s: How often.
        clock: Monotonic seconds.
        asked_s: When the last one was sent.
        heard: The newest one whose answer counts.
    """

    every_s: float
    clock: Callable[[], float]
    asked_s: float = float("-inf")
    heard: int = 0

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next."""
        return self.clock() - self.asked_s >= self.every_s

    def next(self) -> replication_pb2.FollowFrame:
        """Returns the next."""
        self.asked_s = self.clock()
        return replication_pb2.FollowFrame(token=max(1, int(self.asked_s * NANOSECONDS)), heard=self.heard)

    def hurry(self) -> None:
        """Makes the next one due; for any thread."""
        self.asked_s = float("-inf")


def record_message(logged: LoggedRecord) -> Message:
    """Returns the message for a record."""
    header, buffers = encode_record(logged)
    return replication_pb2.FollowFrame(record=header), buffers
