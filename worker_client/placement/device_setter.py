"""``replica_device_setter``: variables on the ps tasks, everything else on the worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ps_protocol.cluster_spec import ClusterSpec, ClusterSpecLike
from worker_client.graph.device import DeviceFields, DeviceFunction, parse_device
from worker_client.graph.operation import Operation
from worker_client.placement.strategies import PsStrategy, RoundRobinStrategy

STANDARD_PS_OPS: Final = (
    "Variable",
    "VariableV2",
    "AutoReloadVariable",
    "MutableHashTable",
    "MutableHashTableV2",
    "MutableHashTableOfTensors",
    "MutableHashTableOfTensorsV2",
    "MutableDenseHashTable",
    "MutableDenseHashTableV2",
    "VarHandleOp",
    "BoostedTreesEnsembleResourceHandleOp",
    "BoostedTreesQuantileStreamResourceHandleOp",
    "ResourceConditionalAccumulator",
    "DecisionTreeResource",
)
"""The types of operation that hold state, and so go to the ps."""


def replica_device_setter(
    ps_tasks: int = 0,
    ps_device: str = "/job:ps",
    worker_device: str = "/job:worker",
    merge_devices: bool = True,
    cluster: ClusterSpecLike | None = None,
    ps_ops: Sequence[str] | None = None,
    ps_strategy: PsStrategy | None = None,
) -> DeviceFunction | None:
    """Returns a device function for ``device()`` that spreads variables over the ps tasks.

    A variable that is reused takes no task; a variable whose device an inner scope gives keeps that, field by field.

    Args:
        ps_tasks: Number of ps tasks; ignored if ``cluster`` is given.
        ps_device: Device of the ps job; the strategy adds the task.
        worker_device: Device of everything that is not a variable.
        merge_devices: Whether a device of an inner scope is completed; if not, it counts as it is.
        cluster: The cluster, which has as many ps tasks as it has.
        ps_ops: Types of operations that go to the ps, instead of ``STANDARD_PS_OPS``.
        ps_strategy: Chooses the task, by default one after the other.

    Returns:
        The device function, None if there are no ps tasks.

    Raises:
        TypeError: ``ps_strategy`` is no function, or ``cluster`` is none.
        ValueError: A device or ``cluster`` is malformed.
    """
    ps_fields, worker_fields = parse_device(ps_device or ""), parse_device(worker_device or "")
    if cluster is not None:
        spec = cluster if isinstance(cluster, ClusterSpec) else ClusterSpec(cluster)
        ps_tasks = spec.num_tasks(ps_fields.job) if ps_fields.job in spec.jobs else 0
    if ps_tasks == 0:
        return None
    if ps_strategy is None:
        ps_strategy = RoundRobinStrategy(ps_tasks)
    elif not callable(ps_strategy):
        raise TypeError(f"ps_strategy should be a function that returns a ps task, not {ps_strategy!r}")
    return ReplicaDeviceChooser(
        ps_fields,
        worker_fields,
        merge_devices=merge_devices,
        ps_ops=frozenset(STANDARD_PS_OPS if ps_ops is None else ps_ops),
        ps_strategy=ps_strategy,
    )


class ReplicaDeviceChooser:
    """The device function that ``replica_device_setter`` returns. Thread-safe if the strategy is.

    Args:
        ps: Device of the ps job; empty to leave variables with the worker.
        worker: Device of what is not for the ps.
        merge_devices: Whether to complete a device that the operation has already.
        ps_ops: Types of operations for the ps.
        ps_strategy: Chooses the task.
    """

    def __init__(
        self,
        ps: DeviceFields,
        worker: DeviceFields,
        *,
        merge_devices: bool,
        ps_ops: frozenset[str],
        ps_strategy: PsStrategy,
    ):
        self._ps = ps
        self._worker = worker
        self._merge_devices = merge_devices
        self._ps_ops = ps_ops
        self._ps_strategy = ps_strategy

    def __call__(self, op: Operation) -> str:
        if op.device and not self._merge_devices:
            return op.device
        given = parse_device(op.device)
        if op.type not in self._ps_ops or self._ps == DeviceFields():
            return self._worker.merged_with(given).to_string()
        ps = self._ps
        if ps.job and given.job in (None, "", ps.job):
            ps = ps._replace(task=self._ps_strategy(op))
        return ps.merged_with(given).to_string()
