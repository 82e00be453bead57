"""The guard before a replicated task's answers, and what a process of it says that it is."""

from __future__ import annotations

import logging
from typing import cast
from uuid import UUID, uuid4

import numpy as np
import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import UnavailableError
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import Batch, Declare, Read, Result, Update, UpdateRule, VariableSpec
from ps_protocol.service_types import ReplicaRole, ReplicationStatus
from ps_server.core.parameter_server import ParameterServer
from ps_server.log.logged_state import LoggedState
from ps_server.log.state_parts import StateParts
from ps_server.replication.backup_link import BackupLink
from ps_server.replication.follower import Follower
from ps_server.replication.register import ArbiterVerdict, Register, ReplicaReport, Wish
from ps_server.replication.replica import Replica, Transitions
from ps_server.replication.replicated_task import ReplicatedTask, ReplicationSettings

TIMEOUT_S = 20.0
CLIENT = UUID(int=1)
SPEC = VariableSpec("w", np.dtype(np.float32), (2,))
CLUSTER = ClusterSpec(
    {"ps": ["127.0.0.1:1", "127.0.0.1:2"], "backup": ["127.0.0.1:3", "127.0.0.1:4"]},
)


class Lease:
    """A guard that a test takes the lease from."""

    def __init__(self) -> None:
        self.answers_left = 1_000

    def check_may_answer(self) -> None:
        self.answers_left -= 1
        if self.answers_left < 0:
            raise UnavailableError("the lease has run out")

    def status(self) -> None:
        pass


def served_core() -> tuple[ParameterServer, Lease]:
    state, lease = LoggedState(StateParts(CLUSTER, 0)), Lease()
    state.start([], on_fatal=lambda error: pytest.fail(str(error)))
    core = ParameterServer(cluster_spec=CLUSTER, task_index=0, state=state, role=lease)
    core.hello(CLIENT, "worker:0", timeout_s=TIMEOUT_S)
    core.exchange(
        Batch(CLIENT, core.store_incarnation, 1, (Declare(SPEC, InitializerSpec(ConstantKind(0.0))),)),
        timeout_s=TIMEOUT_S,
    )
    return core, lease


def test_an_update_is_not_acknowledged_when_the_lease_runs_out_on_the_way() -> None:
    core, lease = served_core()
    update = Batch(CLIENT, core.store_incarnation, 2, (Update("w", UpdateRule.ASSIGN_ADD, np.ones(2, np.float32)),))
    lease.answers_left = 1  # it is let in, and applied
    with pytest.raises(UnavailableError):
        core.exchange(update, timeout_s=TIMEOUT_S)

    lease.answers_left = 1_000  # asked again, it is answered from the ledger
    core.exchange(update, timeout_s=TIMEOUT_S)
    [read] = core.exchange(Batch(CLIENT, core.store_incarnation, 0, (Read("w"),)), timeout_s=TIMEOUT_S).replies
    assert isinstance(read, Result)
    np.testing.assert_array_equal(read.tensor, [1.0, 1.0])


def test_nothing_is_read_without_the_lease() -> None:
    core, lease = served_core()
    read = Batch(CLIENT, core.store_incarnation, 0, (Read("w"),))
    for answers_left in (0, 1):
        lease.answers_left = answers_left
        with pytest.raises(UnavailableError):
            core.exchange(read, timeout_s=TIMEOUT_S)
    lease.answers_left = 0
    with pytest.raises(UnavailableError):
        core.hello(uuid4(), "worker:1", timeout_s=TIMEOUT_S)
    with pytest.raises(UnavailableError):
        core.place([], timeout_s=TIMEOUT_S)
    with pytest.raises(UnavailableError):
        core.list_placements(timeout_s=TIMEOUT_S)


def test_a_process_that_is_not_the_primary_answers_no_client() -> None:
    state = LoggedState(StateParts(CLUSTER, 1))
    task = ReplicatedTask(
        state,
        ReplicationSettings(CLUSTER, 1, True, 1.0),
        announce=lambda epoch: pytest.fail(f"it has announced epoch {epoch}"),
        on_fatal=lambda error: pytest.fail(str(error)),
        on_superseded=pytest.fail,
    )
    core = ParameterServer(cluster_spec=CLUSTER, task_index=1, state=state, role=task.replica)
    try:
        with pytest.raises(UnavailableError, match="not the primary of ps:1"):
            core.hello(CLIENT, "worker:0", timeout_s=TIMEOUT_S)
    finally:
        task.close()


