"""``shardscope promote``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import click

from ps_cluster.cli.common import one_line_errors, timeout_option
from ps_cluster.cli.questions import ask_statuses, cluster_option, cluster_spec, connect
from ps_cluster.inspection.queries import PsAnswer
from ps_protocol.cluster_spec import BACKUP_JOB, PS_JOB, ClusterSpec
from ps_protocol.errors import DeadlineExceededError, FailedPreconditionError, ShardscopeError
from ps_protocol.service_types import ReplicaRole, Status
from ps_protocol.task_id import TaskId

_LOOK_EVERY_S: Final = 0.2


@click.command()
@click.argument("task", metavar="TASK")
@click.option(
    "--accept-loss",
    is_flag=True,
    help="Begin without the variables that the task had, if no process that has them is left; or with those on a disk, "
    "if nobody can say whether they are the newest.",
)
@cluster_option
@timeout_option(30.0)
def command(task: str, accept_loss: bool, cluster: str | None, timeout_s: float) -> None:
    """Has the backup of a ps task, as ps:1, become its primary.

    The primary hands over to it, and ends; started again, it becomes the backup. If it is silent, the backup takes over
    after the lease by itself.
    """
    with one_line_errors():
        index = _ps_index(task)
        spec = cluster_spec(cluster, timeout_s)
        chosen = chosen_process(_pair(spec, index, timeout_s), index, accept_loss=accept_loss)
        epoch = _promoted(chosen, accept_loss=accept_loss, timeout_s=timeout_s)
    click.echo(f"{chosen.task} at {chosen.address} is the primary of ps:{index}, in epoch {epoch}")


def _ps_index(task: str) -> int:
    parsed = TaskId.parse(task)
    if parsed.job not in (PS_JOB, BACKUP_JOB):
        raise ValueError(f"{task} is no ps task; give one as in ps:1")
    return parsed.index


def _pair(spec: ClusterSpec, index: int, timeout_s: float) -> list[PsAnswer[Status]]:
    """What the processes of the task say of themselves."""
    spec.task_address(PS_JOB, index)
    return [each for each in ask_statuses(spec, timeout_s) if each.task.index == index]


def chosen_process(pair: Sequence[PsAnswer[Status]], index: int, *, accept_loss: bool) -> PsAnswer[Status]:
    """The process to promote; FailedPreconditionError if none can be."""
    roles = {each.task: _role(each) for each in pair}
    for each in pair:
        if roles[each.task] is ReplicaRole.BACKUP:
            return each
    said = "; ".join(f"{each.task} {_in_words(each)}" for each in pair)
    if accept_loss and ReplicaRole.PRIMARY in roles.values():
        raise FailedPreconditionError(
            f"ps:{index} has its state, and nothing has to be given up: {said}. To begin without it all the same, let "
            f"the primary end before"
        )
    if accept_loss and (waiting := [each for each in pair if _newest_record(each) is not None]):
        return max(waiting, key=lambda each: _newest_record(each) or (0, 0))
    for each in pair:
        if accept_loss and roles[each.task] is ReplicaRole.EMPTY:
            return each
    remedy = "wait until the pair is complete (`shardscope health --ready`)"
    if any(_newest_record(each) is not None for each in pair):
        remedy += ", put the coordination store's data back, or go on with the newest state there is with --accept-loss"
    elif ReplicaRole.EMPTY in roles.values():
        remedy += ", start the process again that has the state, or give the state up with --accept-loss"
    raise FailedPreconditionError(f"ps:{index} has no backup that could become its primary: {said}; {remedy}")


def _newest_record(answer: PsAnswer[Status]) -> tuple[int, int] | None:
    """Epoch and position of the state that a process has from its disk, and that it may not go on with by itself."""
    status, role = answer.value, _role(answer)
    if status is None or status.replication is None or status.durability is None:
        return None
    if role is not ReplicaRole.CATCHING_UP or not status.replication.obstacle:
        return None
    return status.replication.epoch, status.durability.last_position


def _role(answer: PsAnswer[Status]) -> ReplicaRole | None:
    if answer.value is None or answer.value.replication is None:
        return None
    return answer.value.replication.role


def _in_words(answer: PsAnswer[Status]) -> str:
    if answer.error is not None:
        return f"does not answer ({answer.error.message})"
    role = _role(answer)
    return "has no other process" if role is None else f"is {role.name.lower().replace('_', ' ')}"


def _promoted(chosen: PsAnswer[Status], *, accept_loss: bool, timeout_s: float) -> int:
    """Has a process become the primary, and returns its epoch; DeadlineExceededError if it is not in time."""
    deadline_s = time.monotonic() + timeout_s
    service = connect(chosen.address, chosen.task)
    try:
        service.promote(accept_loss=accept_loss, timeout_s=timeout_s)
        while True:
            remaining_s = deadline_s - time.monotonic()
            try:
                status = service.status(timeout_s=max(_LOOK_EVERY_S, remaining_s)).replication
                if status is not None and status.role is ReplicaRole.PRIMARY:
                    return status.epoch
            except ShardscopeError as error:
                if not error.retryable:
                    raise
            if remaining_s <= 0:
                raise DeadlineExceededError(
                    f"{chosen.task} at {chosen.address} was told to become the primary, and is not yet; "
                    f"`shardscope ls --tasks` shows what it is"
                )
            time.sleep(_LOOK_EVERY_S)
    finally:
        service.close()
