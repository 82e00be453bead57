"""Asks the other ps tasks for the new address of one that does not answer at its old one."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from ps_protocol.errors import ShardscopeError
from ps_protocol.ps_service import ClusterService
from ps_protocol.service_types import PsAddress
from ps_protocol.task_id import TaskId

_LOG = logging.getLogger(__name__)

_ASK_TIMEOUT_S: Final = 0.5
_MAX_ASKED: Final = 4


class AddressLookup:
    """Asks the other ps tasks, a few of them and each only briefly. Thread-safe.

    Args:
        services: Gives the ways to all ps tasks, in the order of the tasks.
    """

    def __init__(self, services: Callable[[], Sequence[ClusterService]]):
        self._services = services
        self._searches: Counter[TaskId] = Counter()  # one thread at a time looks for a task

    def find(self, task: TaskId, known: str) -> list[str]:
        """Returns the addresses at which a ps task was announced, but for the one known, newest epoch first."""
        others = [service for index, service in enumerate(self._services()) if index != task.index]
        # Others each time: of many, the first few may be away too.
        start = self._next_start(task) % len(others) if others else 0
        found: list[PsAddress] = []
        for service in [*others[start:], *others[:start]][:_MAX_ASKED]:
            try:
                answer = service.list_addresses(timeout_s=_ASK_TIMEOUT_S)
            except ShardscopeError as error:
                _LOG.debug("no address of %s: %s", task, error)
                continue
            found += [each for each in answer if each.task == str(task) and each.address != known]
        newest_first = sorted(found, key=lambda each: each.epoch, reverse=True)
        return list(dict.fromkeys(each.address for each in newest_first))

    def _next_start(self, task: TaskId) -> int:
        """Which of the other ps tasks is asked first, this time."""
        start = task.index + self._searches[task] * _MAX_ASKED
        self._searches[task] += 1
        return start
