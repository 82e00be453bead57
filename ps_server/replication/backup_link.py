"""The primary's side of replication: brings the other process of the task into step, and keeps it there.

The link is a sink of the primary's log. While there is no follower, it lets all records pass. It sends an image of the
state to a follower that has nothing, and keeps the records since. When the follower has those too it is in step: from
then on a record is safe only when the follower has it. Later the arbiter grants that the follower may take over.
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

from ps_protocol.codec.spec_codec import decode_uuid
from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError, ShardscopeError
from ps_protocol.grpc_edge import channel_options, status
from ps_protocol.v1 import replication_pb2
from ps_server.background.loops import BackgroundLoop, Troubles
from ps_server.log.commit_log import SinkUnavailableError
from ps_server.log.records import AppliedBatch, LoggedRecord
from ps_server.log.state_image import StateImage
from ps_server.replication.connection import FollowerConnection, connect
from ps_server.replication.conversation import NANOSECONDS, Conversation, Message, Tokens
from ps_server.replication.grpc_conversation import GrpcConversation
from ps_server.replication.image_codec import encode_image
from ps_server.replication.pair_settings import PairSettings
from ps_server.replication.replica_doors import Reasons
from ps_server.replication.socket_conversation import SocketConversation
from ps_server.replication.stream_frames import record_frame

_LOG = logging.getLogger(__name__)

CONNECT: Final = f"/{replication_pb2.DESCRIPTOR.services_by_name['Replication'].full_name}/Connect"

_TOKENS_PER_LEASE: Final = 6
_TRY_EVERY_S: Final = 0.2
_IMAGE_TIMEOUT_S: Final = 30.0
_IMAGE_PATIENCE_S: Final = 300.0
"""So much longer than a lease a follower may be silent while it puts the image on its disk, if no update waits."""

_MANY_OPERATIONS: Final = 2000

FULL_PATIENCE_S: Final = 60.0
"""So long updates wait for a follower that gives signs of life while it puts the image in its place."""

_PATIENCE_S: Final = 1.0
_CONNECT_TIMEOUT_S: Final = 5.0
_STOP_TIMEOUT_S: Final = 10.0

_CATCHING_UP: Final = "it is catching up"
_SILENT: Final = "it is silent"


class _Mode(enum.Enum):
    ALONE = enum.auto()
    CATCHING_UP = enum.auto()
    IN_STEP = enum.auto()


@dataclass(frozen=True, slots=True)
class OtherProcess:
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
        other: Where the other process is.
        task: The ps task, as "ps:0".
        process: This process.
        take_image: Returns the state as of now, waiting so many seconds at most.
        lease_s: Silence after which the other one counts as gone.
        backlog_bytes: Most bytes of records kept for a follower that catches up; beyond it updates wait.
        on_news: Called when the follower is in step, is about to end, or has gone. Quick; with the lock held.
        clock: Monotonic seconds.
        troubles: Where it is noted that the thread fails.
        settings: What the follower has to have in common with this process; None if it is not told.

    Attributes:
        heard_s: When the newest token that the follower has answered was sent.
        is_replaced: Whether another process answers in the place of the backup.
        is_left: Whether the follower has said that it is about to end.
        is_wanted: Whether the follower has said that it is to be the primary.
        obstacle: Why there is no follower in step, or why it may be silent, in words.
    """

    def __init__(
        self,
        other: OtherProcess,
        *,
        task: str,
        process: UUID,
        take_image: Callable[[float], StateImage],
        lease_s: float,
        backlog_bytes: int = 256 * 1024**2,
        on_news: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        troubles: Troubles | None = None,
        settings: PairSettings | None = None,
    ):
        self._other = other
        self._settings = settings
        self._refusals = Reasons(task, clock)
        self._task = task
        self._process = process
        self._take_image = take_image
        self._lease_s = lease_s
        self._backlog_bytes = backlog_bytes
        self._on_news = on_news
        self._clock = clock
        # guards: all below; no other lock is taken under it
        self._lock = threading.Lock()
        self.changed = threading.Condition(self._lock)
        self._mode = _Mode.ALONE
        self._peer: UUID | None = None  # the follower
        self._is_held = False  # the peer is, or may be, the backup: records must wait for it
        self.is_replaced = False
        self.is_left = False
        self.is_wanted = False
        self._queue: deque[LoggedRecord] = deque()  # not answered yet; without gaps
        self._queued_bytes = 0
        self._offered = 0  # newest record that was put into the queue
        self._encoded: dict[int, tuple[bytes, list[memoryview]]] = {}  # those of the queue that take long
        self.heard_s = float("-inf")  # when the newest token that was answered was sent
        self._answered_s = self._called_s = clock()  # when anything was answered last, and the last call began
        self._epoch = 0
        self._store: UUID | None = None
        self._conversation: Conversation | None = None
        self._tokens: Tokens | None = None
        self._awaited_s = float("inf")  # a token that was sent after this is waited for
        self._full_s = float("inf")  # since when updates wait for one that catches up
        self.obstacle = "it has not been reached yet"
        self._is_closing = False
        self._channel: grpc.Channel | None = None  # of the thread
        self._loop = BackgroundLoop(
            "backup link",
            self._try,
            troubles or Troubles(),
            at_end=self._close_channel,
            first_retry_s=_TRY_EVERY_S,
            most_retry_s=_TRY_EVERY_S,
        )

    # -- the sink -----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return str(self._other)

    @property
    def is_quick(self) -> bool:
        return True

    def write(self, records: Sequence[LoggedRecord]) -> None:
        # Not by the thread that drives the conversation, which has to send tokens.
        encoded = {each.position: record_frame(each) for each in records if takes_long(each)} if self._peer else {}
        with self._lock:
            if self._mode is _Mode.ALONE:
                return
            self._encoded.update(encoded)
            self._offer(records)
            began_s, last = self._clock(), records[-1].position
            while not self._may_pass(last):
                if self._is_closing:
                    raise SinkUnavailableError("this process has let go of it")
                # While it catches up its signs of life are of the image, not of these records.
                since_s = began_s if self._mode is _Mode.CATCHING_UP else max(began_s, self._answered_s)
                if self._clock() - since_s > _PATIENCE_S:
                    raise SinkUnavailableError(f"it does not answer ({self.obstacle})")
                # This thread sends the records and receives the answers itself, so that no other thread has to be
                # woken for that, unless one is doing it already.
                conversation = self._conversation
                if conversation is not None and self._mode is _Mode.IN_STEP and conversation.may_be_driven:
                    conversation.drive()
                else:
                    self.changed.wait(_PATIENCE_S)

    def close(self) -> None:
        with self._lock:
            self._is_closing = True
            self._hang_up()
            self.changed.notify_all()
        self._loop.stop(_STOP_TIMEOUT_S)

    def _offer(self, records: Sequence[LoggedRecord]) -> None:
        for logged in records:
            if logged.position > self._offered:  # else it is offered again, or in the image
                self._queue.append(logged)
                self._queued_bytes += logged.size_bytes
                self._offered = logged.position
        self.changed.notify_all()

    def _may_pass(self, position: int) -> bool:
        if self._mode is _Mode.ALONE or not self._queue or self._queue[0].position > position:
            return True
        return self._mode is _Mode.CATCHING_UP and self._queued_bytes <= self._backlog_bytes

    # -- for the replica ----------------------------------------------------------------------

    def start(self, epoch: int, store: UUID) -> None:
        """Begins to look for a follower; called once, before the first record."""
        self._epoch, self._store = epoch, store
        self._loop.start()

    @property
    def in_step(self) -> UUID | None:
        """The follower if it has every record; else None."""
        with self._lock:
            return self._peer if self._mode is _Mode.IN_STEP else None

    @property
    def is_followed(self) -> bool:
        """Whether there is a follower, in step or catching up."""
        return self._mode is not _Mode.ALONE

    def hold(self, follower: UUID) -> bool:
        """From here on records wait for this follower even while it is away; False if it is not in step any more."""
        with self._lock:
            if self._mode is _Mode.IN_STEP and self._peer == follower:
                self._is_held = True
            return self._is_held and self._peer == follower

    def ask_for_sign(self) -> None:
        """Has the follower answer a token at once, which is news."""
        with self._lock:
            self._awaited_s = self._clock()
            if self._tokens is not None:
                self._tokens.hurry()

    def has_heard_since(self, time_s: float) -> bool:
        """Whether the follower is connected, and has answered a token that was sent after a time."""
        with self._lock:
            return self._conversation is not None and self._conversation.is_attached and self.heard_s > time_s

    def begin_epoch(self, epoch: int) -> None:
        """Sets the epoch of the attachments from here on."""
        with self._lock:
            self._epoch = epoch

    def go_alone(self) -> None:
        """Lets go of the follower: records do not wait for it any more."""
        with self._lock:
            self._let_go()

    def hang_up(self) -> None:
        """Ends the conversation, which the follower notices; records wait for it until there is another."""
        with self._lock:
            self._hang_up()

    def hang_up_if_silent(self) -> None:
        """Ends a conversation that was silent for a whole lease, so that another is tried.

        A follower that puts a large image on its disk gives signs of life meanwhile, or of the version before, nothing.
        It is given up as early only if updates wait for it and it is silent, or if they have waited for long; else it
        would be sent the image again and again.
        """
        with self._lock:
            conversation, now_s = self._conversation, self._clock()
            if conversation is None:
                return
            is_catching_up, is_full = self._mode is _Mode.CATCHING_UP, self._queued_bytes > self._backlog_bytes
            self._full_s = min(self._full_s, now_s) if is_catching_up and is_full else float("inf")
            has_time = is_catching_up and conversation.image_position is not None and not is_full
            patience_s = self._lease_s + (_IMAGE_PATIENCE_S if has_time else 0.0)
            is_silent = now_s - max(self._called_s, self._answered_s) > patience_s
            if is_silent or now_s - self._full_s > FULL_PATIENCE_S:
                self._hang_up()

    def _let_go(self) -> None:
        self._mode, self._peer, self._is_held = _Mode.ALONE, None, False
        self.is_replaced = self.is_left = self.is_wanted = False
        self._queue.clear()
        self._encoded.clear()
        self._queued_bytes = 0
        self.heard_s = float("-inf")  # the next follower has promised nothing yet
        self._hang_up()
        self.changed.notify_all()

    def _hang_up(self) -> None:
        if self._conversation is not None:
            self._conversation.hang_up()

    # -- the conversation ---------------------------------------------------------------------

    def _try(self) -> float:
        """Converses until that ends; returns the seconds until the next try. The state here is whole whatever fails."""
        try:
            if self._channel is None:
                self._channel = grpc.insecure_channel(self._other.address, options=channel_options.client_options())
            self._converse(self._channel)
        except grpc.RpcError as error:
            self._note(status.from_rpc_error(error, task=self._other.name, address=self._other.address))
        except ShardscopeError as error:
            self._note(error)
        except OSError as error:
            self.obstacle = str(error)
        except Exception as defect:
            self.obstacle = f"{type(defect).__name__}: {defect}"
            raise
        finally:
            with self._lock:
                self._end()
        return _TRY_EVERY_S

    def _note(self, error: ShardscopeError) -> None:
        self.obstacle = error.message
        if isinstance(error, InvalidArgumentError):  # nothing but a restart with other options remedies it
            self._refusals.log(f"{error.message}: {self._other} refuses to follow")

    def _close_channel(self) -> None:
        if self._channel is not None:
            self._channel.close()

    def _converse(self, channel: grpc.Channel) -> None:
        connection = self._connect(channel)
        tokens = Tokens(self._lease_s / _TOKENS_PER_LEASE, self._clock)
        conversation: Conversation
        if connection is not None:
            conversation = SocketConversation(self, connection, tokens)
        else:
            conversation = GrpcConversation(self, channel, tokens, patience_s=self._lease_s)
        with self._lock:
            self._conversation, self._called_s, self._tokens = conversation, self._clock(), tokens
            if self._is_closing:
                self._hang_up()
        conversation.run()

    def _connect(self, channel: grpc.Channel) -> FollowerConnection | None:
        """Opens a connection; None if the follower offers none, or it cannot be reached."""
        timeout_s = min(self._lease_s, _CONNECT_TIMEOUT_S)
        ask: grpc.UnaryUnaryMultiCallable[replication_pb2.ConnectRequest, replication_pb2.ConnectReply]
        ask = channel.unary_unary(
            CONNECT,
            request_serializer=replication_pb2.ConnectRequest.SerializeToString,
            response_deserializer=replication_pb2.ConnectReply.FromString,
        )
        reply = ask(replication_pb2.ConnectRequest(task=self._task), timeout=timeout_s)
        if not reply.port:
            return None
        try:
            return connect(self._other.address, reply, timeout_s)
        except OSError as error:
            _LOG.warning(
                "%s cannot be reached at its port %d (%s); updates are sent over gRPC, which is slower",
                self._other,
                reply.port,
                error,
            )
            return None

    def _end(self) -> None:
        if self._conversation is not None:
            self._conversation.is_over = True
            self._conversation = None
        if self._mode is not _Mode.ALONE and not self._is_held:
            _LOG.warning("%s does not follow any more (%s)", self._other, self.obstacle)
            self._let_go()
        self.changed.notify_all()

    # -- for the conversation -----------------------------------------------------------------

    def attachment(self) -> replication_pb2.FollowFrame:
        store = self._store
        assert store is not None
        attachment = replication_pb2.Attachment(
            task=self._task, process=self._process.bytes, store_incarnation=store.bytes, epoch=self._epoch
        )
        if self._settings is not None:
            attachment.settings.CopyFrom(self._settings.encode())
        return replication_pb2.FollowFrame(attachment=attachment)

    def image(self, conversation: Conversation) -> Iterator[Message]:
        image = self._take_image(_IMAGE_TIMEOUT_S)
        position, num_variables = image.position, len(image.variables)
        _LOG.info("%s is sent %d variables as of record %d", self._other, num_variables, position)
        with self._lock:
            conversation.cursor = conversation.image_position = position
            self._drop_until(position)
            self._offered = max(self._offered, position)
        for part, buffers in encode_image(image):
            yield replication_pb2.FollowFrame(image=part), buffers

    def next_records(self, conversation: Conversation, size_bytes: int) -> list[LoggedRecord]:
        records: list[LoggedRecord] = []
        if not self.has_unsent(conversation):
            return records
        queue = self._queue
        for index in range(max(0, conversation.cursor + 1 - queue[0].position), len(queue)):
            logged = queue[index]
            records.append(logged)
            if takes_long(logged):
                conversation.long_record = logged.position
                break
            size_bytes -= logged.size_bytes
            if size_bytes <= 0:
                break
        conversation.cursor = records[-1].position
        return records

    def frame_of(self, logged: LoggedRecord) -> tuple[bytes, list[memoryview]]:
        return self._encoded.get(logged.position) or record_frame(logged)

    def has_unsent(self, conversation: Conversation) -> bool:
        # The newest one offered is the last of the queue, unless that is empty; also read without the lock.
        has_unsent = bool(self._queue) and self._offered > conversation.cursor and not conversation.is_over
        return has_unsent and not conversation.long_record

    def expects_answer(self) -> bool:
        return bool(self._queue) or self._mode is _Mode.CATCHING_UP

    def take(self, conversation: Conversation, answers: Sequence[replication_pb2.FollowAnswer]) -> None:
        for answer in answers:
            if not conversation.is_over:  # answers from before it was ended do not count
                self._take(conversation, answer)
        self.changed.notify_all()

    def _take(self, conversation: Conversation, answer: replication_pb2.FollowAnswer) -> None:
        self._answered_s = self._clock()
        if answer.HasField("attached"):
            self._attach(conversation, answer)
        if answer.token:
            self.heard_s = max(self.heard_s, answer.token / NANOSECONDS)
            if self._tokens is not None:  # what the backup is told it counts on, so not before it counts
                self._tokens.heard = max(self._tokens.heard, answer.token)
            if self.heard_s > self._awaited_s:
                self._awaited_s = float("inf")
                self._on_news()
        self._drop_until(answer.position)
        if conversation.long_record <= answer.position:
            conversation.long_record = 0
        image_position = conversation.image_position
        has_image = image_position is not None and answer.position >= image_position
        # Its lease counts from the newest token, which may be older than the time that the image took.
        is_heard = self._clock() - self.heard_s <= self._lease_s / 2
        if self._mode is _Mode.CATCHING_UP and has_image and is_heard and not self._queue:
            self._mode = _Mode.IN_STEP
            self.obstacle = _SILENT
            _LOG.info("%s is in step, at record %d", self._other, answer.position)
            self._on_news()
        if (answer.leaving, answer.wants_place) != (self.is_left, self.is_wanted):
            self.is_left, self.is_wanted = answer.leaving, answer.wants_place
            self._on_news()

    def _drop_until(self, position: int) -> None:
        while self._queue and self._queue[0].position <= position:
            logged = self._queue.popleft()
            self._queued_bytes -= logged.size_bytes
            self._encoded.pop(logged.position, None)

    def _attach(self, conversation: Conversation, answer: replication_pb2.FollowAnswer) -> None:
        follower = decode_uuid(answer.attached.process, "process")
        needs_image = answer.attached.needs_image
        if self._mode is _Mode.ALONE:
            if not needs_image:
                raise FailedPreconditionError("it still has the state of another epoch, and will end itself")
            self._mode, self._peer = _Mode.CATCHING_UP, follower
            self._queue.clear()
            self._encoded.clear()
            self._queued_bytes = 0
        elif follower != self._peer or needs_image:
            self.is_replaced = True
            self._on_news()
            raise FailedPreconditionError("another process, without state, is in its place")
        self.obstacle = _CATCHING_UP if self._mode is _Mode.CATCHING_UP else _SILENT
        conversation.is_attached, conversation.needs_image = True, needs_image
        conversation.takes_large_frames = answer.attached.takes_large_frames
        conversation.cursor = answer.position


def takes_long(logged: LoggedRecord) -> bool:
    """Whether a record takes so long to write, to read or to carry out that a short lease would be over meanwhile."""
    record = logged.record
    return isinstance(record, AppliedBatch) and len(record.operations) > _MANY_OPERATIONS
