"""What every transport does with the directory, the members, inspection and control."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID, uuid4

import numpy as np
import pytest

from ps_protocol.errors import (
    AbortedError,
    AlreadyExistsError,
    DTypeMismatchError,
    FailedPreconditionError,
    InvalidArgumentError,
    ShapeMismatchError,
    StateLostError,
    UnavailableError,
)
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import Declare, PartitionSlice, Read, Result, Update, UpdateRule, VariableSpec
from ps_protocol.ps_service import ClusterService
from ps_protocol.service_types import (
    KnownCluster,
    MemberState,
    Placement,
    Proposal,
    PsAddress,
    ServingState,
    VariableInfo,
    listed_incarnation,
)
from tests.conftest import Eventually
from tests.contract.conftest import JOB_SEED, MEMORY_LIMIT_BYTES, TIMEOUT_S, Conversation, Task

W = VariableSpec("scope/w", np.dtype(np.float32), (4, 3))
V = VariableSpec("scope/v", np.dtype(np.int64), ())
PART = VariableSpec("scope/t/part_0", np.dtype(np.float32), (2, 3), PartitionSlice("scope/t", (4, 3), (0, 0)))
ONES = InitializerSpec(ConstantKind(1.0))
FIRST, SECOND = UUID(int=1), UUID(int=2)


def test_hello_tells_task_store_and_seed(ps: Task, second_ps: Task) -> None:
    first = ps.service().hello(uuid4(), "worker:0", timeout_s=TIMEOUT_S)
    second = second_ps.service().hello(uuid4(), "worker:0", timeout_s=TIMEOUT_S)
    assert (first.task, first.store, first.job_seed) == ("ps:0", ps.core.store_incarnation, JOB_SEED)
    assert (second.task, second.store) == ("ps:1", second_ps.core.store_incarnation)


def test_hello_tells_of_which_cluster_a_ps_is_if_it_is_asked(ps: Task, second_ps: Task) -> None:
    def known(task: Task, num_ps_tasks: int = 2) -> KnownCluster | None:
        return task.service().hello(uuid4(), "worker:0", num_ps_tasks=num_ps_tasks, timeout_s=TIMEOUT_S).cluster

    first_ps, identity = "ps0.example:2222", ps.core.store_incarnation
    assert known(ps, 0) is None
    assert known(ps) == KnownCluster(2, identity, first_ps)
    assert known(second_ps) == KnownCluster(2, None, first_ps)
    second_ps.core.announce(PsAddress("ps:0", first_ps, FIRST), "host", 7, cluster=identity, timeout_s=TIMEOUT_S)
    second_ps.core.announce(PsAddress("ps:1", "b.example:2", FIRST), "host", 7, cluster=FIRST, timeout_s=TIMEOUT_S)
    assert known(second_ps) == KnownCluster(2, identity, first_ps)


# -- directory ----------------------------------------------------------------------------------


def test_the_first_proposal_for_a_name_is_recorded(ps: Task) -> None:
    one, other = ps.service(), ps.service()
    assert one.place([Proposal(W, 1), Proposal(PART, 0)], timeout_s=TIMEOUT_S) == [Placement(W, 1), Placement(PART, 0)]
    assert other.place([Proposal(V, 0), Proposal(W, 0)], timeout_s=TIMEOUT_S) == [Placement(V, 0), Placement(W, 1)]
    assert one.list_placements(timeout_s=TIMEOUT_S) == [Placement(PART, 0), Placement(V, 0), Placement(W, 1)]


def test_a_proposal_meant_for_a_lost_directory_is_refused_and_records_nothing(ps: Task) -> None:
    service = ps.service()
    with pytest.raises(StateLostError, match="started again"):
        service.place([Proposal(W, 1)], store=uuid4(), timeout_s=TIMEOUT_S)
    assert service.list_placements(timeout_s=TIMEOUT_S) == []
    meant = ps.core.store_incarnation
    assert service.place([Proposal(W, 1)], store=meant, timeout_s=TIMEOUT_S) == [Placement(W, 1)]


def test_a_proposal_that_differs_is_refused_alone(ps: Task) -> None:
    service = ps.service()
    service.place([Proposal(W, 1)], timeout_s=TIMEOUT_S)
    shape, dtype, task, good = service.place(
        [
            Proposal(VariableSpec("scope/w", W.dtype, (9, 9)), 1),
            Proposal(VariableSpec("scope/w", np.dtype(np.int8), W.shape), 1),
            Proposal(VariableSpec("scope/x", W.dtype, W.shape), 2),
            Proposal(V, 0),
        ],
        timeout_s=TIMEOUT_S,
    )
    assert isinstance(shape, ShapeMismatchError)
    assert all(part in shape.message for part in ("scope/w", "[4, 3]", "[9, 9]"))
    assert isinstance(dtype, DTypeMismatchError)
    assert isinstance(task, InvalidArgumentError)
    assert task.variable == "scope/x"
    assert good == Placement(V, 0)


# -- members ------------------------------------------------------------------------------------


def test_tasks_join_report_and_leave(ps: Task) -> None:
    service = ps.service()
    service.join("worker:1", FIRST, "host-a", 41, timeout_s=TIMEOUT_S)
    service.join("worker:0", SECOND, "host-b", 42, timeout_s=TIMEOUT_S)
    service.report_progress("worker:1", FIRST, 7, timeout_s=TIMEOUT_S)
    service.leave("worker:0", SECOND, timeout_s=TIMEOUT_S)
    zero, one = service.list_members(timeout_s=TIMEOUT_S)
    assert (zero.task, zero.incarnation, zero.host, zero.pid) == ("worker:0", listed_incarnation(SECOND), "host-b", 42)
    assert (zero.state, zero.step) == (MemberState.LEFT, 0)
    assert (one.task, one.state, one.step) == ("worker:1", MemberState.ACTIVE, 7)
    assert 1e9 < one.joined_at_s <= one.last_seen_s


def test_a_new_incarnation_takes_the_place_of_the_old(ps: Task) -> None:
    service = ps.service()
    service.join("worker:0", FIRST, "host-a", 41, timeout_s=TIMEOUT_S)
    service.join("worker:0", SECOND, "host-b", 42, timeout_s=TIMEOUT_S)
    with pytest.raises(AbortedError, match="worker:0") as error:
        service.report_progress("worker:0", FIRST, 1, timeout_s=TIMEOUT_S)
    assert not error.value.retryable
    service.leave("worker:0", FIRST, timeout_s=TIMEOUT_S)
    (member,) = service.list_members(timeout_s=TIMEOUT_S)
    assert (member.incarnation, member.state) == (listed_incarnation(SECOND), MemberState.ACTIVE)


def test_a_task_that_is_taken_is_not_given_to_another_process(ps: Task, eventually: Eventually) -> None:
    first, service = ps.conversation(), ps.service()
    service.join("worker:0", first.client, "host-a", 41, lease_s=600.0, timeout_s=TIMEOUT_S)
    with pytest.raises(AbortedError, match="worker:0 is the process 41 on host-a") as waiting:
        service.join("worker:0", SECOND, "host-b", 42, lease_s=60.0, if_free=True, timeout_s=TIMEOUT_S)
    assert waiting.value.retryable
    service.heartbeat("worker:0", first.client, timeout_s=TIMEOUT_S)
    with pytest.raises(AlreadyExistsError, match="lives"):
        service.join("worker:0", SECOND, "host-b", 42, lease_s=60.0, if_free=True, timeout_s=TIMEOUT_S)
    if ps.transport in ("core", "grpc"):  # which have no connection that ends
        return
    first.endpoint.close()

    def joins() -> bool:
        try:
            service.join("worker:0", SECOND, "host-b", 42, lease_s=60.0, if_free=True, timeout_s=TIMEOUT_S)
        except AlreadyExistsError:
            return False
        return True

    eventually(joins, message="the ps has seen the end of the connection")


def test_a_task_with_another_cluster_is_told(ps: Task) -> None:
    service = ps.service()
    sizes = {"worker": 2}
    assert service.join("worker:0", FIRST, "host-a", 41, job_sizes=sizes, timeout_s=TIMEOUT_S) is None
    told = service.join("worker:1", SECOND, "host-b", 42, job_sizes={"worker": 4}, timeout_s=TIMEOUT_S)
    assert told is not None
    assert "worker:0 (pid 41 on host-a)" in told
    assert "worker:1" in (service.heartbeat("worker:0", FIRST, timeout_s=TIMEOUT_S) or "")


def test_a_heartbeat_renews_the_lease_and_tells_the_step(ps: Task) -> None:
    service = ps.service()
    service.join("worker:1", FIRST, "host-a", 41, lease_s=60.0, age_s=100.0, timeout_s=TIMEOUT_S)
    joined = service.list_members(timeout_s=TIMEOUT_S)[0]
    service.heartbeat("worker:1", FIRST, 9, timeout_s=TIMEOUT_S)
    service.heartbeat("worker:1", FIRST, timeout_s=TIMEOUT_S)
    (member,) = service.list_members(timeout_s=TIMEOUT_S)
    assert (member.state, member.step, member.lease_s) == (MemberState.ACTIVE, 9, 60.0)
    assert member.last_seen_s >= joined.last_seen_s == pytest.approx(joined.joined_at_s + 100)


def test_a_heartbeat_may_say_that_no_step_is_done(ps: Task) -> None:
    service = ps.service()
    service.join("worker:1", FIRST, "host-a", 41, timeout_s=TIMEOUT_S)
    service.heartbeat("worker:1", FIRST, 9, timeout_s=TIMEOUT_S)
    service.heartbeat("worker:1", FIRST, 0, timeout_s=TIMEOUT_S)
    assert service.list_members(timeout_s=TIMEOUT_S)[0].step == 0


def test_a_member_whose_lease_has_run_out_is_dead(ps: Task, eventually: Eventually) -> None:
    service = ps.service()
    service.join("worker:1", FIRST, "host-a", 41, lease_s=1e-6, timeout_s=TIMEOUT_S)
    eventually(lambda: service.list_members(timeout_s=TIMEOUT_S)[0].state is MemberState.DEAD, message="it is dead")
    service.join("worker:1", SECOND, "host-b", 42, lease_s=60.0, timeout_s=TIMEOUT_S)
    assert service.list_members(timeout_s=TIMEOUT_S)[0].state is MemberState.ACTIVE


def test_a_heartbeat_of_a_task_that_is_not_known_asks_it_to_join(ps: Task) -> None:
    with pytest.raises(FailedPreconditionError, match="worker:1 has not joined"):
        ps.service().heartbeat("worker:1", FIRST, timeout_s=TIMEOUT_S)


def test_a_heartbeat_of_a_process_that_was_replaced_is_refused(ps: Task) -> None:
    service = ps.service()
    service.join("worker:0", FIRST, "host-a", 41, timeout_s=TIMEOUT_S)
    service.join("worker:0", SECOND, "host-b", 42, timeout_s=TIMEOUT_S)
    with pytest.raises(AbortedError, match="pid 42 on host-b") as error:
        service.heartbeat("worker:0", FIRST, timeout_s=TIMEOUT_S)
    assert not error.value.retryable


# -- addresses ----------------------------------------------------------------------------------


def test_every_ps_task_knows_who_has_announced_itself(ps: Task, second_ps: Task) -> None:
    for service in (ps.service(), second_ps.service()):
        assert service.list_addresses(timeout_s=TIMEOUT_S) == []
        first = PsAddress("ps:1", "b.example:2", FIRST)
        assert service.announce(first, "host", 7, timeout_s=TIMEOUT_S) == [first]
        moved = PsAddress("ps:1", "c.example:3", SECOND, epoch=2**40)
        own = PsAddress("ps:0", "a.example:1", FIRST)
        assert service.announce(moved, "host", 8, timeout_s=TIMEOUT_S) == [moved]
        assert service.announce(own, "host", 9, timeout_s=TIMEOUT_S) == [own, moved]
        assert service.list_addresses(timeout_s=TIMEOUT_S) == [own, moved]
        with pytest.raises(AbortedError, match=r"ps:1 .*c\.example:3") as error:
            service.announce(first, "host", 7, timeout_s=TIMEOUT_S)
        assert not error.value.retryable


def test_to_ps_task_0_an_announcement_is_join_and_heartbeat(ps: Task) -> None:
    service = ps.service()
    for pid in (7, 8):
        service.announce(
            PsAddress("ps:1", "b.example:2", FIRST), "host", pid, lease_s=30.0, age_s=5.0, timeout_s=TIMEOUT_S
        )
    (member,) = service.list_members(timeout_s=TIMEOUT_S)
    assert (member.task, member.host, member.pid, member.lease_s) == ("ps:1", "host", 8, 30.0)
    assert member.state is MemberState.ACTIVE


def test_an_address_that_cannot_be_is_refused(ps: Task) -> None:
    for wrong in (PsAddress("ps:7", "b.example:2", FIRST), PsAddress("ps:1", "nowhere", FIRST)):
        with pytest.raises(InvalidArgumentError, match="ps:"):
            ps.service().announce(wrong, "host", 7, timeout_s=TIMEOUT_S)


def test_a_task_that_is_none_is_refused(ps: Task) -> None:
    with pytest.raises(InvalidArgumentError, match="'somebody'"):
        ps.service().join("somebody", FIRST, "host", 1, timeout_s=TIMEOUT_S)


OF_TASK_0: list[Callable[[ClusterService], object]] = [
    lambda service: service.place([Proposal(W, 0)], timeout_s=TIMEOUT_S),
    lambda service: service.list_placements(timeout_s=TIMEOUT_S),
    lambda service: service.join("worker:0", FIRST, "host", 1, timeout_s=TIMEOUT_S),
    lambda service: service.leave("worker:0", FIRST, timeout_s=TIMEOUT_S),
    lambda service: service.report_progress("worker:0", FIRST, 1, timeout_s=TIMEOUT_S),
    lambda service: service.heartbeat("worker:0", FIRST, timeout_s=TIMEOUT_S),
    lambda service: service.list_members(timeout_s=TIMEOUT_S),
]


@pytest.mark.parametrize("call", OF_TASK_0)
def test_another_task_says_whom_to_ask(second_ps: Task, call: Callable[[ClusterService], object]) -> None:
    with pytest.raises(FailedPreconditionError, match=r"ps:0 at ps0\.example:2222") as error:
        call(second_ps.service())
    assert error.value.task == "ps:1"


# -- inspection ---------------------------------------------------------------------------------


def test_variables_are_listed_by_name(talk: Conversation) -> None:
    talk.run(Declare(W, ONES))
    talk.run(Declare(V))
    talk.run(Declare(PART))
    talk.run(Update("scope/w", UpdateRule.ASSIGN_ADD, np.array(1, np.float32)))
    assert talk.service.list_variables(timeout_s=TIMEOUT_S) == [
        VariableInfo(PART, 0, False, 24),
        VariableInfo(V, 0, False, 8),
        VariableInfo(W, 1, True, 48),
    ]


def test_status_tells_what_the_task_holds_and_has_done(talk: Conversation, ps: Task) -> None:
    talk.run(Declare(W, ONES))
    talk.replies(Read("scope/w"), Read("scope/w"))
    status = talk.service.status(timeout_s=TIMEOUT_S)
    assert (status.task, status.state, status.store) == ("ps:0", ServingState.SERVING, ps.core.store_incarnation)
    assert status.uptime_s > 0
    assert (status.num_variables, status.variable_bytes, status.memory_limit_bytes) == (1, 48, MEMORY_LIMIT_BYTES)
    assert (status.num_clients, status.batches, status.operations, status.duplicate_batches) == (1, 2, 3, 0)


# -- control ------------------------------------------------------------------------------------


def test_a_drained_task_refuses_batches_and_can_be_inspected(talk: Conversation) -> None:
    talk.run(Declare(W, ONES))
    talk.service.drain("an upgrade", timeout_s=TIMEOUT_S)
    for operation in (Read("scope/w"), Update("scope/w", UpdateRule.ASSIGN_ADD, np.array(1, np.float32))):
        with pytest.raises(UnavailableError, match="an upgrade") as error:
            talk.run(operation)
        assert error.value.retryable
    with pytest.raises(UnavailableError):
        talk.service.hello(uuid4(), "worker:1", timeout_s=TIMEOUT_S)
    status = talk.service.status(timeout_s=TIMEOUT_S)
    assert status.state is ServingState.STOPPED
    assert talk.service.list_variables(timeout_s=TIMEOUT_S) == [VariableInfo(W, 0, True, 48)]
    talk.service.drain("again", timeout_s=TIMEOUT_S)


def test_a_drained_task_still_answers_what_it_has_applied(talk: Conversation) -> None:
    talk.run(Declare(W, ONES))
    batch = talk.batch(Update("scope/w", UpdateRule.ASSIGN_ADD, np.array(1, np.float32)))
    assert talk.send(batch).replies == (Result(1, True),)
    talk.service.drain("an upgrade", timeout_s=TIMEOUT_S)
    assert talk.send(batch).replies == (Result(1, True),)


def test_shutdown_stops_accepting_and_asks_for_the_end(talk: Conversation, ps: Task) -> None:
    talk.service.shutdown("the job is done", timeout_s=TIMEOUT_S)
    assert ps.core.shutdown_requested.is_set()
    with pytest.raises(UnavailableError, match="the job is done"):
        talk.run(Declare(W, ONES))


def test_closing_one_way_leaves_the_task_alone(ps: Task) -> None:
    service = ps.service()
    service.close()
    ps.conversation().run(Declare(W, ONES))
