"""The guard before a replicated task's answers, and what a process of it says that it is."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import cast
from uuid import UUID, uuid4

import numpy as np
import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import FailedPreconditionError, UnavailableError
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import Batch, Declare, Read, Result, Update, UpdateRule, VariableSpec
from ps_protocol.service_types import ReplicaRole, ReplicationStatus
from ps_server.coordination.file_store import FileStore
from ps_server.core.parameter_server import ParameterServer
from ps_server.log.logged_state import LoggedState
from ps_server.log.state_parts import StateParts
from ps_server.replication.backup_link import BackupLink
from ps_server.replication.decisions import PRIMARY_PART
from ps_server.replication.follower import Follower
from ps_server.replication.member import Member, Part
from ps_server.replication.register import Asker, Register, Verdict, Wish, wanted
from ps_server.replication.replica import Replica
from ps_server.replication.replica_doors import Transitions
from ps_server.replication.replicated_task import ReplicatedTask, ReplicationSettings

TIMEOUT_S = 20.0
CLIENT = UUID(int=1)
SPEC = VariableSpec("w", np.dtype(np.float32), (2,))
CLUSTER = ClusterSpec(
    {"ps": ["127.0.0.1:1", "127.0.0.1:2"], "backup": ["127.0.0.1:3", "127.0.0.1:4"]},
)


class Lease:
    """A guard that a test takes the lease from."""

    is_primary = True

    def __init__(self) -> None:
        self.answers_left = 1_000

    def check_may_answer(self) -> None:
        self.answers_left -= 1
        if self.answers_left < 0:
            raise UnavailableError("the lease has run out")

    check_may_read = check_may_answer

    def status(self) -> None:
        pass

    def promote(self, *, accept_loss: bool) -> None: ...


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


def test_a_process_that_is_not_the_primary_answers_no_client(tmp_path: Path) -> None:
    state = LoggedState(StateParts(CLUSTER, 1))
    task = ReplicatedTask(
        state,
        ReplicationSettings(CLUSTER, 1, True, 1.0, FileStore(tmp_path, "test")),
        announce=lambda epoch: pytest.fail(f"it has announced epoch {epoch}"),
        on_fatal=lambda error: pytest.fail(str(error)),
        on_superseded=pytest.fail,
    )
    core = ParameterServer(cluster_spec=CLUSTER, task_index=1, state=state, role=task.replica)
    try:
        with pytest.raises(UnavailableError, match="not the primary of ps:1"):
            core.hello(CLIENT, "worker:0", timeout_s=TIMEOUT_S)
    finally:
        task.close(drained=True)


LEASE_S = 10.0
THIS, OTHER = UUID(int=11), UUID(int=12)


class Process:
    """A replica whose follower, link and register are set by a test, on a clock that a test moves."""

    def __init__(self, returns_from: int = 0) -> None:
        self.now_s = 100.0
        self.register: Register | None = None
        self.noted_epoch = returns_from
        # as the follower
        self.has_state = self.is_attached = self.is_stopped = False
        self.epoch = 0
        self.heard_s = self.now_s
        # as the link
        self.name = "backup:1 at host:3"
        self.obstacle = "it has not been reached yet"
        self.in_step: UUID | None = None
        self.is_replaced = self.is_left = self.is_wanted = self.is_followed = False
        self.is_leaving = self.wants_place = False
        self.is_silent = False  # of the coordination store
        self.events: list[str] = []
        self.replica = Replica(
            Member(THIS, returns_from),
            returns=bool(returns_from),
            task="ps:1",
            is_second=False,
            follower=cast(Follower, self),
            link=cast(BackupLink, self),
            registers=self,
            transitions=Transitions(
                lambda _store: UUID(int=1),
                lambda _epoch: None,
                lambda _reason: self.events.append("handed over"),
                lambda reason: self.events.append(f"ended: {reason}"),
                lambda is_ready: self.events.append("ready" if is_ready else "not ready"),
            ),
            lease_s=LEASE_S,
            clock=lambda: self.now_s,
            notes=self,
        )

    def note(self, epoch: int, part: Part) -> None:
        assert part in (Part.PRIMARY, Part.BACKUP)
        self.noted_epoch = epoch

    def read(self, *, timeout_s: float) -> Register | None:
        assert timeout_s > 0
        if self.is_silent:
            raise UnavailableError("the store is silent")
        return self.register

    def ask(self, asker: Asker, wish: Wish, candidate: UUID | None = None, *, timeout_s: float) -> Verdict:
        assert asker.process == THIS
        self.events.append(wish.name)
        self.register = wanted(self.read(timeout_s=timeout_s), asker, wish, candidate)
        return Verdict(self.register, granted=True)

    def told(self, register: Register | None = None) -> ReplicationStatus:
        """What it says of itself when it has read this in the coordination store, and drawn its conclusions."""
        self.register = register or self.register
        for _ in range(3):
            self.replica.step()
        return self.replica.status()

    def close(self) -> None: ...

    def follow_again(self) -> None: ...

    def leave(self) -> None:
        self.is_leaving = True

    def go_alone(self) -> None:
        self.in_step, self.is_left = None, False

    def ask_for_sign(self) -> None:
        self.events.append("asked for a sign")

    def hang_up(self) -> None:
        self.events.append("hung up")

    def has_heard_since(self, time_s: float) -> bool:
        return self.heard_s > time_s

    def sign(self) -> None:
        """The backup gives a sign of life, and the process decides."""
        self.now_s += 0.1
        self.heard_s = self.now_s
        self.replica.step()

    def expect(self, primary: UUID | None) -> None: ...

    def begin_epoch(self, epoch: int) -> None: ...

    def stop(self) -> None: ...

    def start(self, epoch: int, store: UUID) -> None: ...

    def hold(self, follower: UUID) -> bool:
        return follower == self.in_step

    def return_to(self, primary: UUID, epoch: int) -> None:
        self.events.append(f"follows {primary.int} from epoch {epoch}")

    @property
    def store(self) -> UUID:
        return UUID(int=7)


def paired() -> Process:
    """A primary with a backup."""
    process = Process()
    process.told(Register(1, THIS))
    process.in_step, process.heard_s = OTHER, process.now_s
    assert process.told() == ReplicationStatus(ReplicaRole.PRIMARY, 2, True)
    process.events.clear()
    return process


def backup() -> Process:
    process = Process()
    process.has_state = process.is_attached = True
    assert process.told(Register(4, OTHER, THIS)) == ReplicationStatus(ReplicaRole.BACKUP, 4)
    return process


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
    silent = process.replica.status()
    assert f"{process.name} has not confirmed for 31.0 s that it is the primary of ps:1" in silent.obstacle
    process.told()
    alone = ReplicationStatus(ReplicaRole.PRIMARY, 2, False, "backup:1 at host:3: it has not been reached yet")
    assert process.replica.status() == alone

    process.in_step, process.heard_s = OTHER, process.now_s
    assert process.told() == ReplicationStatus(ReplicaRole.PRIMARY, 3, True)
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


def test_a_good_end_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    primary, leaving, successor = paired(), backup(), backup()
    caplog.clear()
    primary.is_left = True
    primary.told()
    assert any("goes on without a backup, in epoch 3" in each for each in caplog.messages)
    leaving.replica.retire(0)
    leaving.told(Register(5, OTHER))
    assert any("the primary goes on without it" in each for each in caplog.messages)
    successor.replica.retire(0)
    successor.told(Register(5, THIS, OTHER))
    assert any("is the primary of ps:1 now, in epoch 5" in each for each in caplog.messages)
    levels = {record.levelname for record in caplog.records if "no other process has its state" not in record.message}
    assert levels == {"INFO"}


def test_a_primary_that_is_to_end_hands_over_and_answers_nobody() -> None:
    process = paired()
    process.replica.check_may_answer()
    process.replica.retire(0)
    process.replica.step()
    assert process.events == ["asked for a sign"], "its backup may have died just now, and it would be for nothing"
    process.replica.check_may_answer()
    process.sign()
    assert process.register == Register(3, OTHER, THIS, True)
    with pytest.raises(UnavailableError, match="is being handed over to backup:1"):
        process.replica.check_may_answer()
    process.told()
    assert process.events[1:] == ["HAND_OVER", "hung up"]
    assert not process.replica.has_retired, "the new primary may have died just now"
    process.register = Register(4, OTHER, None, True)
    for _ in range(2):
        process.replica.step()
    assert process.events[3:] == ["handed over"]  # it ends by itself
    with pytest.raises(UnavailableError, match="not the primary"):
        process.replica.check_may_answer()
    assert process.replica.has_retired


def test_a_primary_takes_the_place_back_that_nobody_has_taken() -> None:
    process = paired()
    process.replica.retire(0)
    process.replica.step()
    process.sign()
    process.now_s += LEASE_S + 0.1
    process.told()
    assert process.events[1:] == ["HAND_OVER", "hung up", "TAKE_OVER"]
    assert process.register == Register(4, THIS)
    process.replica.check_may_answer()
    assert process.replica.status().role is ReplicaRole.PRIMARY
    assert not process.replica.has_retired, "it has the only state, and waits for a process that follows it"


def test_a_backup_that_was_handed_the_place_goes_on_alone_before_it_answers() -> None:
    process = backup()
    process.register = Register(5, THIS, OTHER)
    process.replica.step()
    process.heard_s = float("-inf")  # of the other one as its backup
    process.replica.step()
    assert process.replica.is_primary
    with pytest.raises(UnavailableError):
        process.replica.check_may_answer()
    process.told()
    assert process.events[-1] == "GO_ALONE"
    assert process.register == Register(6, THIS)
    process.replica.check_may_answer()


def test_a_primary_answers_nobody_as_long_as_it_does_not_know_whether_it_has_handed_over() -> None:
    process = paired()
    process.replica.retire(0)
    process.replica.step()
    process.is_silent = True
    process.sign()
    with pytest.raises(UnavailableError, match="is being handed over to backup:1"):
        process.replica.check_may_answer()
    process.is_silent = False
    process.register = Register(3, OTHER, THIS, True)  # it was granted, and the answer was lost
    process.told()
    with pytest.raises(UnavailableError, match="is being handed over to backup:1"):
        process.replica.check_may_answer()
    process.told(Register(4, OTHER, None, True))
    assert process.events[-1] == "handed over"


def test_a_primary_whose_backup_is_about_to_end_as_well_goes_on_alone() -> None:
    process = paired()
    process.is_left = True
    process.told()
    assert process.register == Register(3, THIS)
    process.replica.check_may_answer()
    process.replica.retire(0)
    process.told()
    assert process.events == ["GO_ALONE"]


def test_a_primary_hands_over_to_no_backup_that_has_died_just_now() -> None:
    """It holds a lease still, but the only state would end with it."""
    process = paired()
    process.replica.retire(0)
    process.told()
    process.now_s += LEASE_S
    process.told()
    assert process.events == ["asked for a sign", "GO_ALONE"]
    process.replica.check_may_answer()


def test_a_backup_that_the_operator_has_wanted_in_the_place_waits_for_a_follower_when_it_is_told_to_end() -> None:
    """Its primary has ended since it was wanted, and is started again; it was not told to end as well."""
    process = backup()
    process.replica.promote(accept_loss=False)
    process.replica.retire(0)
    process.told(Register(5, THIS))
    assert process.replica.is_primary
    assert not process.replica.may_end

    both = backup()
    both.replica.retire(0)
    both.told(Register(5, THIS))
    assert both.replica.may_end, "both were told to end: nobody comes"


def test_a_process_whose_primary_died_before_it_sent_any_state_can_be_promoted_with_loss() -> None:
    process = Process()
    process.told(Register(8, OTHER))
    process.is_attached = True
    with pytest.raises(UnavailableError, match="is catching up with the primary"):
        process.replica.promote(accept_loss=True)
    process.now_s += LEASE_S + 1
    process.replica.promote(accept_loss=True)
    process.told()
    assert process.register == Register(9, THIS)


def test_a_backup_that_is_to_end_says_so_and_ends_when_the_primary_goes_on_without_it() -> None:
    process = backup()
    process.replica.retire(0)
    assert process.is_leaving
    process.told(Register(5, OTHER))
    assert process.events == ["ready"] or not process.events  # it ends by itself, in good order
    assert process.replica.has_retired


def test_the_operator_has_a_backup_ask_for_the_place_and_the_primary_ends_when_it_has_it() -> None:
    second = backup()
    second.replica.promote(accept_loss=False)
    assert second.wants_place
    first = paired()
    first.is_wanted = True
    first.replica.step()
    first.sign()
    first.told()
    first.told(Register(4, OTHER, None, True))
    assert first.events[:5] == [
        "asked for a sign",
        "HAND_OVER",
        "hung up",
        "handed over",
        "ended: it has handed over to backup:1 at host:3, as the operator wants it",
    ]


def test_the_operator_gives_up_a_state_only_if_he_says_so() -> None:
    process = Process()
    process.told(Register(8, OTHER))
    with pytest.raises(FailedPreconditionError, match="--accept-loss"):
        process.replica.promote(accept_loss=False)
    process.replica.promote(accept_loss=True)
    status = process.told()
    assert process.register == Register(9, THIS)
    assert "waits until no other one may answer" in status.obstacle
    process.now_s += LEASE_S
    process.told()
    with pytest.raises(UnavailableError, match="just begun"):
        process.replica.check_may_answer()
    for other in (paired(), backup()):
        if other.replica.is_primary:
            with pytest.raises(FailedPreconditionError, match="already"):
                other.replica.promote(accept_loss=True)
        else:
            other.replica.promote(accept_loss=True)
            assert other.wants_place, "a backup has the state, and loses nothing"


def test_only_a_whole_pair_is_ready() -> None:
    process = Process()
    assert not process.replica.is_ready
    process.told(Register(1, THIS))
    process.now_s += 3 * LEASE_S + 1
    process.told()
    process.replica.check_may_answer()
    assert not process.replica.is_ready, "it is alone"
    whole, second = paired(), backup()
    assert whole.replica.is_ready
    assert second.replica.is_ready
    for each in (whole, second):
        each.now_s += LEASE_S + 0.1
        assert not each.replica.is_ready, "the other one is silent"


def returned(register: Register | None) -> Process:
    """One with state of epoch 4 on its disk, which has read the register and drawn its conclusions."""
    process = Process(returns_from=4)
    process.has_state, process.register = True, register
    process.replica.step()
    process.replica.step()
    return process


def test_one_that_returns_is_what_it_was_in_the_next_epoch() -> None:
    primary = returned(Register(4, THIS, OTHER))
    assert primary.register == Register(5, THIS)
    assert (primary.replica.status().role, primary.replica.epoch) == (ReplicaRole.PRIMARY, 5)
    primary.told()
    with pytest.raises(UnavailableError, match="waits until no other one may answer"):
        primary.replica.check_may_answer()  # its backup may be read, as long as it would have waited for that
    primary.now_s += LEASE_S * PRIMARY_PART + 0.1
    primary.told()
    primary.replica.check_may_answer()

    alone = returned(Register(4, THIS))
    alone.told()
    alone.replica.check_may_answer()

    backup = returned(Register(4, OTHER, THIS))
    assert backup.register == Register(5, OTHER, THIS)
    assert backup.replica.status() == ReplicationStatus(ReplicaRole.BACKUP, 5)
    assert backup.events == ["RETURN", f"follows {OTHER.int} from epoch 5"]


def test_one_that_ends_while_its_backup_may_still_be_read_waits_anew_when_it_returns() -> None:
    first = returned(Register(4, THIS, OTHER))
    assert first.noted_epoch == 4, "it has not been able to answer in the new epoch"

    second = Process(returns_from=first.noted_epoch)
    second.has_state = True
    second.told(first.register)
    assert second.register == Register(6, THIS)
    with pytest.raises(UnavailableError, match="waits until no other one may answer"):
        second.replica.check_may_answer()
    second.now_s += LEASE_S * PRIMARY_PART + 0.1
    second.told()
    second.replica.check_may_answer()
    assert second.noted_epoch == 6

    third = Process(returns_from=second.noted_epoch)
    third.has_state = True
    third.told(second.register)
    third.replica.check_may_answer()


def test_only_one_of_which_nobody_knows_whether_it_has_the_newest_state_can_be_told_to_go_on_with_it() -> None:
    unread = Process(returns_from=4)
    unread.has_state = True
    with pytest.raises(UnavailableError, match="try again later"):
        unread.replica.promote(accept_loss=True)

    stranded = returned(None)
    status = stranded.replica.status()
    assert status.role is ReplicaRole.CATCHING_UP
    assert "has no entry of this task, but this process has state of epoch 4 on its disk" in status.obstacle
    with pytest.raises(FailedPreconditionError, match="has state of epoch 4"):
        stranded.replica.promote(accept_loss=False)
    with pytest.raises(UnavailableError):
        stranded.replica.check_may_answer()
    stranded.replica.promote(accept_loss=True)
    stranded.told()
    assert stranded.events[:2] == ["BEGIN_ANEW", "RETURN"]
    assert stranded.register == Register(6, THIS)
    with pytest.raises(UnavailableError, match="waits until no other one may answer"):
        stranded.replica.check_may_answer()
    stranded.now_s += LEASE_S + 0.1
    stranded.told()
    stranded.replica.check_may_answer()
