"""Finds all ps tasks of a cluster by some of their addresses, and makes sure that those are of one cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from ps_cluster.inspection.queries import Connect, ask_each
from ps_protocol.cluster_spec import PS_JOB, ClusterSpec
from ps_protocol.errors import FailedPreconditionError, UnavailableError
from ps_protocol.ps_service import ClusterService
from ps_protocol.service_types import PsAddress
from ps_protocol.task_id import TaskId

_SETTLE_S: Final = 1.0
"""How long ps tasks that have just started are given to meet, before they count as ones of different clusters."""


@dataclass(frozen=True, slots=True)
class _Heard:
    """What a process of a ps task has said.

    Attributes:
        given: Which task it is by the cluster spec.
        address: Where it was asked.
        task: Which it says that it is.
        known: Where it knows the ps tasks to be, itself included.
    """

    given: TaskId
    address: str
    task: TaskId
    known: Mapping[TaskId, PsAddress]


def whole_cluster_at(address: str, *, connect: Connect, timeout_s: float) -> ClusterSpec:
    """Returns the ps tasks of the cluster that has one at an address, whichever it is; otherwise as ``whole_cluster``.

    Raises:
        ShardscopeError: None answers there.
    """
    spec = ClusterSpec({PS_JOB: [address]})
    [answer] = ask_each({TaskId(PS_JOB, 0): address}, lambda ps: ps.status(timeout_s=timeout_s), connect=connect)
    if answer.error is not None:
        answer.error.task = ""  # which was not told
        raise answer.error
    return whole_cluster(spec, connect=connect, timeout_s=timeout_s)


def whole_cluster(
    cluster_spec: ClusterSpec, *, connect: Connect, timeout_s: float, sleep: Callable[[float], None] = time.sleep
) -> ClusterSpec:
    """Completes a spec that may have only some of the ps tasks: those that answer are asked for the others.

    Args:
        cluster_spec: One address is enough, of any ps task. The jobs other than "ps" stay as they are.
        connect: Makes the client of a ps; it is closed after the question.
        timeout_s: Bound on each question.
        sleep: Waits for that many seconds.

    Returns:
        The same spec with all ps tasks. Where a task does not answer at the address given and the others know a newer
        one, it has that.

    Raises:
        ValueError: The spec has no ps tasks.
        FailedPreconditionError: A process is another ps task than the spec says, or two are of different clusters.
        UnavailableError: The cluster has a ps task whose address none of those that answer knows.
    """
    given = {TaskId(PS_JOB, index): address for index, address in enumerate(cluster_spec.ps_addresses())}
    heard = _ask(given, connect, timeout_s)
    if len(given) > 1:
        _check_places(heard)
        if next(_strangers(heard), None) is not None:
            sleep(_SETTLE_S)
            heard = _ask(given, connect, timeout_s)
            _check_one_cluster(heard)
    announced = sorted((address for each in heard for address in each.known.values()), key=lambda each: each.epoch)
    others = {address for job, tasks in cluster_spec.as_dict().items() if job != PS_JOB for address in _listed(tasks)}
    # A backup that has taken over announces itself as the ps task; the spec has its address under another name.
    places = {TaskId.parse(each.task): each.address for each in announced if each.address not in others}
    answering = {each.task: each.address for each in heard}
    if len(given) > 1 or not heard:  # a single one may be any ps task: it says which
        places = given | places
    tasks = {task.index: address for task, address in (places | answering).items() if task.job == PS_JOB}
    missing = next((index for index in range(len(tasks)) if index not in tasks), None)
    if missing is not None:
        raise UnavailableError(
            f"the cluster has a ps:{missing}, and {', '.join(map(str, sorted(answering)))} does not know where; "
            f"give its address too, as in --cluster ps=host:port,host:port"
        )
    return ClusterSpec({**cluster_spec.as_dict(), PS_JOB: tasks})


def _ask(given: Mapping[TaskId, str], connect: Connect, timeout_s: float) -> list[_Heard]:
    """What the tasks say that answer."""

    def question(ps: ClusterService) -> tuple[TaskId, dict[TaskId, PsAddress]]:
        known = {TaskId.parse(each.task): each for each in ps.list_addresses(timeout_s=timeout_s)}
        return TaskId.parse(ps.status(timeout_s=timeout_s).task), known

    answers = ask_each(given, question, connect=connect)
    return [_Heard(each.task, each.address, *each.value) for each in answers if each.value is not None]


def _check_places(heard: Sequence[_Heard]) -> None:
    wrong = [
        f"the process at {each.address} is {each.task}, not {each.given}" for each in heard if each.task != each.given
    ]
    if wrong:
        raise FailedPreconditionError(
            f"{', and '.join(wrong)}; give the addresses in the order in which the ps tasks were given them"
        )


def _check_one_cluster(heard: Sequence[_Heard]) -> None:
    for one, other in _strangers(heard):
        raise FailedPreconditionError(
            f"{one.task} at {one.address} and {other.task} at {other.address} are of different clusters: "
            f"{_says(one, other.task)}, and {_says(other, one.task)}; give addresses of one cluster"
        )


def _says(one: _Heard, of: TaskId) -> str:
    return f"{one.task} knows {of} at {one.known[of].address}" if of in one.known else f"{one.task} knows no {of}"


def _strangers(heard: Sequence[_Heard]) -> Iterator[tuple[_Heard, _Heard]]:
    """Pairs of tasks that do not know each other, though at least one knows another process as the other's task."""
    for one, other in combinations((each for each in heard if each.task in each.known), 2):
        views = [_are_same(one.known.get(task), other.known.get(task)) for task in (one.task, other.task)]
        if False in views and True not in views:
            yield one, other


def _are_same(one: PsAddress | None, other: PsAddress | None) -> bool | None:
    """Whether two entries for a task are one process; None if there are not two."""
    return None if one is None or other is None else one.incarnation == other.incarnation


def _listed(tasks: list[str] | dict[int, str]) -> list[str]:
    return list(tasks.values()) if isinstance(tasks, dict) else tasks
