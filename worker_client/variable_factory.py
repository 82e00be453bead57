"""Makes the variables of a connection: proposes a task, asks the directory, declares on the recorded task."""

from __future__ import annotations

import logging

from ps_protocol.cluster_spec import ClusterSpec, TaskId
from ps_protocol.errors import InvalidArgumentError, ShardscopeError
from ps_protocol.operations import Declare, VariableSpec
from ps_protocol.ps_service import Proposal
from worker_client.device import DeviceSpec
from worker_client.fanout import Fanout
from worker_client.initializers import initializer_spec
from worker_client.placement_strategies import PsStrategy
from worker_client.variable import Variable
from worker_client.variable_definition import VariableDefinition

_LOG = logging.getLogger(__name__)


class VariableFactory:
    """Turns a definition into a variable that is declared on the cluster. Thread-safe.

    Args:
        fanout: The way to the ps tasks.
        cluster_spec: The cluster.
        task: This process's task.
        job_seed: Seed from which initial values follow.
        ps_strategy: Proposes a ps task for a variable that no device scope has placed.
        initialize: Whether a variable gets its value when it is declared, or later.
    """

    def __init__(
        self,
        fanout: Fanout,
        *,
        cluster_spec: ClusterSpec,
        task: TaskId,
        job_seed: int,
        ps_strategy: PsStrategy,
        initialize: bool,
    ):
        self._fanout = fanout
        self._cluster_spec = cluster_spec
        self._task = task
        self._job_seed = job_seed
        self._ps_strategy = ps_strategy
        self._initialize = initialize

    def __call__(self, definition: VariableDefinition) -> Variable:
        """Declares a variable, or finds the one of that name that another worker has declared.

        Raises:
            ShapeMismatchError: Another worker has declared the name with another shape.
            DTypeMismatchError: Or with another dtype.
            InvalidArgumentError: The device it is placed on is not of this cluster.
            ShardscopeError: The cluster has refused it.
        """
        spec = VariableSpec(definition.name, definition.dtype, definition.shape, definition.slice)
        initializer = initializer_spec(definition.initializer, spec, self._job_seed)
        proposed = self._proposed_task(definition)
        ps_task = None if proposed is None else self._recorded_task(spec, proposed)
        declare = Declare(spec, initializer if self._initialize else None)
        self._fanout.run(ps_task, declare, expected_reply_bytes=0)
        return Variable(
            definition,
            spec,
            initializer=initializer,
            runner=self._fanout,
            ps_task=ps_task,
            device=definition.device if ps_task is None else f"/job:ps/task:{ps_task}",
        )

    def _proposed_task(self, definition: VariableDefinition) -> int | None:
        """The ps task that device scopes or the strategy ask for; None for this very worker."""
        device = DeviceSpec.from_string(definition.device)
        if device.job is not None and device.job != "ps":
            self._check_own(definition, device)
            return None
        ps_task = self._ps_strategy(definition.op) if device.task is None else device.task
        num_ps = self._cluster_spec.num_tasks("ps")
        if not 0 <= ps_task < num_ps:
            raise InvalidArgumentError(
                f"variable {definition.name} is placed on ps task {ps_task}, but the cluster has {num_ps} ps tasks, "
                f"numbered from 0; correct its device or the strategy",
                variable=definition.name,
            )
        return ps_task

    def _check_own(self, definition: VariableDefinition, device: DeviceSpec) -> None:
        if device.job != self._task.job or device.task not in (None, self._task.index):
            raise InvalidArgumentError(
                f"variable {definition.name} is placed on {definition.device}, but shared variables live on ps tasks "
                f"and local ones on the worker itself, which is {self._task}; place it on /job:ps",
                variable=definition.name,
            )
        _LOG.warning(
            "variable %s is placed on this worker, %s: other workers do not see it, and it ends with this process",
            definition.name,
            self._task,
        )

    def _recorded_task(self, spec: VariableSpec, proposed: int) -> int:
        placements = self._fanout.handle(0).call(
            lambda service, timeout_s: service.place([Proposal(spec, proposed)], timeout_s=timeout_s),
            what=f"to say where variable {spec.name} is",
        )
        (placement,) = placements
        if isinstance(placement, ShardscopeError):
            raise placement
        return placement.ps_task
