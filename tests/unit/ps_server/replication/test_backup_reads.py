"""What a backup answers: reads alone, while its primary waits for it, of every record whole."""

from __future__ import annotations

import threading
from collections.abc import Callable
from uuid import UUID

import numpy as np
import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import FailedPreconditionError, StateLostError, UnavailableError
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import Batch, BatchReply, Declare, Read, Result, Update, UpdateRule, VariableSpec
from ps_server.core.parameter_server import ParameterServer
from ps_server.core.state import TaskRole
from ps_server.log.logged_state import LoggedState
from ps_server.log.records import AppliedBatch, ClientJoined, Declared, LoggedRecord, Record, Restored, Staged
from ps_server.log.restore_mark import RestoreMark, incarnation_after
from ps_server.log.state_image import StateImage
from ps_server.log.state_parts import StateParts
from ps_server.replication.follower import Follower
from ps_server.store.stored_variable import VariableImage

TIMEOUT_S = 20.0
LEASE_S = 10.0
CLUSTER = ClusterSpec({"ps": ["127.0.0.1:1"], "backup": ["127.0.0.1:2"]})
CLIENT, STRANGER, STORE, RESTORE = (UUID(int=number) for number in (1, 2, 3, 4))
NAMES = ("v", "w")


class BackupRole(TaskRole):
    """The role of a process that is the backup, as long as its follower says so."""

    is_primary = False

    def __init__(self, follower: Follower):
        self._follower = follower

    def check_may_read(self) -> None:
        self._follower.check_may_read()

    def check_may_answer(self) -> None:
        raise UnavailableError("this process is not the primary")

    def status(self) -> None:
        """Not asked."""

    def promote(self, *, accept_loss: bool) -> None:
        """Not asked."""


class Backup:
    """A backup of two variables, whose records a test sends, and whose clock it moves."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.state = LoggedState(StateParts(CLUSTER, 0))
        self.follower = Follower(
            self.state,
            task="ps:0",
            process=UUID(int=9),
            on_broken=pytest.fail,
            lease_s=LEASE_S,
            clock=lambda: self.now_s,
        )
        self.core = ParameterServer(
            cluster_spec=CLUSTER, task_index=0, state=self.state, role=BackupRole(self.follower)
        )
        self.state.adopt(STORE)
        self.state.restore(StateImage(0, (), ()))
        self.state.replay(LoggedRecord(1, ClientJoined(CLIENT, "worker:0")))
        for position, name in enumerate(NAMES, 2):
            declare = Declare(VariableSpec(name, np.dtype(np.int64), (2,)), InitializerSpec(ConstantKind(0)))
            self.state.replay(LoggedRecord(position, Declared(declare)))
        self.sequence = 0

    def hear(self) -> None:
        """Enough of its primary to be read."""
        for token in range(1, 4):
            self.follower.read_lease.answer(token, token - 1, self.now_s)

    def add_one(self) -> None:
        """To both variables, in one batch of the primary's."""
        self.sequence += 1
        operations = tuple(Update(name, UpdateRule.ASSIGN_ADD, np.ones(2, np.int64)) for name in NAMES)
        reply = BatchReply(tuple(Result(self.sequence, True) for _ in NAMES))
        self.take(AppliedBatch(CLIENT, self.sequence, operations, reply))

    def take(self, record: Record) -> None:
        """Carries out the next record."""
        self.state.replay(LoggedRecord(self.state.replayed_position + 1, record))

    def read(self, client: UUID = CLIENT, store: UUID = STORE) -> BatchReply:
        return self.core.exchange(
            Batch(client, store, 0, tuple(Read(name) for name in NAMES)), timeout_s=TIMEOUT_S, lend_values=True
        )


def values_of(reply: BatchReply) -> list[list[int]]:
    tensors = [each.tensor for each in reply.replies if isinstance(each, Result)]
    return [tensor.tolist() for tensor in tensors if tensor is not None]


def test_it_is_read_while_the_primary_waits_for_it() -> None:
    backup = Backup()
    with pytest.raises(UnavailableError, match="has not heard of the primary recently enough"):
        backup.read()
    backup.hear()
    backup.add_one()
    reply = backup.read()
    assert values_of(reply) == [[1, 1], [1, 1]]
    assert [each.version for each in reply.replies if isinstance(each, Result)] == [1, 1]
    backup.now_s += LEASE_S
    with pytest.raises(UnavailableError, match="ask the primary"):
        backup.read()


