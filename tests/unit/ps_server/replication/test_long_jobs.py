"""A follower that is busy for longer than a lease, with an image or a batch of many operations, is not given up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest

from ps_protocol.errors import UnavailableError
from ps_protocol.operations import BatchReply, Result, Update, UpdateRule
from ps_protocol.sockets.stream import SocketStream
from ps_protocol.v1 import replication_pb2
from ps_server.log.commit_log import SinkUnavailableError
from ps_server.log.records import AppliedBatch, ClientJoined, LoggedRecord, Record
from ps_server.log.state_image import StateImage
from ps_server.replication.backup_link import FULL_PATIENCE_S, BackupLink, OtherProcess
from ps_server.replication.connection import FollowerConnection
from ps_server.replication.conversation import NANOSECONDS, record_message
from ps_server.replication.follow_session import FollowSession
from ps_server.replication.follower import Follower
from ps_server.replication.image_codec import encode_image
from ps_server.replication.long_job import LongJob
from ps_server.replication.replica_doors import Reasons
from tests.unit.ps_server.replication.failover_process import Talk

TIMEOUT_S = 20.0
LEASE_S = 10.0
CLIENT = UUID(int=1)
MANY = 5000


class BusyState:
    """A ``FollowedState`` that is let go on by the test; notes what it was given."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.position = 0
        self.error: OSError | None = None

    @property
    def replayed_position(self) -> int:
        return self.position

    @property
    def is_on_disk(self) -> bool:
        return False

    def adopt(self, store: UUID) -> None: ...

    def restore(self, image: StateImage) -> None:
        assert self.may_go_on.wait(TIMEOUT_S)
        if self.error is not None:
            raise self.error
        self.position = image.position

    def replay(self, record: LoggedRecord) -> None:
        if isinstance(record.record, AppliedBatch):
            assert self.may_go_on.wait(TIMEOUT_S)
        self.position = record.position

    def make_safe(self) -> int:
        return self.position


class Ends:
    """A primary's end of a connection, and a follower that is served by a thread."""

    def __init__(self, resources: ExitStack, *, silence_s: float = TIMEOUT_S):
        self.state = BusyState()
        self.follower = Follower(self.state, task="ps:0", process=uuid4(), on_broken=pytest.fail)
        near, far = socket.socketpair()
        resources.callback(far.close)
        self.connection = FollowerConnection(SocketStream(near))
        resources.callback(self.connection.close)
        executor = resources.enter_context(ThreadPoolExecutor(1))
        resources.callback(self.state.may_go_on.set)
        resources.callback(self.connection.abort)
        endings = Reasons("ps:0", lambda: 0.0)
        session = FollowSession(SocketStream(far), self.follower, silence_s=silence_s, endings=endings)
        self.served = executor.submit(session.serve)
        attachment = replication_pb2.Attachment(
            task="ps:0", process=uuid4().bytes, store_incarnation=uuid4().bytes, epoch=1
        )
        self.connection.put(replication_pb2.FollowFrame(attachment=attachment))
        assert self.next_answer().attached.needs_image

    def send(self) -> None:
        while not self.connection.is_clear:
            self.connection.send()

    def next_answer(self) -> replication_pb2.FollowAnswer:
        self.send()
        for _ in range(int(TIMEOUT_S / 0.1)):
            for answer in self.connection.receive(waits=True):
                return answer
        pytest.fail("no answer has come")

    def put_token(self, token: int) -> None:
        self.connection.put(replication_pb2.FollowFrame(token=token))

    def put_image(self, position: int) -> None:
        for part, buffers in encode_image(StateImage(position, (), ())):
            self.connection.put(replication_pb2.FollowFrame(image=part), buffers)

    def put_record(self, position: int, record: Record) -> None:
        self.connection.put(*record_message(LoggedRecord(position, record)))


@pytest.fixture
def resources() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def batch(operations: int) -> AppliedBatch:
    updates = tuple(Update(f"v{index}", UpdateRule.ASSIGN, np.array(1, np.float32)) for index in range(operations))
    return AppliedBatch(CLIENT, 1, updates, BatchReply((Result(1, True),) * operations))


def test_tokens_are_answered_while_a_batch_of_many_operations_is_carried_out(resources: ExitStack) -> None:
    ends = Ends(resources)
    ends.follower.has_state = True
    ends.put_record(1, batch(MANY))
    for token in (7, 8):
        ends.put_token(token)
        answer = ends.next_answer()
        assert (answer.token, answer.position) == (token, 0), "the record is not carried out yet"
    ends.state.may_go_on.set()
    assert ends.next_answer().position == 1
    ends.put_token(9)
    assert ends.next_answer().token == 9


def test_what_comes_behind_such_a_batch_waits_for_it_and_is_carried_out_in_order(resources: ExitStack) -> None:
    """As a primary of the version before sends it, which does not hold it back."""
    ends = Ends(resources)
    ends.follower.has_state = True
    ends.put_record(1, batch(MANY))
    ends.put_token(7)
    assert ends.next_answer().token == 7
    for position in (2, 3):
        ends.put_record(position, ClientJoined(uuid4(), "worker:0"))
    ends.put_token(8)
    ends.send()
    ends.state.may_go_on.set()
    answer = ends.next_answer()
    while answer.position < 3 or not answer.token:
        answer = ends.next_answer()
    assert (answer.position, answer.token) == (3, 8)


