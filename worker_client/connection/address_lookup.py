"""Where a ps task may be that does not answer at its old address: the ps tasks are asked, then the spec is read."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from ps_protocol.cluster_spec import BACKUP_JOB, ClusterSpec, process_addresses
from ps_protocol.errors import ShardscopeError
from ps_protocol.ps_service import ClusterService
from ps_protocol.service_types import PsAddress
from ps_protocol.task_id import TaskId

_LOG = logging.getLogger(__name__)

_ASK_TIMEOUT_S: Final = 0.5
_MAX_ASKED: Final = 4


class AddressLookup:
    """Asks the ps tasks, a few of them and each only briefly. Thread-safe.

    Args:
        services: Gives the ways to all ps tasks, in the order of the tasks.
        cluster_spec: Has the places of both processes of a replicated task.
    """

    def __init__(self, services: Callable[[], Sequence[ClusterService]], cluster_spec: ClusterSpec):
        self._services = services
        self._spec = cluster_spec
        self._searches: Counter[TaskId] = Counter()  # one thread at a time looks for a task

    def find(self, task: TaskId, known: str) -> list[str]:
        """Returns where a ps task may be, but for the address known: where it was announced, newest epoch first."""
        services = self._services()
        others = [service for index, service in enumerate(services) if index != task.index]
        # Others each time: of many, the first few may be away too.
        start = self._next_start(task) % len(others) if others else 0
        found: list[PsAddress] = []
        # At last the one that is known: it may be the backup now, and know the primary.
        for service in [*[*others[start:], *others[:start]][:_MAX_ASKED], services[task.index]]:
            try:
                answer = service.list_addresses(timeout_s=_ASK_TIMEOUT_S)
            except ShardscopeError as error:
                _LOG.debug("no address of %s: %s", task, error)
                continue
            found += [each for each in answer if each.task == str(task) and each.address != known]
        newest_first = sorted(found, key=lambda each: each.epoch, reverse=True)
        return list(dict.fromkeys([*[each.address for each in newest_first], *self._places(task, known)]))

    def _places(self, task: TaskId, known: str) -> list[str]:
        """Where the spec has the two processes of a replicated task, but for the address known."""
        if BACKUP_JOB not in self._spec.jobs:
            return []
        return [each for each in process_addresses(self._spec, task.index) if each != known]

    def _next_start(self, task: TaskId) -> int:
        """Which of the other ps tasks is asked first, this time."""
        start = task.index + self._searches[task] * _MAX_ASKED
        self._searches[task] += 1
        return start
