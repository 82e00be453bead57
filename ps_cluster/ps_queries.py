"""Asks every ps task of a cluster the same thing, all at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Generic, TypeAlias, TypeVar

from ps_protocol.cluster_spec import PS_JOB, ClusterSpec
from ps_protocol.errors import ShardscopeError
from ps_protocol.ps_service import PsService
from ps_protocol.task_id import TaskId

_MAX_CONCURRENT_CALLS: Final = 32

_T = TypeVar("_T")

Connect: TypeAlias = Callable[[str, TaskId], PsService]
"""Makes the client of the ps at an address; nothing need be listening there yet."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[_T]):
    """What one ps task has answered.

    Attributes:
        task: Which.
        address: Where.
        value: The answer; None if there is an error.
        error: Why there is none.
    """

    task: TaskId
    address: str
    value: _T | None = None
    error: ShardscopeError | None = None


def ask_all(cluster_spec: ClusterSpec, question: Callable[[PsService], _T], *, connect: Connect) -> list[Answer[_T]]:
    """Puts a question to every ps task.

    Args:
        cluster_spec: Where they are.
        question: Makes the call, with a timeout.
        connect: Makes the client of one; it is closed after the question.

    Returns:
        An answer for each ps task, by index.

    Raises:
        ValueError: The cluster has no ps tasks, or not all of those it should have.
    """

    def ask(task: TaskId, address: str) -> Answer[_T]:
        service = connect(address, task)
        try:
            return Answer(task, address, value=question(service))
        except ShardscopeError as error:
            return Answer(task, address, error=error)
        finally:
            service.close()

    addresses = cluster_spec.ps_addresses()
    tasks = [TaskId(PS_JOB, index) for index in range(len(addresses))]
    with ThreadPoolExecutor(min(len(tasks), _MAX_CONCURRENT_CALLS), thread_name_prefix="ps query") as pool:
        return list(pool.map(ask, tasks, addresses))


def explain(error: ShardscopeError, task: TaskId, address: str) -> str:
    """Says in one line which ps task has not answered, where it should be, why, and what to do."""
    reason = " ".join(error.message.split())
    return f"[{task}] {reason}" if address in reason else f"[{task}] at {address}: {reason}"
