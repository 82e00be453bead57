"""Asks every ps task of a cluster the same thing, all at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Generic, TypeAlias, TypeVar

from ps_protocol.cluster_spec import BACKUP_JOB, PS_JOB, ClusterSpec
from ps_protocol.errors import FailedPreconditionError, ShardscopeError, UnavailableError
from ps_protocol.ps_service import ClusterService
from ps_protocol.service_types import ReplicaRole, Status
from ps_protocol.task_id import TaskId

_MAX_CONCURRENT_CALLS: Final = 32
_STATELESS: Final = (ReplicaRole.EMPTY, ReplicaRole.CATCHING_UP)

_T = TypeVar("_T")

Connect: TypeAlias = Callable[[str, TaskId], ClusterService]
"""Makes the client of the ps at an address; nothing need be listening there yet."""


@dataclass(frozen=True, slots=True)
class PsAnswer(Generic[_T]):
    """What a process of a ps task has answered.

    Attributes:
        task: Which, as ps:0 or backup:0.
        address: Where.
        value: The answer; None if there is an error.
        error: Why there is none.
    """

    task: TaskId
    address: str
    value: _T | None = None
    error: ShardscopeError | None = None


def ps_processes(cluster_spec: ClusterSpec) -> dict[TaskId, str]:
    """Addresses of all ps tasks and their backups, by index.

    Raises:
        ValueError: The cluster has no ps tasks, or not all of those it should have.
    """
    places = {TaskId(PS_JOB, index): address for index, address in enumerate(cluster_spec.ps_addresses())}
    if BACKUP_JOB in cluster_spec.jobs:
        for index in cluster_spec.task_indices(BACKUP_JOB):
            places[TaskId(BACKUP_JOB, index)] = cluster_spec.task_address(BACKUP_JOB, index)
    return places


def ask_statuses(cluster_spec: ClusterSpec, *, connect: Connect, timeout_s: float) -> list[PsAnswer[Status]]:
    """Asks every process for its status; one that is another ps task than the spec says is an error.

    Raises:
        ValueError: The cluster has no ps tasks, or not all of those it should have.
    """
    return list(map(_at_its_place, ask_all(cluster_spec, lambda ps: ps.status(timeout_s=timeout_s), connect=connect)))


def _at_its_place(answer: PsAnswer[Status]) -> PsAnswer[Status]:
    if answer.value is None or TaskId.parse(answer.value.task).index == answer.task.index:
        return answer
    error = FailedPreconditionError(
        f"the process at {answer.address} is {answer.value.task}, not {answer.task}; give the addresses in the "
        f"order in which the ps tasks were given them"
    )
    return PsAnswer(answer.task, answer.address, error=error)


def ask_all(
    cluster_spec: ClusterSpec, question: Callable[[ClusterService], _T], *, connect: Connect
) -> list[PsAnswer[_T]]:
    """Puts a question to every ps task, to both processes of one that is replicated; as ``ask_each``.

    Raises:
        ValueError: The cluster has no ps tasks, or not all of those it should have.
    """
    return ask_each(ps_processes(cluster_spec), question, connect=connect)


def shut_down_all(
    cluster_spec: ClusterSpec, reason: str, *, connect: Connect, timeout_s: float
) -> list[PsAnswer[None]]:
    """Ends every ps task in good order, both processes of one that is replicated, of which none hands over.

    Args:
        cluster_spec: The cluster, with its backups.
        reason: Why, for those whose batches are refused from now on.
        connect: Makes the client of a process; it is closed after the question.
        timeout_s: Bound on each question.

    Raises:
        ValueError: The cluster has no ps tasks, or not all of those it should have.
    """
    if BACKUP_JOB in cluster_spec.jobs:
        # Before any process ends: what a primary has accepted needs its backup. Whoever fails is asked again below.
        ask_all(cluster_spec, lambda ps: ps.drain(reason, timeout_s=timeout_s), connect=connect)
    return ask_all(cluster_spec, lambda ps: ps.shutdown(reason, timeout_s=timeout_s), connect=connect)


def ask_each(
    places: Mapping[TaskId, str], question: Callable[[ClusterService], _T], *, connect: Connect
) -> list[PsAnswer[_T]]:
    """Puts a question to some processes.

    Args:
        places: Where they are.
        question: Makes the call, with a timeout.
        connect: Makes the client of one; it is closed after the question.

    Returns:
        An answer for each process, in their order.
    """

    def ask(task: TaskId, address: str) -> PsAnswer[_T]:
        service = connect(address, task)
        try:
            return PsAnswer(task, address, value=question(service))
        except ShardscopeError as error:
            return PsAnswer(task, address, error=error)
        finally:
            service.close()

    if not places:
        return []
    with ThreadPoolExecutor(min(len(places), _MAX_CONCURRENT_CALLS), thread_name_prefix="ps query") as pool:
        return list(pool.map(ask, places.keys(), places.values()))


def ask_primaries(
    statuses: Sequence[PsAnswer[Status]], question: Callable[[ClusterService], _T], *, connect: Connect
) -> list[PsAnswer[_T]]:
    """Puts a question to each ps task, at its process that answers clients.

    Args:
        statuses: What all processes have said of themselves: an answer of ``ask_all``.
        question: Makes the call, with a timeout.
        connect: Makes the client of one; it is closed after the question.

    Returns:
        An answer for each ps task, by index; an error if none of its processes is known to answer clients.
    """
    primaries = [_primary(each, statuses) for each in statuses if each.task.job == PS_JOB]
    places = {each.task: each.address for each in primaries if each.error is None}
    answers = {each.task: each for each in ask_each(places, question, connect=connect)}
    return [answers.get(each.task, PsAnswer(each.task, each.address, error=each.error)) for each in primaries]


def _primary(ps: PsAnswer[Status], statuses: Sequence[PsAnswer[Status]]) -> PsAnswer[Status]:
    """What the primary of a ps task has said, under the name of the task."""
    pair = [each for each in statuses if each.task.index == ps.task.index]
    # If both say that they are the primary, the one of the newer epoch is right.
    newest = max((each for each in pair if _epoch(each) >= 0), key=_epoch, default=None)
    if newest is not None:
        return PsAnswer(ps.task, newest.address, value=newest.value)
    if all(each.error is not None for each in pair):
        return ps
    return PsAnswer(ps.task, ps.address, error=UnavailableError(_nobody_serves(pair)))


def _nobody_serves(pair: Sequence[PsAnswer[Status]]) -> str:
    if len(pair) == 1:
        return (
            "this is the backup of its task now, and the primary's address is not known: give the cluster with its "
            "backups, as in 'ps=...;backup=...'"
        )
    replicas = [each.value.replication for each in pair if each.value is not None]
    obstacles = [each.obstacle for each in replicas if each is not None and each.role in _STATELESS and each.obstacle]
    if obstacles:
        return f"{pair[0].task} waits for its state: {obstacles[0]}"
    names = " nor ".join(str(each.task) for each in pair)
    return f"neither {names} is known to be the primary now; try again, or see shardscope ls --tasks"


def _epoch(answer: PsAnswer[Status]) -> int:
    """In which epoch a process answers clients; -1 if it does not."""
    status = answer.value
    if status is None or not status.answers_clients:
        return -1
    return 0 if status.replication is None else status.replication.epoch


def explain(error: ShardscopeError, task: TaskId, address: str) -> str:
    """Says in one line which ps task has not answered, where it should be, why, and what to do."""
    reason = " ".join(error.message.split())
    return f"[{task}] {reason}" if address in reason else f"[{task}] at {address}: {reason}"
