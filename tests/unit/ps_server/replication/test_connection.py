"""The two ends of a connection between a primary and its follower, and what neither accepts."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import cast
from uuid import UUID, uuid4

import numpy as np
import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import BatchReply, Declare, Result, Update, UpdateRule, VariableSpec
from ps_protocol.sockets.frames import PREFIX_BYTES, FrameKind, encode_prefix, parse_prefix
from ps_protocol.sockets.stream import ConnectionEnded, SocketStream
from ps_protocol.v1 import records_pb2, replication_pb2
from ps_server.core.parameter_server import ParameterServer
from ps_server.log.logged_state import LoggedState
from ps_server.log.records import AppliedBatch, ClientJoined, Declared, LoggedRecord, Record
from ps_server.log.state_image import StateImage
from ps_server.log.state_parts import StateParts
from ps_server.memory.buffer_pool import BufferPool
from ps_server.memory.byte_budget import ByteBudget
from ps_server.replication.connection import PIECE_BYTES, FollowerConnection, connect
from ps_server.replication.conversation import Conversation, Link, Message, Tokens, record_message
from ps_server.replication.follow_session import FollowSession
from ps_server.replication.follower import Follower
from ps_server.replication.replica_doors import Reasons
from ps_server.replication.socket_conversation import SocketConversation
from ps_server.transport.sockets.listener import SocketListener, SocketSettings

TIMEOUT_S = 20.0
CLUSTER = ClusterSpec({"ps": ["ps0.example:1", "ps1.example:1"]})
CLIENT = UUID(int=1)
LARGE = VariableSpec("large", np.dtype(np.float32), (PIECE_BYTES // 2,))
"""Two pieces."""


class Ends:
    """A connection and a follower at its other end, which is served by a thread."""

    def __init__(self, resources: ExitStack):
        self.state = LoggedState(StateParts(CLUSTER, 0))
        self.broken: list[str] = []
        self.follower = Follower(self.state, task="ps:0", process=uuid4(), on_broken=self.broken.append)
        near, far = socket.socketpair()
        resources.callback(far.close)
        self.connection = FollowerConnection(SocketStream(near))
        resources.callback(self.connection.close)
        self.executor = resources.enter_context(ThreadPoolExecutor(1))
        resources.callback(self.connection.abort)
        self.endings = Reasons("ps:0", time.monotonic)
        self.session = FollowSession(SocketStream(far), self.follower, silence_s=TIMEOUT_S, endings=self.endings)
        self.served = self.executor.submit(self.session.serve)

    def exchange(self) -> replication_pb2.FollowAnswer:
        """Sends what is queued, and returns the last of the answers that come first."""
        while not self.connection.is_clear:
            self.connection.send()
        answers: list[replication_pb2.FollowAnswer] = []
        while not answers:
            answers = self.connection.receive(waits=True)
        return answers[-1]

    def attach(self) -> None:
        attachment = replication_pb2.Attachment(
            task="ps:0", process=uuid4().bytes, store_incarnation=uuid4().bytes, epoch=1
        )
        self.connection.put(replication_pb2.FollowFrame(attachment=attachment))
        assert self.exchange().attached.needs_image
        self.state.restore(StateImage(0, (), (), (), ()))
        self.follower.has_state = True  # as after an image, which other tests send

    def put(self, position: int, record: Record) -> None:
        self.connection.put(*record_message(LoggedRecord(position, record)))


@pytest.fixture
def ends() -> Iterator[Ends]:
    with ExitStack() as resources:
        yield Ends(resources)


def assignment(sequence: int, value: float) -> AppliedBatch:
    update = Update("large", UpdateRule.ASSIGN, np.full(LARGE.shape, value, np.float32))
    return AppliedBatch(CLIENT, sequence, (update,), BatchReply((Result(sequence, True),)))


def test_large_tensors_arrive_with_signs_of_life_between_their_pieces(ends: Ends) -> None:
    ends.attach()
    ends.put(1, ClientJoined(CLIENT, "worker:0"))
    ends.put(2, Declared(Declare(LARGE, InitializerSpec(ConstantKind(0.0)))))
    position = token = 0
    for sequence in (1, 2):
        ends.put(2 + sequence, assignment(sequence, float(sequence)))
        while not ends.connection.is_clear:
            token += 1
            ends.connection.put_first(replication_pb2.FollowFrame(token=token))
            for _ in range(2):  # the token, and what comes next
                while not ends.connection.send():
                    pass
    newest = 0
    while (position, newest) != (4, token):
        for answer in ends.connection.receive(waits=True):
            position, newest = answer.position, max(newest, answer.token)
    assert token == 4, "before each record, and between its pieces"
    ends.follower.stop()  # the last one is carried out by then
    assert ends.broken == []
    [image] = ends.state.parts.store.variables.images()
    assert image.value is not None
    assert (image.value == 2.0).all()


def test_small_values_outlast_the_memory_that_they_were_received_in(ends: Ends) -> None:
    """Records that come one after the other come into the same memory."""
    ends.attach()
    ends.put(1, ClientJoined(CLIENT, "worker:0"))
    specs = [VariableSpec(name, np.dtype(np.float32), (16,)) for name in ("a", "b")]
    for position, spec in enumerate(specs, 2):
        ends.put(position, Declared(Declare(spec, InitializerSpec(ConstantKind(0.0)))))
    sequence = 0
    for value in (1.0, 2.0, 3.0):
        for spec in specs:
            sequence += 1
            update = Update(spec.name, UpdateRule.ASSIGN, np.full(16, sequence, np.float32))
            reply = BatchReply((Result(int(value), True),))
            ends.put(3 + sequence, AppliedBatch(CLIENT, sequence, (update,), reply))
            while ends.exchange().position != 3 + sequence:
                pass
    ends.follower.stop()  # the last one is carried out by then
    assert ends.broken == []
    values = {image.spec.name: image.value for image in ends.state.parts.store.variables.images()}
    for name, expected in (("a", 5.0), ("b", 6.0)):
        found = values[name]
        assert found is not None
        assert (found == expected).all()


def test_what_the_other_side_does_not_take_is_sent_later_and_once() -> None:
    near, far = socket.socketpair()
    with far, ThreadPoolExecutor(1) as executor:
        connection = FollowerConnection(SocketStream(near))
        content = np.arange(PIECE_BYTES, dtype=np.uint32).view(np.uint8)
        connection.put(replication_pb2.FollowFrame(token=7), [content.data])
        while connection.send():
            assert not connection.is_clear, "the other side has taken what nobody has read"
        expected_bytes = (
            5 * PREFIX_BYTES + len(content) + replication_pb2.FollowFrame(token=7, data_bytes=len(content)).ByteSize()
        )
        received = bytearray(expected_bytes)
        reading = executor.submit(SocketStream(far).read_into, memoryview(received))
        while not connection.is_clear:
            connection.send()
        reading.result(TIMEOUT_S)
        connection.close()
    start = PREFIX_BYTES + parse_prefix(received).header_bytes
    pieces = bytearray()
    while start < len(received):
        size_bytes = parse_prefix(received, start).buffer_bytes
        start += PREFIX_BYTES
        pieces += received[start : start + size_bytes]
        start += size_bytes
    assert pieces == content.tobytes()


def test_many_small_tensors_are_sent_with_several_calls() -> None:
    near, far = socket.socketpair()
    with far, ThreadPoolExecutor(1) as executor:
        connection = FollowerConnection(SocketStream(near))
        tensors = [memoryview(bytes([index % 251]) * 64) for index in range(5000)]
        message = replication_pb2.FollowFrame(token=7)
        connection.put(message, tensors)
        received = bytearray(PREFIX_BYTES + message.ByteSize() + 5000 * 64)
        reading = executor.submit(SocketStream(far).read_into, memoryview(received))
        while not connection.is_clear:
            connection.send()
        reading.result(TIMEOUT_S)
        connection.close()
    assert received.endswith(b"".join(tensors))


def test_an_answer_that_comes_in_two_halves_is_one() -> None:
    near, far = socket.socketpair()
    with far:
        connection = FollowerConnection(SocketStream(near))
        answer = replication_pb2.FollowAnswer(position=300).SerializeToString()
        frame = encode_prefix(FrameKind.FOLLOW_ANSWER, header_bytes=len(answer)) + answer
        for cut in (5, PREFIX_BYTES + 1):
            far.sendall(frame[:cut])
            assert connection.receive(waits=True) == []
            far.sendall(frame[cut:])
            assert [each.position for each in connection.receive(waits=True)] == [300]
        far.shutdown(socket.SHUT_RDWR)
        with pytest.raises(ConnectionEnded):
            connection.wait_for_end(TIMEOUT_S)
        connection.close()


def test_records_before_the_attachment_are_refused_in_words(ends: Ends) -> None:
    ends.put(1, ClientJoined(CLIENT, "worker:0"))
    with pytest.raises(InvalidArgumentError, match="not an attachment"):
        ends.exchange()
    ends.served.result(TIMEOUT_S)


def test_a_follower_that_stops_says_so_and_ends_the_connection(ends: Ends) -> None:
    ends.attach()
    ends.follower.stop()
    ends.put(1, ClientJoined(CLIENT, "worker:0"))
    with pytest.raises(FailedPreconditionError, match="does not follow on this stream"):
        ends.exchange()
    ends.served.result(TIMEOUT_S)


def frame(message: replication_pb2.FollowFrame, data: bytes = b"") -> bytes:
    header = message.SerializeToString()
    return encode_prefix(FrameKind.FOLLOW, header_bytes=len(header), buffer_bytes=len(data)) + header + data


RECORD = records_pb2.Record(position=1)


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff" * PREFIX_BYTES,
        encode_prefix(FrameKind.REQUEST, header_bytes=0),
        encode_prefix(FrameKind.FOLLOW, header_bytes=0, buffer_bytes=2) + b"ab",  # announced by nobody
        encode_prefix(FrameKind.FOLLOW, header_bytes=2) + b"\xff\xff",
        frame(replication_pb2.FollowFrame(record=RECORD, data_bytes=1), b"ab"),
        frame(replication_pb2.FollowFrame(record=RECORD, data_bytes=1 << 62)),
        frame(replication_pb2.FollowFrame(record=RECORD, data_bytes=4), b"ab")
        + encode_prefix(FrameKind.FOLLOW, header_bytes=0, buffer_bytes=3)
        + b"cde",
        frame(replication_pb2.FollowFrame(record=RECORD, data_bytes=4), b"ab")
        + frame(replication_pb2.FollowFrame(record=RECORD)),
    ],
)
def test_what_is_no_frame_in_its_place_ends_the_connection(ends: Ends, sent: bytes) -> None:
    ends.attach()
    ends.connection._stream.sock.sendall(sent)
    with pytest.raises(InvalidArgumentError):
        ends.exchange()
    ends.served.result(TIMEOUT_S)
    assert ends.broken == []


def test_a_connection_needs_a_ticket_and_has_it_once() -> None:
    core = ParameterServer(cluster_spec=CLUSTER, task_index=0)
    listener = SocketListener(core, SocketSettings(host="127.0.0.1"), staging=ByteBudget(0), buffers=BufferPool(0))
    listener.start()
    try:
        port, visitor, ticket = listener.admit(lambda stream: stream.send([b"welcome"], 7))
        offer = replication_pb2.ConnectReply(port=port, visitor=visitor.bytes, ticket=ticket)
        stolen = replication_pb2.ConnectReply(port=port, visitor=uuid4().bytes, ticket=ticket)
        with pytest.raises(UnavailableError, match="refused"):
            connect("127.0.0.1:1", stolen, TIMEOUT_S)
        connection = connect("127.0.0.1:1", offer, TIMEOUT_S)
        assert connection._stream.sock.recv(7, socket.MSG_WAITALL) == b"welcome"
        connection.close()
        with pytest.raises(UnavailableError, match="refused"):
            connect("127.0.0.1:1", offer, TIMEOUT_S)
    finally:
        listener.stop(0.0)


class Recorder:
    """A link with an image of many parts, and a connection that never has an answer but to the attachment."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.conversation = SocketConversation(
            cast(Link, self), cast(FollowerConnection, self), Tokens(TIMEOUT_S, time.monotonic)
        )
        self.sent = 0
        self.waits: list[bool] = []
        self.is_clear = True

    def attachment(self) -> replication_pb2.FollowFrame:
        return replication_pb2.FollowFrame()

    def image(self, conversation: Conversation) -> Iterator[Message]:
        del conversation
        self.waits.clear()
        for _ in range(100):
            yield replication_pb2.FollowFrame(), []
        self.changed.acquire()
        self.conversation.hang_up()
        self.changed.release()

    def put(self, message: replication_pb2.FollowFrame, buffers: Sequence[memoryview] = ()) -> None:
        del message, buffers
        self.is_clear = False

    def put_first(self, message: replication_pb2.FollowFrame) -> None: ...

    def send(self) -> bool:
        self.sent += 1
        self.is_clear = True
        return True

    def receive(self, *, waits: bool) -> list[replication_pb2.FollowAnswer]:
        self.waits.append(waits)
        return [replication_pb2.FollowAnswer()]

    def take(self, conversation: Conversation, answers: Sequence[replication_pb2.FollowAnswer]) -> None:
        del answers
        conversation.is_attached = conversation.needs_image = True

    def abort(self) -> None: ...

    def close(self) -> None: ...