@pytest.mark.parametrize(
    ("task_index", "is_second", "judged"),
    [(0, False, ["ps:1", "ps:2"]), (1, False, ["ps:0"]), (2, False, []), (0, True, []), (1, True, [])],
)
def test_each_task_has_an_arbiter_that_is_not_of_its_pair(task_index: int, is_second: bool, judged: list[str]) -> None:
    cluster = ClusterSpec({job: [f"{job}:{port}" for port in (1, 2, 3)] for job in ("ps", "backup")})
    assert ReplicationSettings(cluster, task_index, is_second, 1.0).arbitrated_tasks == judged


LEASE_S = 10.0
THIS, OTHER = UUID(int=11), UUID(int=12)


class Process:
    """A replica whose follower, link and arbiter are set by a test, on a clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.register: Register | None = None
        # as the follower
        self.has_state = self.is_attached = self.is_stopped = False
        self.epoch = 0
        self.heard_s = self.now_s
        # as the link
        self.name = "backup:1 at host:3"
        self.obstacle = "it has not been reached yet"
        self.in_step: UUID | None = None
        self.is_replaced = False
        self.replica = Replica(
            THIS,
            task="ps:1",
            follower=cast(Follower, self),
            link=cast(BackupLink, self),
            arbiter=self,
            transitions=Transitions(lambda _store: UUID(int=1), lambda _epoch: None, pytest.fail),
            lease_s=LEASE_S,
            clock=lambda: self.now_s,
        )

    def consult(
        self, report: ReplicaReport, wish: Wish = Wish.NONE, candidate: UUID | None = None, *, timeout_s: float
    ) -> ArbiterVerdict:
        assert report.process == THIS
        if wish is Wish.PAIR_UP:
            self.register = Register(report.epoch + 1, THIS, candidate)
        return ArbiterVerdict(self.register, granted=True)

    def told(self, register: Register) -> ReplicationStatus:
        """What it says of itself when it has heard this from the arbiter, and drawn its conclusions."""
        self.register = register
        for _ in range(3):
            self.replica.step()
        return self.replica.status()

    def close(self) -> None: ...

    def expect(self, primary: UUID | None) -> None: ...

    def begin_epoch(self, epoch: int) -> None: ...

    def stop(self) -> None: ...

    def start(self, epoch: int, store: UUID) -> None: ...

    def hold(self, follower: UUID) -> bool:
        return follower == self.in_step


def test_a_process_says_how_far_it_is_on_its_way_to_be_the_backup() -> None:
    process = Process()
    assert process.replica.status() == ReplicationStatus(ReplicaRole.EMPTY, 0)
    assert process.told(Register(3, OTHER)) == ReplicationStatus(ReplicaRole.EMPTY, 3)
    process.is_attached = True
    assert process.replica.status() == ReplicationStatus(ReplicaRole.CATCHING_UP, 3)
    process.now_s += LEASE_S + 1  # who has begun to send it the state is gone
    assert process.replica.status().role is ReplicaRole.EMPTY
    process.has_state, process.heard_s = True, process.now_s
    assert process.replica.status() == ReplicationStatus(ReplicaRole.CATCHING_UP, 3)
    assert process.told(Register(4, OTHER, THIS)) == ReplicationStatus(ReplicaRole.BACKUP, 4)


def test_a_primary_says_whether_it_has_a_backup_and_why_it_does_not_answer() -> None:
    process = Process()
    status = process.told(Register(1, THIS))
    assert (status.role, status.epoch, status.has_backup) == (ReplicaRole.PRIMARY, 1, False)
    assert "the task has just begun, and waits for its backup, backup:1 at host:3" in status.obstacle
    process.now_s += 3 * LEASE_S + 1
    alone = ReplicationStatus(ReplicaRole.PRIMARY, 1, False, "backup:1 at host:3: it has not been reached yet")
    assert process.replica.status() == alone

    process.in_step, process.heard_s = OTHER, process.now_s
    assert process.told(Register(1, THIS)) == ReplicationStatus(ReplicaRole.PRIMARY, 2, True)
    process.now_s += LEASE_S
    silent = process.replica.status()
    assert silent.has_backup
    assert "has not been heard of" in silent.obstacle


def test_only_what_happens_after_the_first_pair_is_worth_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    process = Process()
    process.told(Register(1, THIS))
    process.in_step = OTHER
    assert process.told(Register(1, THIS)).has_backup
    begun = [record.levelname for record in caplog.records]
    assert "backup:1 at host:3 is the backup now, in epoch 2" in caplog.messages
    assert set(begun) == {"INFO"}

    later = Process()
    later.told(Register(5, THIS))
    later.in_step = OTHER
    later.told(Register(5, THIS))
    warned = [record.message for record in caplog.records[len(begun) :] if record.levelname == "WARNING"]
    assert warned == ["is the primary of ps:1 now, in epoch 5", "backup:1 at host:3 is the backup now, in epoch 6"]