def test_a_follower_that_puts_an_image_in_its_place_gives_signs_of_life(resources: ExitStack) -> None:
    ends = Ends(resources, silence_s=0.9)
    ends.follower.wants_place = True
    ends.put_image(5)
    ends.put_record(6, ClientJoined(CLIENT, "worker:0"))  # behind it, so that no token can be seen
    answer = ends.next_answer()
    assert (answer.position, answer.token, answer.wants_place) == (0, 0, True)
    ends.state.may_go_on.set()
    while answer.position < 6:
        answer = ends.next_answer()
    assert ends.follower.has_state


def test_a_job_that_fails_ends_the_connection_with_its_reason(resources: ExitStack) -> None:
    ends = Ends(resources)
    ends.state.error = OSError("the disk is gone")
    ends.state.may_go_on.set()
    ends.put_image(5)
    with pytest.raises(UnavailableError, match="its disk does not take the state: the disk is gone"):
        ends.next_answer()


def test_a_job_is_waited_for_to_its_end_whatever_happens() -> None:
    near, far = socket.socketpair()
    done: list[int] = []
    may_go_on = threading.Event()

    def job() -> None:
        assert may_go_on.wait(TIMEOUT_S)
        done.append(1)

    def give_up() -> None:
        with LongJob(job, near.fileno()) as running:
            assert not running.wait(0.0, for_source=True)
            assert not running.is_done
            far.sendall(b"x")
            assert running.wait(TIMEOUT_S, for_source=True)
            may_go_on.set()
            raise KeyError

    with near, far, pytest.raises(KeyError):
        give_up()
    assert done == [1]


# -- the primary ------------------------------------------------------------------------------------


class Primary:
    """A link on a clock that the test moves, and a conversation with a follower that has been sent an image."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.link = BackupLink(
            OtherProcess("backup:0", "host:1"),
            task="ps:0",
            process=uuid4(),
            take_image=lambda _timeout_s: StateImage(5, (), ()),
            lease_s=LEASE_S,
            backlog_bytes=100,
            clock=lambda: self.now_s,
        )
        self.talk = Talk()
        self.link._conversation = self.talk
        self.link._called_s = self.now_s
        self.hear(attached=replication_pb2.Attached(process=uuid4().bytes, needs_image=True))
        assert list(self.link.image(self.talk))

    def hear(self, **answer: Any) -> None:
        with self.link._lock:
            self.link.take(self.talk, [replication_pb2.FollowAnswer(**answer)])

    def offer(self, *records: LoggedRecord) -> None:
        with self.link._lock:
            self.link._offer(records)

    def next_positions(self) -> list[int]:
        with self.link._lock:
            return [each.position for each in self.link.next_records(self.talk, 1000)]


def test_a_follower_is_in_step_only_if_its_newest_token_is_less_than_half_a_lease_old() -> None:
    """Else the pair would begin with a lease of which little is left, and the first pause would end it."""
    primary = Primary()
    primary.hear(token=int(primary.now_s * NANOSECONDS))
    primary.now_s += LEASE_S / 2 + 0.1
    primary.hear(position=5)
    assert primary.link.in_step is None
    primary.hear(position=5, token=int(primary.now_s * NANOSECONDS))
    assert primary.link.in_step is not None


def test_updates_wait_for_a_follower_that_gives_signs_of_life_but_not_for_ever() -> None:
    primary = Primary()
    primary.offer(LoggedRecord(6, ClientJoined(CLIENT, "worker:0"), 101))
    began_s = primary.now_s
    while primary.now_s - began_s < FULL_PATIENCE_S - 1.0:
        primary.hear()
        primary.link.hang_up_if_silent()
        assert not primary.talk.is_hung_up
        primary.now_s += LEASE_S / 2
    primary.now_s = began_s + FULL_PATIENCE_S + 1.0
    primary.hear()
    primary.link.hang_up_if_silent()
    assert primary.talk.is_hung_up


def test_updates_do_not_wait_for_one_that_is_silent() -> None:
    primary = Primary()
    primary.offer(LoggedRecord(6, ClientJoined(CLIENT, "worker:0"), 101))
    primary.now_s += LEASE_S + 0.1
    primary.link.hang_up_if_silent()
    assert primary.talk.is_hung_up


def test_whoever_hands_over_a_record_meanwhile_is_not_kept_by_signs_of_life() -> None:
    primary = Primary()

    class Ticking(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            primary.now_s += 0.4
            primary.link.take(primary.talk, [replication_pb2.FollowAnswer()])
            return True

    primary.link.changed = Ticking(primary.link._lock)
    with pytest.raises(SinkUnavailableError, match="it is catching up"):
        primary.link.write([LoggedRecord(6, ClientJoined(CLIENT, "worker:0"), 101)])


def test_nothing_but_tokens_is_sent_behind_a_batch_of_many_operations_until_that_is_answered() -> None:
    primary = Primary()
    records = [LoggedRecord(6, batch(MANY)), LoggedRecord(7, batch(1)), LoggedRecord(8, batch(1))]
    primary.offer(*records)
    assert primary.next_positions() == [6]
    assert not primary.link.has_unsent(primary.talk)
    primary.hear(token=int(primary.now_s * NANOSECONDS))
    assert not primary.link.has_unsent(primary.talk)
    primary.hear(position=6)
    assert primary.next_positions() == [7, 8]


def test_such_a_batch_is_encoded_before_the_conversation_is_driven() -> None:
    primary = Primary()
    record = LoggedRecord(6, batch(MANY))
    primary.link.write([record])
    frame = primary.link.frame_of(record)
    assert primary.link.frame_of(record) is frame
    primary.hear(position=6)
    assert primary.link.frame_of(record) is not frame, "it is not kept any longer"
