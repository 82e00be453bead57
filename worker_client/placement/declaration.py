"""Declares variables on the cluster: proposes tasks, asks the directory, declares on the recorded tasks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import (
    DTypeMismatchError,
    InvalidArgumentError,
    PermissionDeniedError,
    ShapeMismatchError,
)
from ps_protocol.forks import new_lock
from ps_protocol.initializer_spec import InitializerSpec
from ps_protocol.operations import Declare, VariableSpec
from ps_protocol.service_types import Placement, Proposal
from ps_protocol.task_id import TaskId
from worker_client.connection.fanout import Fanout, Routed, succeeded
from worker_client.connection.retry import RetryPolicy
from worker_client.graph.device import DeviceSpec
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Operation, OutputSpec
from worker_client.placement.strategies import PsStrategy
from worker_client.values.shapes import TensorShape

_LOG = logging.getLogger(__name__)

MAX_BATCH = 4096
"""Variables that are declared in one exchange; bounds the size of a message's header."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """A variable to be declared.

    Attributes:
        spec: What is fixed about it.
        op: What stands for it in the graph, with the device that scopes have given it.
        initializer: Its initial value, None to leave it uninitialised.
        is_local: Whether it belongs to this process, wherever device scopes place it.
        ps_task: Where it has to be, beside another variable, if no device scope has placed it.
    """

    spec: VariableSpec
    op: Operation
    initializer: InitializerSpec | None
    is_local: bool = False
    ps_task: int | None = None


class Declarer:
    """Declares variables for one connection. Thread-safe if the strategy is.

    Args:
        fanout: The way to the ps tasks.
        cluster_spec: The cluster.
        task: This process's task.
        ps_strategy: Proposes a ps task for a variable that no device scope has placed.
        retry: Pauses between tries, while another client is initialising the same variables.
        timeout_s: Bound on those tries, in seconds.
        may_declare: Whether variables are made; else only those are found that others have declared.
    """

    def __init__(
        self,
        fanout: Fanout,
        *,
        cluster_spec: ClusterSpec,
        task: TaskId,
        ps_strategy: PsStrategy,
        retry: RetryPolicy,
        timeout_s: float,
        may_declare: bool = True,
    ):
        self._fanout = fanout
        self._retry = retry
        self._timeout_s = timeout_s
        self._may_declare = may_declare
        self._num_ps = cluster_spec.num_tasks("ps")
        self._task = task
        self._ps_strategy = ps_strategy
        self._lock = new_lock()  # guards: _warned
        self._warned: set[str] = set()

    def declare(self, declarations: Sequence[Declaration]) -> list[int | None]:
        """Declares variables, or finds those that other workers have declared: one exchange with each task for all.

        Returns:
            For each the ps task that holds it, None for this process.

        Raises:
            ShapeMismatchError: Another worker has declared the name with another shape.
            DTypeMismatchError: Or with another dtype.
            InvalidArgumentError: A variable is placed on a device that is not of this cluster.
            PermissionDeniedError: This client only looks on, and nobody has declared the name.
            ShardscopeError: The cluster has refused one; others may have been declared.
        """
        tasks: list[int | None] = []
        for start in range(0, len(declarations), MAX_BATCH):
            tasks += self._declare(declarations[start : start + MAX_BATCH])
        return tasks

    def _declare(self, declarations: Sequence[Declaration]) -> list[int | None]:
        proposed = [self._proposed_task(each) for each in declarations]
        proposals = [
            Proposal(each.spec, task) for each, task in zip(declarations, proposed, strict=True) if task is not None
        ]
        recorded = iter(self._recorded_tasks(proposals) if self._may_declare else self._found_tasks(proposals))
        tasks = [None if task is None else next(recorded) for task in proposed]
        routed = [
            Routed(task, Declare(each.spec, each.initializer))
            for each, task in zip(declarations, tasks, strict=True)
            if self._may_declare or task is None
        ]
        if not routed:
            return tasks
        self._retry.call(
            lambda _: self._fanout.run_all(routed),
            timeout_s=self._timeout_s,
            what=f"other clients to initialise some of {len(routed)} variables, {declarations[0].spec.name} the first",
        )
        return tasks

    def parts_there(self, name: str) -> list[VariableSpec]:
        """Returns the parts of a partitioned variable that the cluster has, in the order of their offsets."""
        placements = self._fanout.handle(0).call(
            lambda service, timeout_s: service.list_placements(timeout_s=timeout_s),
            what=f"to say where the parts of {name} are",
        )
        found = [each.spec for each in placements if _is_part(each.spec, name)]
        return sorted(found, key=lambda spec: () if spec.slice is None else spec.slice.offset)

    def choose_ps(self, spec: VariableSpec, graph: Graph) -> int:
        """Returns the ps task that the strategy proposes for a variable that no device scope places.

        Args:
            spec: Of the variable.
            graph: Has no operation of its name, and gets one.

        Raises:
            InvalidArgumentError: The cluster has no such task.
        """
        op = graph.create_op(
            "VariableV2", outputs=[OutputSpec(spec.dtype, TensorShape(spec.shape))], name=f"{spec.name}/"
        )
        ps_task = self._proposed_task(Declaration(spec, op, None))
        assert ps_task is not None  # its device names no other job
        return ps_task

    def _proposed_task(self, declaration: Declaration) -> int | None:
        """The ps task that device scopes or the strategy ask for; None for this very process."""
        if declaration.is_local:
            return None
        spec, device = declaration.spec, DeviceSpec.from_string(declaration.op.device)
        name = spec.name
        if device.job is not None and device.job != "ps":
            self._check_own(name, device)
            self._warn_of_cost(spec)
            return None
        ps_task = declaration.ps_task if device.task is None else device.task
        ps_task = self._ps_strategy(declaration.op) if ps_task is None else ps_task
        if not 0 <= ps_task < self._num_ps:
            raise InvalidArgumentError(
                f"variable {name} is placed on ps task {ps_task}, but the cluster has {self._num_ps} ps tasks, "
                f"numbered from 0; correct its device or the strategy",
                variable=name,
            )
        return ps_task

    def _check_own(self, name: str, device: DeviceSpec) -> None:
        if device.job != self._task.job or device.task not in (None, self._task.index):
            raise InvalidArgumentError(
                f"variable {name} is placed on {device.to_string()}, but shared variables live on ps tasks and local "
                f"ones on the worker itself, which is {self._task}; place it on /job:ps",
                variable=name,
            )

    def _warn_of_cost(self, spec: VariableSpec) -> None:
        with self._lock:
            if spec.name in self._warned:
                return
            self._warned.add(spec.name)
        _LOG.warning(
            "variable %s is placed on this worker, %s: every worker has a copy of its own, which no other trains; it "
            "takes %d bytes of this process and ends with it; place it on /job:ps to share it",
            spec.name,
            self._task,
            spec.size_bytes,
        )

    def _recorded_tasks(self, proposals: Sequence[Proposal]) -> list[int]:
        if not proposals:
            return []
        directory = self._fanout.handle(0)
        placements = directory.call(
            lambda service, timeout_s: service.place(proposals, store=directory.welcome.store, timeout_s=timeout_s),
            what=f"to say where {len(proposals)} variables are, {proposals[0].spec.name} the first",
        )
        return [succeeded(placement).ps_task for placement in placements]

    def _found_tasks(self, proposals: Sequence[Proposal]) -> list[int]:
        """Where the directory has variables that others have declared, for a client that makes none."""
        if not proposals:
            return []
        placements = self._fanout.handle(0).call(
            lambda service, timeout_s: service.list_placements(timeout_s=timeout_s),
            what=f"to say where {len(proposals)} variables are, {proposals[0].spec.name} the first",
        )
        recorded = {each.spec.name: each for each in placements}
        return [_checked(proposal.spec, recorded.get(proposal.spec.name)).ps_task for proposal in proposals]


def _is_part(spec: VariableSpec, name: str) -> bool:
    return spec.slice is not None and spec.slice.full_name == name and not spec.slot_of


def _checked(spec: VariableSpec, recorded: Placement | None) -> Placement:
    if recorded is None:
        raise PermissionDeniedError(
            f"variable {spec.name} is not in the cluster, and this connection is an observer, which makes none; "
            f'connect with observer="update" to make it, or as a worker',
            variable=spec.name,
        )
    found = recorded.spec
    for wanted, there, error_type in (
        (spec.dtype, found.dtype, DTypeMismatchError),
        (spec.shape, found.shape, ShapeMismatchError),
        (spec.slice, found.slice, ShapeMismatchError),
    ):
        if wanted != there:
            raise error_type(
                f"variable {spec.name} is {found.dtype.name} {list(found.shape)} in the cluster, but {spec.dtype.name} "
                f"{list(spec.shape)} is asked for; leave both to client.variable({spec.name!r}), or correct them",
                variable=spec.name,
            )
    return recorded
