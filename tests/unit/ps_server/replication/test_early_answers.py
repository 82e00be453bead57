"""A record that is answered before it is carried out: nothing that follows from the answer may find it undone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import cast
from uuid import UUID, uuid4

import numpy as np
import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import FailedPreconditionError, UnavailableError
from ps_protocol.fault_points import Fault, FaultAction, FaultPlan, installed
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import BatchReply, Declare, Read, Result, Update, UpdateRule, VariableSpec
from ps_protocol.v1 import replication_pb2
from ps_server.log.logged_state import LoggedState
from ps_server.log.records import AppliedBatch, ClientJoined, Declared, LoggedRecord
from ps_server.log.state_image import StateImage
from ps_server.log.state_parts import StateParts
from ps_server.replication.follower import Follower, FollowStream

TIMEOUT_S = 20.0
LEASE_S = 10.0
CLUSTER = ClusterSpec({"ps": ["ps0.example:1"], "backup": ["ps0.example:2"]})
CLIENT = UUID(int=1)
SPEC = VariableSpec("v", np.dtype(np.int64), (2,))


class Watched(AbstractContextManager[None]):
    """A lock that calls a function before each wait for it."""

    def __init__(self, lock: threading.Lock, before_wait: Callable[[], None]):
        self._lock, self._before_wait = lock, before_wait

    def __enter__(self) -> None:
        self._before_wait()
        assert self._lock.acquire(timeout=TIMEOUT_S)

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._lock.release()


class Backup:
    """A backup with one variable, and the stream of its primary."""

    def __init__(self) -> None:
        self.state = LoggedState(StateParts(CLUSTER, 0))
        self.broken: list[str] = []
        self.follower = Follower(
            self.state,
            task="ps:0",
            process=uuid4(),
            on_broken=self.broken.append,
            lease_s=LEASE_S,
            clock=lambda: 100.0,
        )
        self.stream = FollowStream(self.follower)
        attachment = replication_pb2.Attachment(
            task="ps:0", process=uuid4().bytes, store_incarnation=uuid4().bytes, epoch=2
        )
        self.stream.take(replication_pb2.FollowFrame(attachment=attachment), memoryview(b""))
        self.follower.restore(self.stream, StateImage(0, (), ()))
        self.state.replay(LoggedRecord(1, ClientJoined(CLIENT, "worker:0")))
        declare = Declare(SPEC, InitializerSpec(ConstantKind(0)))
        self.state.replay(LoggedRecord(2, Declared(declare)))
        for token in range(1, 4):
            self.follower.read_lease.answer(token, token - 1, 100.0)
        self.answers: list[tuple[int, int]] = []  # position that is answered, and that is carried out by then

    def update(self, position: int, version: int = 1) -> LoggedRecord:
        operation = Update("v", UpdateRule.ASSIGN_ADD, np.ones(2, np.int64))
        return LoggedRecord(position, AppliedBatch(CLIENT, 1, (operation,), BatchReply((Result(version, True),))))

    def answer(self, answer: replication_pb2.FollowAnswer) -> bool:
        self.answers.append((answer.position, self.state.replayed_position))
        return True

    def take(self, logged: LoggedRecord) -> replication_pb2.FollowAnswer | None:
        return self.follower.apply(self.stream, logged, self.answer)

    def read(self) -> list[int]:
        self.follower.check_may_read()
        [reply] = self.state.read((Read("v"),), TIMEOUT_S, lend_values=False).replies
        assert isinstance(reply, Result)
        assert reply.tensor is not None
        return cast(list[int], reply.tensor.tolist())

    def take_slowly(self, meanwhile: Callable[[], None]) -> None:
        """Takes a record, and calls a function while that is answered and not carried out.

        It is carried out as soon as somebody waits for it, or the function has returned.
        """
        is_answered, goes_on = threading.Event(), threading.Event()
        replay = self.state.replay

        def slow(record: LoggedRecord) -> None:
            is_answered.set()
            assert goes_on.wait(TIMEOUT_S)
            replay(record)

        self.state.replay = slow  # type: ignore[method-assign]
        taking = threading.Thread(target=self.take, args=(self.update(3),))
        taking.start()
        assert is_answered.wait(TIMEOUT_S)
        assert self.answers == [(3, 2)]
        self.follower._lock = cast(threading.Lock, Watched(self.follower._lock, goes_on.set))
        try:
            meanwhile()
        finally:
            goes_on.set()
            taking.join(TIMEOUT_S)


def test_a_read_sees_every_record_that_was_answered() -> None:
    """The primary may have shown its effect to others, who may have told the reader."""
    backup = Backup()
    seen: list[list[int]] = []
    backup.take_slowly(lambda: seen.append(backup.read()))
    assert seen == [[1, 1]]


def test_who_takes_over_has_carried_out_every_record_that_was_answered() -> None:
    backup = Backup()
    positions: list[int] = []

    def take_over() -> None:
        backup.follower.stop()
        positions.append(backup.state.replayed_position)

    backup.take_slowly(take_over)
    assert positions == [3]


def test_a_record_that_is_to_be_on_a_disk_is_answered_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoggedState, "is_on_disk", True)
    backup = Backup()
    answer = backup.take(backup.update(3))
    assert backup.answers == []
    assert answer is not None
    assert backup.follower.complete(backup.stream, answer).position == 3


def test_a_record_that_came_before_is_answered_and_not_carried_out_again() -> None:
    backup = Backup()
    assert backup.take(backup.update(3)) is None
    answer = backup.take(backup.update(3))
    assert answer is not None
    assert backup.answers == [(3, 2)]
    assert backup.read() == [1, 1]


def test_a_record_behind_a_gap_is_not_answered() -> None:
    backup = Backup()
    with pytest.raises(FailedPreconditionError, match="records between are missing"):
        backup.take(backup.update(4))
    assert backup.answers == []
    assert len(backup.broken) == 1


def test_who_cannot_carry_out_what_it_has_answered_ends_itself_and_is_not_read() -> None:
    backup = Backup()
    with pytest.raises(FailedPreconditionError, match="state differs"):
        backup.take(backup.update(3, version=7))
    assert backup.answers == [(3, 2)]
    assert len(backup.broken) == 1
    with pytest.raises(UnavailableError, match="not the backup of ps:0 any more"):
        backup.read()


def test_a_fault_can_be_injected_behind_the_answer() -> None:
    backup = Backup()
    with installed(FaultPlan((Fault("replication.answered", FaultAction.DELAY, seconds=0.0),))) as plan:
        backup.take(backup.update(3))
        assert plan.fired("replication.answered") == 1