def test_nobody_waits_for_an_answer_to_each_part_of_an_image() -> None:
    recorder = Recorder()
    recorder.conversation.run()
    assert recorder.sent == 101
    assert recorder.waits == [False] * 100


def test_a_primary_that_tries_again_and_again_is_logged_now_and_then_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now_s = [0.0]
    endings = Reasons("ps:0", lambda: now_s[0])
    follower = Follower(LoggedState(StateParts(CLUSTER, 0)), task="ps:0", process=uuid4(), on_broken=pytest.fail)
    follower.stop()
    for _ in range(30):
        now_s[0] += 0.3
        near, far = socket.socketpair()
        with far, ThreadPoolExecutor(1) as executor:
            connection = FollowerConnection(SocketStream(near))
            session = FollowSession(SocketStream(far), follower, silence_s=TIMEOUT_S, endings=endings)
            served = executor.submit(session.serve)
            attachment = replication_pb2.Attachment(
                task="ps:0", process=uuid4().bytes, store_incarnation=uuid4().bytes, epoch=1
            )
            connection.put(replication_pb2.FollowFrame(attachment=attachment))
            connection.send()
            served.result(TIMEOUT_S)
            connection.close()
    refusal = "it does not follow: it is the primary, or asks to become it"
    assert caplog.messages == [f"ps:0: {refusal}: the connection of the primary is ended"] * 2


