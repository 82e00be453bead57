"""A ps task in a process that is not its alone: signals, logs and the end are left to the program around it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

from ps_protocol import fault_points
from ps_protocol.service_types import Member, PsAddress
from ps_server.process.logs import log_through_logging
from ps_server.process.options import parse_options
from ps_server.process.server import SWITCH_INTERVAL_S, TaskProcess, use_compiled_rules

_CALL_TIMEOUT_S: Final = 5.0


class HostedPs:
    """A ps task that serves from its making until ``stop``.

    Args:
        options: Those of ``shardscope ps``, by the names of their fields; the environment completes them.

    Raises:
        TypeError: There is no such option.
        ValueError: Something is missing, malformed or contradictory.
        CannotStartError: Its state on disk cannot be used.
        BindError: Its address cannot be listened on.
    """

    def __init__(self, options: Mapping[str, object]):
        parsed = parse_options(options)
        log_through_logging(level=parsed.log_level, task=parsed.place)
        fault_points.install_from_environment(is_allowed=parsed.allow_faults)
        use_compiled_rules()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._process = TaskProcess(parsed)
        self._core = self._process.core
        self._process.start(tells_programs=False)

    @property
    def address(self) -> str:
        """Where the other tasks are to find it, as "host:port"."""
        return self._process.address

    def wait_for_shutdown(self, timeout_s: float) -> bool:
        """Waits until the end is asked for, by ``request_shutdown`` or ``shardscope shutdown``; whether it was."""
        return self._core.shutdown_requested.wait(timeout_s)

    def request_shutdown(self, reason: str) -> None:
        """Asks for the end: no more batches are accepted."""
        self._core.shutdown(reason, timeout_s=0)

    def members(self) -> list[Member]:
        """The tasks that have joined the cluster, if this is ps task 0."""
        return self._core.list_members(timeout_s=_CALL_TIMEOUT_S)

    def addresses(self) -> list[PsAddress]:
        """Where ps tasks have announced themselves, if this is ps task 0."""
        return self._core.list_addresses(timeout_s=_CALL_TIMEOUT_S)

    def stop(self) -> bool:
        """Finishes what was accepted, and ends; whether all of it is finished, and kept on disk if it must be."""
        return self._process.stop()
