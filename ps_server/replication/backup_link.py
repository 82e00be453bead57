"""The primary's side of replication: brings the other process of the task into step, and keeps it there.

The link is a sink of the primary's log. As long as nobody follows, records pass it by. A follower that has nothing is
sent an image of the state, while the records since are kept; when it has those too it is in step, and from then on a
record is safe only when it has it. That it may take over from then on is granted by the arbiter, later.
"""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import grpc

from ps_protocol import channel_options, status
from ps_protocol.errors import FailedPreconditionError, ShardscopeError
from ps_protocol.fault_points import fault_point
from ps_protocol.operations import tensors_of
from ps_protocol.spec_codec import decode_uuid
from ps_protocol.v1 import replication_pb2
from ps_server.commit_log import SinkUnavailableError
from ps_server.record_codec import encode_record
from ps_server.records import AppliedBatch, LoggedRecord
from ps_server.replication.image_codec import encode_image
from ps_server.replication.stream_frames import frames_of
from ps_server.state_image import StateImage

_LOG = logging.getLogger(__name__)

FOLLOW: Final = f"/{replication_pb2.DESCRIPTOR.services_by_name['Replication'].full_name}/Follow"

_TOKENS_PER_LEASE: Final = 6
_TRY_EVERY_S: Final = 0.2
_IMAGE_TIMEOUT_S: Final = 30.0
_PATIENCE_S: Final = 1.0
_STOP_TIMEOUT_S: Final = 10.0
_NANOSECONDS: Final = 1_000_000_000

_CATCHING_UP: Final = "it is catching up"
_SILENT: Final = "it is silent"


class _Mode(enum.Enum):
    ALONE = enum.auto()
    CATCHING_UP = enum.auto()
    IN_STEP = enum.auto()


class _Stream:
    """One call of ``Follow``. Its fields are guarded by the link's lock."""

    def __init__(self) -> None:
        self.is_over = False
        self.is_attached = False
        self.needs_image = False
        self.image_position: int | None = None  # newest record in the image that is sent on it
        self.cursor = 0  # newest record that was sent on it


@dataclass(frozen=True, slots=True)
class Place:
    """The other process of a task.

    Attributes:
        name: As "backup:0".
        address: As "host:port".
    """

    name: str
    address: str

    def __str__(self) -> str:
        return f"{self.name} at {self.address}"


