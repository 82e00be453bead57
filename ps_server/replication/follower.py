"""The backup's side of replication: takes the primary's state, then every record in order."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias
from uuid import UUID

from ps_protocol.codec.spec_codec import decode_uuid
from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError, ShardscopeError, UnavailableError
from ps_protocol.fault_points import InjectedFaultError, fault_point, times_received
from ps_protocol.v1 import replication_pb2
from ps_server.log.commit_log import SinkUnavailableError
from ps_server.log.record_bytes import decode_record_bytes
from ps_server.log.records import LoggedRecord
from ps_server.log.replay import ReplayError
from ps_server.log.state_image import StateImage
from ps_server.replication.image_codec import ImageBuilder
from ps_server.replication.pair_settings import PairSettings
from ps_server.replication.read_lease import ReadLease
from ps_server.replication.stream_frames import FrameJoiner

_NO_ROOM_S: Final = 5.0
"""After an image that could not be written to the disk, so long no primary sends another."""

_LOG = logging.getLogger(__name__)

AnswerFirst: TypeAlias = Callable[[replication_pb2.FollowAnswer], bool]
"""Sends the answer to a record that has not been carried out, and does not wait; False if it is to be sent later."""


class FollowedState(Protocol):
    """``LoggedState`` before it is started, or where it is kept on disk ``KeptState``."""

    @property
    def replayed_position(self) -> int: ...

    @property
    def is_on_disk(self) -> bool:
        """Whether ``make_safe`` has a disk to wait for."""
        ...

    def adopt(self, store: UUID) -> None:
        """Told whose state will be restored, before anything of it is kept; OSError if that cannot be noted."""
        ...

    def restore(self, image: StateImage) -> None:
        """OSError if it cannot be kept, and the state is still empty."""
        ...

    def replay(self, record: LoggedRecord) -> None: ...

    def make_safe(self) -> int:
        """Returns up to where all is as safe as it is to be before the primary is answered."""
        ...


class Follower:
    """The state of a process that follows a primary, or may. Thread-safe.

    Args:
        state: Where images and records go; empty.
        task: The ps task, as "ps:0".
        process: This process.
        on_broken: Called once, with the reason, if the state cannot be used any more, for example since a record had
            another effect than at the primary. Must be quick.
        lease_s: Silence after which the other process counts as gone; 0 if no reads are answered.
        on_news: Called when its primary has ended a stream, which may mean that another is the primary. Must be quick.
        clock: Monotonic seconds.
        settings: What its primary has to have in common with it; None if that is not looked at.

    Attributes:
        is_leaving: Whether its answers say that this process is about to end.
        wants_place: Whether they say that it is to be the primary.
        has_state: Whether it has the state of its primary as of some record.
        is_stopped: Whether it has stopped answering any primary.
        epoch: Newest epoch that it has a part in, or that its primary has named.
        heard_s: When its primary last sent something.
        read_lease: Until when the primary acknowledges nothing without it, once it is the backup.
    """

    def __init__(
        self,
        state: FollowedState,
        *,
        task: str,
        process: UUID,
        on_broken: Callable[[str], None],
        lease_s: float = 0.0,
        on_news: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        settings: PairSettings | None = None,
    ):
        self.task = task
        self._settings = settings
        self._state = state
        self._process = process
        self._on_broken = on_broken
        self._on_news = on_news
        self._clock = clock
        # guards: all below and the state; held while a record or image is applied, so that nothing is applied or
        # answered after ``stop`` has returned
        self._lock = threading.Lock()
        # guards: whom it follows, and what that is promised, which must not wait for a record; taken under _lock
        self._promises = threading.Lock()
        self._newest: FollowStream | None = None
        self._answered_position = 0  # newest record that was answered before it was carried out
        self.has_state = False
        self.is_stopped = False
        self.is_leaving = False
        self.wants_place = False
        self._expected: UUID | None = None
        self._primary: UUID | None = None
        self._store: UUID | None = None
        self.epoch = 0
        self.heard_s = clock()
        self.read_lease = ReadLease(lease_s)
        self._no_room = ""  # why the last image could not be kept
        self._no_room_s = float("-inf")

    # -- for the replica ----------------------------------------------------------------------

    @property
    def is_attached(self) -> bool:
        """Whether a primary has sent it something since it last stopped; that primary may be gone."""
        return self._newest is not None

    @property
    def store(self) -> UUID:
        """Incarnation of the store that it has."""
        if self._store is None:
            raise RuntimeError("there is no state yet")
        return self._store

    def bring_back(self, store: UUID) -> None:
        """Called before all else when the state has been brought back from the disk: it follows nobody yet."""
        self._store, self.has_state, self.is_stopped = store, True, True

    def return_to(self, primary: UUID, epoch: int) -> None:
        """It is the backup of a primary, as it was before it was started again; that one has a whole lease to come."""
        with self._lock:
            self._primary, self.epoch = primary, epoch
        self.follow_again()

    def expect(self, primary: UUID | None) -> None:
        """Sets who the primary is, so that it takes nothing from an earlier one; None if that is not known."""
        self._expected = primary

    def begin_epoch(self, epoch: int) -> None:
        """From here on it answers no primary of an older epoch."""
        with self._lock:
            self.epoch = max(self.epoch, epoch)

    def leave(self) -> None:
        """From here on its answers tell the primary that this process is about to end."""
        self.is_leaving = True

    def stop(self) -> None:
        """Stops following: after this returns, nothing is applied or answered."""
        with self._lock, self._promises:
            self.is_stopped = True
            self._newest = None

    def check_may_read(self) -> None:
        """Called before a client's read is carried out at the backup, and again before it is answered.

        Raises:
            UnavailableError: Its primary may have gone on without it, or soon will; the client asks the primary.
        """
        if self._answered_position > self._state.replayed_position:
            with self._lock:
                pass  # the primary may have shown others what a record does that is being carried out here
        if self.is_stopped or self.is_leaving:
            raise UnavailableError(f"this process is not the backup of {self.task} any more; ask the primary")
        if not self.read_lease.holds(self._clock()):
            raise UnavailableError(
                f"this process is the backup of {self.task}, and has not heard of the primary recently enough to know "
                f"that it has every update; ask the primary"
            )
        self._make_safe()  # what was read is not to be lost with this process

    def follow_again(self) -> None:
        """Undoes ``stop``; its primary then has a whole lease to send something."""
        with self._lock:
            self.is_stopped = False
            self.heard_s = self._clock()

    # -- for the streams ----------------------------------------------------------------------

    def attach(self, stream: FollowStream, attachment: replication_pb2.Attachment) -> replication_pb2.FollowAnswer:
        """Handles a primary's first frame; earlier streams do not count any more.

        Raises:
            FailedPreconditionError: It is not the primary to follow, or not now.
            InvalidArgumentError: It has settings that this process lacks.
        """
        primary = decode_uuid(attachment.process, "process")
        store = decode_uuid(attachment.store_incarnation, "store")
        difference = "" if self._settings is None else self._settings.objection(attachment)
        with self._lock:
            if difference:
                if not self.has_state:  # there is a primary, in whose place it must not begin
                    self.heard_s = self._clock()
                raise InvalidArgumentError(difference)
            objection = self._objection(attachment, primary, store)
            if objection:
                raise FailedPreconditionError(objection)
            with self._promises:
                self._newest = stream
            self.epoch = attachment.epoch
            if not self.has_state:
                self._primary, self._store = primary, store
                self.heard_s = self._clock()
            # Else its primary may have let go of it, will send nothing, and tries again and again until it has ended.
            attached = replication_pb2.Attached(
                process=self._process.bytes, needs_image=not self.has_state, takes_large_frames=True
            )
            return self._answer(attached=attached)

    def restore(self, stream: FollowStream, image: StateImage) -> replication_pb2.FollowAnswer:
        """Restores the state from an image."""
        with self._lock:
            self._check_current(stream)
            if self.has_state:
                raise InvalidArgumentError("an image was sent to a follower that has the state already")
            try:
                self._state.adopt(self.store)
                self._state.restore(image)
            except OSError as error:
                self._no_room, self._no_room_s = f"its disk does not take the state: {error}", self._clock()
                raise UnavailableError(self._no_room) from error
            except ShardscopeError as error:
                self._break(f"the image of the primary's state cannot be used: {error.message}")
                raise
            self.heard_s = self._clock()  # nothing could be heard meanwhile, and a disk may take longer than a lease
            self.has_state = True
            _LOG.info("has the primary's state as of record %d, %d variables", image.position, len(image.variables))
            return self._answer()

    def apply(
        self, stream: FollowStream, logged: LoggedRecord, answer_first: AnswerFirst | None = None
    ) -> replication_pb2.FollowAnswer | None:
        """Carries out a record, unless that was done before.

        A record that is in memory here is not lost with the primary, whether it has been carried out or not: nothing
        comes between its answer and its effect but the end of this process. ``stop`` and reads wait for it.

        Args:
            stream: It came on it.
            logged: The record.
            answer_first: Sends the answer; called before the record is carried out, if nothing else is to be done for
                it to be as safe as it will be.

        Returns:
            The answer, unless it has been sent.
        """
        with self._lock:
            self._check_current(stream)
            if not self.has_state:
                raise InvalidArgumentError("a record was sent to a follower that has no state yet")
            answer, position = self._answer(), self._state.replayed_position
            is_sent = False
            if logged.position > position:
                if answer_first is not None and logged.position == position + 1 and not self._state.is_on_disk:
                    answer.position = self._answered_position = logged.position
                    is_sent = answer_first(answer)
                    if is_sent:
                        fault_point("replication.answered")
                try:
                    self._state.replay(logged)
                except SinkUnavailableError as error:
                    raise _not_taken(error) from error
                except (ReplayError, ShardscopeError) as error:
                    self._break(f"the state differs from the primary's: {error}")
                    raise FailedPreconditionError(f"the follower's state differs: {error}") from error
            return None if is_sent else answer

    def hear(self, stream: FollowStream) -> None:
        """Notes that the primary lives. Its lease, which the next answer promises, counts from now."""
        with self._promises:
            self._check_current(stream)
            self.heard_s = self._clock()

    def answer_token(self, stream: FollowStream, token: int, heard: int = 0) -> replication_pb2.FollowAnswer:
        """Answers a token: the promise not to take over for a lease. Arguments as of ``ReadLease.answer``.

        Also while a record is carried out: ``stop`` waits for that, and looks when a token was heard last.
        """
        with self._promises:
            self._check_current(stream)
            self.read_lease.answer(token, heard, self._clock())
            return self._answer(token=token)

    def complete(self, stream: FollowStream, answer: replication_pb2.FollowAnswer) -> replication_pb2.FollowAnswer:
        """Returns an answer with the position up to which all is safe by now; the last thing before it is sent.

        Raises:
            FailedPreconditionError: It has stopped following meanwhile.
            UnavailableError: The disk takes nothing now. Nothing is answered, so that the primary goes on alone if that
                lasts.
        """
        with self._lock:
            self._check_current(stream)
            answer.position = self._make_safe()
            return answer

    def sign(self) -> replication_pb2.FollowAnswer:
        """A sign of life that promises nothing."""
        return self._answer()

    def detach(self, stream: FollowStream) -> None:
        """Notes that a stream has ended."""
        if self._newest is stream:
            self._on_news()

    def _answer(
        self, *, attached: replication_pb2.Attached | None = None, token: int = 0
    ) -> replication_pb2.FollowAnswer:
        return replication_pb2.FollowAnswer(
            attached=attached,
            token=token,
            leaving=self.is_leaving,
            wants_place=self.wants_place,
        )

    def _objection(self, attachment: replication_pb2.Attachment, primary: UUID, store: UUID) -> str:
        if attachment.task != self.task:
            return f"this process is of {self.task}, not of {attachment.task}; the cluster specs differ"
        if self.is_stopped:
            return "it does not follow: it is the primary, or asks to become it"
        if attachment.epoch < self.epoch:
            return f"epoch {attachment.epoch} is over; it knows epoch {self.epoch}"
        if self._clock() - self._no_room_s < _NO_ROOM_S:
            return f"{self._no_room}; it is tried again every {_NO_ROOM_S:.0f} s"
        if not self.has_state:
            is_expected = self._expected in (None, primary)
            return "" if is_expected else "another process is the primary now"
        return "" if (primary, store) == (self._primary, self._store) else "it has the state of another primary"

    def _check_current(self, stream: FollowStream) -> None:
        if self._newest is not stream:
            raise FailedPreconditionError("it does not follow on this stream any more")

    def _make_safe(self) -> int:
        try:
            return self._state.make_safe()
        except SinkUnavailableError as error:
            raise _not_taken(error) from error
        except Exception as error:
            self._break(f"what is on its disk is not known: {error}")
            raise

    def _break(self, reason: str) -> None:
        with self._promises:
            self.is_stopped, self._newest = True, None
        self._on_broken(reason)


def _not_taken(error: SinkUnavailableError) -> UnavailableError:
    return UnavailableError(f"its disk takes no records: {error}")


class FollowStream:
    """One stream of a primary's, by frames of gRPC or whole messages. One thread.

    Args:
        follower: Takes what comes.

    Attributes:
        is_attached: Whether the follower has followed on it; it may follow on another now.
    """

    def __init__(self, follower: Follower):
        self._follower = follower
        self._joiner = FrameJoiner()
        self._image: ImageBuilder | None = None
        self.is_attached = False

    def feed(self, frame: bytes) -> replication_pb2.FollowAnswer | None:
        """Handles a frame; returns the answer, if there is one.

        Raises:
            InvalidArgumentError: It is malformed, or out of order.
            FailedPreconditionError: The follower does not follow this primary, or not any more.
        """
        self.hear()
        joined = self._joiner.feed(frame)
        answer = None if joined is None else self.take(*joined)
        return None if answer is None else self.complete(answer)

    def end(self) -> None:
        """Notes that nothing will come any more."""
        self._follower.detach(self)

    def hear(self) -> None:
        """Notes that something has come; FailedPreconditionError if the follower follows on another stream."""
        if self.is_attached:
            self._follower.hear(self)

    def complete(self, answer: replication_pb2.FollowAnswer) -> replication_pb2.FollowAnswer:
        """Completes the newest answer, which stands for those before it too; see ``Follower.complete``."""
        return self._follower.complete(self, answer)

    def take(self, message: replication_pb2.FollowFrame, data: memoryview) -> replication_pb2.FollowAnswer | None:
        """As ``feed``, for a whole message; the answer is to be completed.

        Args:
            message: The message.
            data: The tensors beside it. If it is read-only, what is kept of it is copied; else the state may keep
                views of it.
        """
        if not self.is_attached:
            if not message.HasField("attachment"):
                raise InvalidArgumentError("the first frame is not an attachment")
            answer = self._follower.attach(self, message.attachment)
            self.is_attached = True
            return answer
        if message.HasField("record"):
            return self.take_record(message.record.SerializeToString(), data)
        if message.HasField("image"):
            self._image = self._image or ImageBuilder()
            image = self._image.add(message.image, data)
            return None if image is None else self._follower.restore(self, image)
        if message.token:
            return self._follower.answer_token(self, message.token, message.heard)
        raise InvalidArgumentError("a frame holds nothing that this version knows")

    def take_record(
        self, header: bytes, data: memoryview, answer_first: AnswerFirst | None = None
    ) -> replication_pb2.FollowAnswer | None:
        """As ``take``, for a message with a record: its bytes, and the tensors beside it.

        Returns:
            The answer, unless ``answer_first`` has sent it: see ``Follower.apply``.
        """
        if not self.is_attached:
            raise InvalidArgumentError("the first frame is not an attachment")
        logged = decode_record_bytes(header, data)
        try:
            answers = [
                self._follower.apply(self, logged, answer_first) for _ in range(times_received("replication.received"))
            ]
            times_received("replication.applied")
        except InjectedFaultError as fault:
            raise UnavailableError(str(fault)) from fault
        return answers[-1]