@pytest.mark.parametrize("end", [Follower.leave, Follower.stop])
def test_it_is_not_read_any_more_once_it_leaves_or_asks_to_take_over(end: Callable[[Follower], None]) -> None:
    backup = Backup()
    backup.hear()
    backup.read()
    end(backup.follower)
    with pytest.raises(UnavailableError, match="not the backup of ps:0 any more"):
        backup.read()


def test_an_answer_whose_lease_runs_out_on_the_way_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    backup = Backup()
    backup.hear()
    read = backup.state.read

    def slow(*args: object) -> BatchReply:
        backup.now_s += LEASE_S
        return read(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(backup.state, "read", slow)
    with pytest.raises(UnavailableError):
        backup.read()


def test_it_takes_no_update_and_none_that_says_it_is_a_read() -> None:
    backup = Backup()
    backup.hear()
    update = Update("v", UpdateRule.ASSIGN_ADD, np.ones(2, np.int64))
    for sequence in (0, 1):
        with pytest.raises(UnavailableError, match="not the primary"):
            backup.core.exchange(Batch(CLIENT, STORE, sequence, (update,)), timeout_s=TIMEOUT_S)
    assert values_of(backup.read()) == [[0, 0], [0, 0]]


def test_it_knows_the_clients_and_the_store_of_its_primary_alone() -> None:
    backup = Backup()
    backup.hear()
    with pytest.raises(FailedPreconditionError, match="has not said hello"):
        backup.read(client=STRANGER)
    with pytest.raises(StateLostError):
        backup.read(store=STRANGER)
    with pytest.raises(FailedPreconditionError, match="has not said hello"):
        backup.core.hello(STRANGER, "worker:7", for_reads=True, timeout_s=TIMEOUT_S)
    assert backup.core.hello(CLIENT, "worker:0", for_reads=True, timeout_s=TIMEOUT_S).store == STORE
    with pytest.raises(UnavailableError, match="not the primary"):
        backup.core.hello(CLIENT, "worker:0", timeout_s=TIMEOUT_S)
    assert backup.core.status(timeout_s=TIMEOUT_S).num_clients == 1


def test_a_batch_is_seen_whole_or_not_at_all() -> None:
    """Also by who reads its variables in the other order, which at a primary may see half of it."""
    backup = Backup()
    backup.hear()
    ended = threading.Event()
    torn: list[list[list[int]]] = []

    def read() -> None:
        while not ended.is_set():
            values = values_of(backup.core.exchange(Batch(CLIENT, STORE, 0, backwards), timeout_s=TIMEOUT_S))
            if values[0] != values[1]:
                torn.append(values)

    backwards = tuple(Read(name) for name in reversed(NAMES))
    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(2_000):
        backup.add_one()
    ended.set()
    reader.join(TIMEOUT_S)
    assert not torn
    assert values_of(backup.read()) == [[2_000, 2_000], [2_000, 2_000]]


def test_a_read_at_the_moment_of_a_restore_has_no_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first variable is as it was saved, the second is not yet."""
    backup = Backup()
    backup.hear()
    backup.add_one()
    variables, refused = backup.state.parts.store.variables, list[str]()
    put = variables.put

    def read_and_put(image: VariableImage, position: int) -> None:
        put(image, position)
        for store in (STORE, incarnation_after(STORE, RESTORE)):
            with pytest.raises((StateLostError, FailedPreconditionError)) as caught:
                backup.read(store=store)
            refused.append(type(caught.value).__name__)

    monkeypatch.setattr(variables, "put", read_and_put)
    for name in NAMES:
        backup.take(Staged(RESTORE, VariableImage(variables.find(name).spec, np.full(2, 7, np.int64), 5)))
    assert values_of(backup.read()) == [[1, 1], [1, 1]]
    backup.take(Restored(RestoreMark(RESTORE, "/x", is_complete=False)))
    assert refused == ["StateLostError", "FailedPreconditionError"] * 2
    backup.take(Restored(RestoreMark(RESTORE, "/x", is_complete=True)))
    assert values_of(backup.read(store=incarnation_after(STORE, RESTORE))) == [[7, 7], [7, 7]]