def test_both_ends_look_for_bytes_before_they_sleep_while_records_are_small(ends: Ends) -> None:
    ends.attach()
    streams = (ends.connection._stream, ends.session._stream)
    records: list[Record] = [
        ClientJoined(CLIENT, "worker:0"),
        Declared(Declare(LARGE, InitializerSpec(ConstantKind(0.0)))),
        assignment(1, 1.0),
    ]
    looks = []
    for position, record in enumerate(records, 1):
        ends.put(position, record)
        while ends.exchange().position != position:
            pass
        looks.append([stream.looks_first for stream in streams])
    assert looks == [[True, True], [True, True], [False, False]]


def test_records_that_have_come_together_have_one_answer(ends: Ends) -> None:
    ends.attach()
    joined = [ClientJoined(UUID(int=number), "worker:0") for number in (1, 2, 3)]
    for position, record in enumerate(joined, 1):
        ends.put(position, record)  # small ones leave together
    assert ends.exchange().position == 3
    ends.follower.stop()
    assert ends.state.replayed_position == 3


def test_an_answer_that_is_sent_in_part_is_completed(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    ends.attach()
    sent = []

    def send_some(stream: SocketStream, parts: Sequence[bytes], _sent: int) -> int:
        sent.append(stream.sock.send(parts[0][:5]))
        return sent[-1]

    monkeypatch.setattr(SocketStream, "send_some", send_some)
    ends.put(1, ClientJoined(CLIENT, "worker:0"))
    assert ends.exchange().position == 1
    ends.put(2, ClientJoined(UUID(int=2), "worker:1"))
    assert ends.exchange().position == 2
    assert sent == [5, 5]
