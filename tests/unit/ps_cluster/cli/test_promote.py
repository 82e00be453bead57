"""Which process of a pair becomes the primary, and when none may."""

from __future__ import annotations

import pytest

from ps_cluster.cli.promote import chosen_process
from ps_cluster.inspection.queries import PsAnswer
from ps_protocol.errors import FailedPreconditionError, UnavailableError
from ps_protocol.service_types import ReplicaRole, Status
from ps_protocol.task_id import TaskId
from tests.unit.ps_cluster.fakes import replica_status

PS, BACKUP = TaskId("ps", 0), TaskId("backup", 0)


def pair(ps: ReplicaRole | None, backup: ReplicaRole | None) -> list[PsAnswer[Status]]:
    """What the two say of themselves; None for one that does not answer."""
    return [
        PsAnswer(task, "host:1", error=UnavailableError("it is gone"))
        if role is None
        else PsAnswer(task, "host:1", value=replica_status("ps:0", role))
        for task, role in ((PS, ps), (BACKUP, backup))
    ]


@pytest.mark.parametrize("accept_loss", [False, True])
@pytest.mark.parametrize("other", [ReplicaRole.PRIMARY, ReplicaRole.EMPTY, None])
def test_the_backup_is_chosen_if_there_is_one(other: ReplicaRole | None, accept_loss: bool) -> None:
    assert chosen_process(pair(other, ReplicaRole.BACKUP), 0, accept_loss=accept_loss).task == BACKUP


@pytest.mark.parametrize("other", [ReplicaRole.EMPTY, ReplicaRole.CATCHING_UP, None])
def test_no_state_is_given_up_that_a_primary_has(other: ReplicaRole | None) -> None:
    for accept_loss in (False, True):
        with pytest.raises(FailedPreconditionError, match="ps:0 is primary"):
            chosen_process(pair(ReplicaRole.PRIMARY, other), 0, accept_loss=accept_loss)


def test_a_state_that_is_lost_is_given_up_only_if_the_operator_says_so() -> None:
    lost = pair(None, ReplicaRole.EMPTY)
    with pytest.raises(FailedPreconditionError, match="give the state up with --accept-loss"):
        chosen_process(lost, 0, accept_loss=False)
    assert chosen_process(lost, 0, accept_loss=True).task == BACKUP