class BackupLink:
    """A ``RecordSink`` that is on another process. Thread-safe.

    Args:
        place: Where the other process is.
        task: The ps task, as "ps:0".
        process: This process.
        take_image: Returns the state as of now, waiting so many seconds at most.
        lease_s: Silence after which the other one counts as gone.
        backlog_bytes: The most that is kept for a follower that catches up; then updates wait for it.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        place: Place,
        *,
        task: str,
        process: UUID,
        take_image: Callable[[float], StateImage],
        lease_s: float,
        backlog_bytes: int = 256 * 1024**2,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._place = place
        self._task = task
        self._process = process
        self._take_image = take_image
        self._lease_s = lease_s
        self._backlog_bytes = backlog_bytes
        self._clock = clock
        # guards: all below; no other lock is taken under it
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._mode = _Mode.ALONE
        self._peer: UUID | None = None  # who follows
        self._is_held = False  # the peer is, or may be, the backup: not to be let go of
        self._is_replaced = False
        self._queue: deque[LoggedRecord] = deque()  # not answered yet; without gaps
        self._queued_bytes = 0
        self._offered = 0  # newest record that was put into the queue
        self._heard_s = float("-inf")  # when the newest token that was answered was sent
        self._answered_s = self._called_s = clock()  # when anything was answered last, and the last call began
        self._epoch = 0
        self._store: UUID | None = None
        self._call: grpc.Call | None = None
        self._obstacle = "it has not been reached yet"
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="backup link", daemon=True)

    # -- the sink -----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return str(self._place)

    def write(self, records: Sequence[LoggedRecord]) -> None:
        with self._lock:
            if self._mode is _Mode.ALONE:
                return
            self._offer(records)
            began_s, last = self._clock(), records[-1].position
            while not self._may_pass(last):
                if self._clock() - max(began_s, self._answered_s) > _PATIENCE_S:
                    raise SinkUnavailableError(f"it does not answer ({self._obstacle})")
                self._changed.wait(_PATIENCE_S)

    def close(self) -> None:
        with self._lock:
            self._is_closing = True
            self._hang_up()
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(_STOP_TIMEOUT_S)

    def _offer(self, records: Sequence[LoggedRecord]) -> None:
        for logged in records:
            if logged.position > self._offered:  # else it is offered again, or in the image
                self._queue.append(logged)
                self._queued_bytes += _size_bytes(logged)
                self._offered = logged.position
        self._changed.notify_all()

    def _may_pass(self, position: int) -> bool:
        if self._mode is _Mode.ALONE or not self._queue or self._queue[0].position > position:
            return True
        return self._mode is _Mode.CATCHING_UP and self._queued_bytes <= self._backlog_bytes

    # -- for who decides ----------------------------------------------------------------------

    def start(self, epoch: int, store: UUID) -> None:
        """Begins to look for a follower; called once, before the first record."""
        self._epoch, self._store = epoch, store
        self._thread.start()

    @property
    def heard_s(self) -> float:
        """When the newest token was sent that the follower has answered."""
        return self._heard_s

    @property
    def is_replaced(self) -> bool:
        """Whether another process answers in the place of the backup."""
        return self._is_replaced

    @property
    def in_step(self) -> UUID | None:
        """The follower that has everything; None if there is none."""
        with self._lock:
            return self._peer if self._mode is _Mode.IN_STEP else None

    @property
    def obstacle(self) -> str:
        """Why nobody follows yet, or why who does may not be heard of, in words."""
        return self._obstacle

    def hold(self, follower: UUID) -> bool:
        """From here on records wait for this follower even when it is away; False if it is not in step any more."""
        with self._lock:
            if self._mode is _Mode.IN_STEP and self._peer == follower:
                self._is_held = True
            return self._is_held and self._peer == follower

    def begin_epoch(self, epoch: int) -> None:
        """Has attachments say another epoch."""
        with self._lock:
            self._epoch = epoch

    def go_alone(self) -> None:
        """Lets go of the follower: records do not wait for it any more."""
        with self._lock:
            self._let_go()

    def look_after(self) -> None:
        """Gives up a conversation in which nothing was heard for a whole lease, so that another is tried."""
        with self._lock:
            if self._call is not None and self._clock() - max(self._called_s, self._answered_s) > self._lease_s:
                self._hang_up()

    def _let_go(self) -> None:
        self._mode, self._peer, self._is_held, self._is_replaced = _Mode.ALONE, None, False, False
        self._queue.clear()
        self._queued_bytes = 0
        self._heard_s = float("-inf")  # the next one has promised nothing yet
        self._hang_up()
        self._changed.notify_all()

    def _hang_up(self) -> None:
        if self._call is not None:
            self._call.cancel()

    # -- the conversation ---------------------------------------------------------------------

    def _run(self) -> None:
        with grpc.insecure_channel(self._place.address, options=channel_options.client_options()) as channel:
            follow: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(FOLLOW)
            while not self._is_closing:
                stream = _Stream()
                try:
                    self._converse(follow, stream)
                except grpc.RpcError as error:
                    self._obstacle = status.from_rpc_error(
                        error, task=self._place.name, address=self._place.address
                    ).message
                except ShardscopeError as error:
                    self._obstacle = error.message
                except Exception as defect:  # noqa: BLE001 - the state here is whole; the follower is tried again
                    self._obstacle = f"{type(defect).__name__}: {defect}"
                    _LOG.exception("the conversation with %s failed", self._place)
                with self._lock:
                    self._end(stream)
                    self._changed.wait_for(lambda: self._is_closing, _TRY_EVERY_S)

    def _converse(self, follow: grpc.StreamStreamMultiCallable[bytes, bytes], stream: _Stream) -> None:
        call = follow(self._frames(stream))
        with self._lock:
            self._call, self._called_s = call, self._clock()
            if self._is_closing:
                call.cancel()
        try:
            for answer in call:
                with self._lock:
                    self._take(stream, replication_pb2.FollowAnswer.FromString(answer))
        finally:
            call.cancel()

    def _end(self, stream: _Stream) -> None:
        stream.is_over = True
        self._call = None
        if self._mode is not _Mode.ALONE and not self._is_held:
            _LOG.warning("%s does not follow any more (%s)", self._place, self._obstacle)
            self._let_go()
        self._changed.notify_all()

    def _take(self, stream: _Stream, answer: replication_pb2.FollowAnswer) -> None:
        self._answered_s = self._clock()
        if answer.HasField("attached"):
            self._attach(stream, answer)
        if answer.token:
            self._heard_s = max(self._heard_s, answer.token / _NANOSECONDS)
        self._drop_until(answer.position)
        has_image = stream.image_position is not None and answer.position >= stream.image_position
        if self._mode is _Mode.CATCHING_UP and has_image and not self._queue:
            self._mode = _Mode.IN_STEP
            self._obstacle = _SILENT
            _LOG.info("%s is in step, at record %d", self._place, answer.position)
        self._changed.notify_all()

    def _drop_until(self, position: int) -> None:
        while self._queue and self._queue[0].position <= position:
            self._queued_bytes -= _size_bytes(self._queue.popleft())

    def _attach(self, stream: _Stream, answer: replication_pb2.FollowAnswer) -> None:
        follower = decode_uuid(answer.attached.process, "process")
        needs_image = answer.attached.needs_image
        if self._mode is _Mode.ALONE:
            if not needs_image:
                raise FailedPreconditionError("it still has the state of another epoch, and will end itself")
            self._mode, self._peer = _Mode.CATCHING_UP, follower
            self._queue.clear()
            self._queued_bytes = 0
        elif follower != self._peer or needs_image:
            self._is_replaced = True
            raise FailedPreconditionError("another process, without state, is in its place")
        self._obstacle = _CATCHING_UP if self._mode is _Mode.CATCHING_UP else _SILENT
        stream.is_attached, stream.needs_image, stream.cursor = True, needs_image, answer.position

    # -- what is sent, on a thread of gRPC's --------------------------------------------------

    def _frames(self, stream: _Stream) -> Iterator[bytes]:
        token_s = self._clock()

        def token_if_due() -> Iterator[bytes]:
            nonlocal token_s
            if self._clock() - token_s >= self._lease_s / _TOKENS_PER_LEASE:
                token_s = self._clock()
                yield _token(token_s)

        store = self._store
        assert store is not None
        attachment = replication_pb2.Attachment(
            task=self._task, process=self._process.bytes, store_incarnation=store.bytes, epoch=self._epoch
        )
        yield replication_pb2.FollowFrame(attachment=attachment).SerializeToString()
        with self._lock:
            self._changed.wait_for(lambda: stream.is_attached or stream.is_over, self._lease_s)
            if not stream.is_attached:
                return
        token_s = self._clock()
        yield _token(token_s)
        if stream.needs_image:
            for frame in self._image_frames(stream):
                yield frame
                yield from token_if_due()
        while not stream.is_over:
            logged = self._next_record(stream)
            if logged is not None:
                if fault_point("replication.send") is not None:
                    with self._lock:
                        self._hang_up()
                    return
                for frame in _record_frames(logged):
                    yield frame
                    yield from token_if_due()
            yield from token_if_due()

    def _image_frames(self, stream: _Stream) -> Iterator[bytes]:
        image = self._take_image(_IMAGE_TIMEOUT_S)
        position, num_variables = image.position, len(image.variables)
        _LOG.info("%s is sent %d variables as of record %d", self._place, num_variables, position)
        with self._lock:
            stream.cursor = stream.image_position = position
            self._drop_until(position)
            self._offered = max(self._offered, position)
        for part, buffers in encode_image(image):
            yield from frames_of(replication_pb2.FollowFrame(image=part), buffers)

    def _next_record(self, stream: _Stream) -> LoggedRecord | None:
        """Waits a little for the next record that is to be sent."""
        with self._lock:
            self._changed.wait_for(
                lambda: stream.is_over or self._unsent(stream) is not None, self._lease_s / _TOKENS_PER_LEASE
            )
            logged = None if stream.is_over else self._unsent(stream)
            if logged is not None:
                stream.cursor = logged.position
            return logged

    def _unsent(self, stream: _Stream) -> LoggedRecord | None:
        if not self._queue or self._queue[-1].position <= stream.cursor:
            return None
        index = max(0, stream.cursor + 1 - self._queue[0].position)
        return self._queue[index]


def _record_frames(logged: LoggedRecord) -> Iterator[bytes]:
    header, buffers = encode_record(logged)
    return frames_of(replication_pb2.FollowFrame(record=header), buffers)


def _token(now_s: float) -> bytes:
    return replication_pb2.FollowFrame(token=max(1, int(now_s * _NANOSECONDS))).SerializeToString()


def _size_bytes(logged: LoggedRecord) -> int:
    record = logged.record
    if not isinstance(record, AppliedBatch):
        return 512
    return 512 + sum(tensor.nbytes for operation in record.operations for tensor in tensors_of(operation))
