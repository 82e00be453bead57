"""A ps task for the tests of what only looks at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast
from uuid import UUID

import numpy as np

from ps_protocol.errors import ShardscopeError
from ps_protocol.operations import VariableSpec
from ps_protocol.ps_service import ClusterService
from ps_protocol.service_types import (
    Member,
    MemberState,
    ReplicaRole,
    ReplicationStatus,
    ServingState,
    Status,
    VariableInfo,
)


class FakePs:
    """Answers what it was made with, or raises the error that it was made with."""

    def __init__(
        self,
        *,
        status: Status | None = None,
        members: Sequence[Member] = (),
        variables: Sequence[VariableInfo] = (),
        error: ShardscopeError | None = None,
    ):
        self.current = status or status_of("ps:0")
        self.members = list(members)
        self._variables = list(variables)
        self.error = error
        self.calls = 0
        self.is_closed = False
        self.ends: list[tuple[str, UUID, str]] = []
        self.leave_errors: list[ShardscopeError] = []

    @property
    def service(self) -> ClusterService:
        """Itself, as the interface of which it has only a part."""
        return cast("ClusterService", self)

    def status(self, *, timeout_s: float) -> Status:
        self._answer()
        return self.current

    def list_members(self, *, timeout_s: float) -> list[Member]:
        self._answer()
        return list(self.members)

    def leave(self, task: str, incarnation: UUID, *, end: str = "", timeout_s: float) -> None:
        if self.leave_errors:
            raise self.leave_errors.pop()
        self.ends.append((task, incarnation, end))

    def list_variables(self, *, timeout_s: float) -> list[VariableInfo]:
        self._answer()
        return list(self._variables)

    def close(self) -> None:
        self.is_closed = True

    def _answer(self) -> None:
        assert not self.is_closed
        self.calls += 1
        if self.error is not None:
            raise self.error


def status_of(task: str, *, state: ServingState = ServingState.SERVING, bytes_received: int = 0) -> Status:
    return Status(
        task=task,
        state=state,
        store=UUID(int=1),
        uptime_s=12.0,
        num_variables=4,
        variable_bytes=2048,
        memory_limit_bytes=0,
        num_clients=3,
        batches=7,
        operations=11,
        duplicate_batches=0,
        bytes_received=bytes_received,
        bytes_sent=1024,
    )


def replica_status(
    task: str, role: ReplicaRole, *, epoch: int = 1, has_backup: bool = False, obstacle: str = ""
) -> Status:
    return replace(status_of(task), replication=ReplicationStatus(role, epoch, has_backup, obstacle))


def member(task: str, *, step: int = 0, state: MemberState = MemberState.ACTIVE) -> Member:
    return Member(
        task=task,
        incarnation=UUID(int=2),
        host="host",
        pid=77,
        state=state,
        joined_at_s=1000.0,
        last_seen_s=1001.0,
        step=step,
    )


def variable(name: str, shape: tuple[int, ...], *, initialized: bool = True, slot_of: str = "") -> VariableInfo:
    spec = VariableSpec(name, np.dtype(np.float32), shape, slot_of=slot_of)
    return VariableInfo(spec, version=5, initialized=initialized, size_bytes=spec.size_bytes)
