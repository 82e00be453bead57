"""Steps along a running mean of gradients, divided by the root of that of their squares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ps_protocol.operations import Apply, Array
from worker_client.deferred.variable import DeferredVariable
from worker_client.deferred.variable_updates import ASSIGN_ATTRIBUTES
from worker_client.graph.computation import VariableAccess
from worker_client.graph.default_graph import get_default_graph
from worker_client.graph.operation import Operation, OutputSpec, Tensor
from worker_client.training.optimizers.rule_optimizer import RuleOptimizer, tensors


class AdamOptimizer(RuleOptimizer):
    """Adam (Kingma and Ba, 2015). Of rows, all decay in each step, as in TensorFlow 1.

    The powers of ``beta1`` and ``beta2`` are variables, which all trained variables share. A step uses the powers that
    it has read at its beginning; the ps multiplies them, once for each step of each worker.

    Args:
        learning_rate: A number, a tensor, or a function that returns one.
        beta1: How much of the mean stays; the same.
        beta2: How much of the mean of squares stays; the same.
        epsilon: Added to the root; the same.
        use_locking: Only noted; every step is atomic.
        name: Of the operations, and of the slots.
        use_own_namescope_for_non_slot_vars: Whether the powers are in a name scope of that name.
    """

    rule = "adam"
    tensor_names = tensors("learning_rate", "beta1", "beta2", "epsilon")
    slot_names = ("m", "v")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        epsilon: Any = 1e-8,
        use_locking: bool = False,
        name: str = "Adam",
        use_own_namescope_for_non_slot_vars: bool = False,
    ):
        settings = {
            "learning_rate": learning_rate,
            "beta1": beta1,
            "beta2": beta2,
            "epsilon": epsilon,
            "amsgrad": 0.0,
        }
        super().__init__(settings, use_locking, name, use_own_namescope_for_non_slot_vars)

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        first = min(var_list, key=lambda each: str(each.name))
        for beta in ("beta1", "beta2"):
            initial_value = self._call_if_callable(self._settings[beta])
            self._create_non_slot_variable(initial_value, name=f"{beta}_power", colocate_with=first)
        for var in var_list:
            self._zeros_slot(var, "m", self._name)
            self._zeros_slot(var, "v", self._name)

    def _prepare(self) -> None:
        super()._prepare()
        graph = self._tensors["learning_rate"].graph
        powers = {power: self._get_non_slot_variable(power, graph).value() for power in ("beta1_power", "beta2_power")}
        self._tensors = {**powers, **self._tensors}

    def _finish(self, update_ops: Sequence[Any], name_scope: str) -> Operation:
        """Multiplies the powers in the exchange that makes the steps, which have been given their values before."""
        graph = self._tensors["learning_rate"].graph
        multiplied = []
        with (
            graph.control_dependencies(update_ops),  # which may wait for gradients of others
            graph.colocate_with(self._get_non_slot_variable("beta1_power", graph).op),
        ):
            for beta in ("beta1", "beta2"):
                power = self._get_non_slot_variable(f"{beta}_power", graph)
                multiplied.append(_multiplied(power, self._tensors[beta]))
        return super()._finish([*update_ops, *multiplied], name_scope)

    def _get_beta_accumulators(self) -> tuple[Any, Any]:
        """The powers, which programs initialise by this name."""
        graph = get_default_graph()
        return self._get_non_slot_variable("beta1_power", graph), self._get_non_slot_variable("beta2_power", graph)


def _multiplied(power: DeferredVariable, beta: Tensor) -> Operation:
    """Multiplies on the ps: of workers that are in a step at the same time each counts."""

    def request(_: int, beta: Array) -> Apply:
        return Apply(power.spec.name, "multiply", (), "", (), np.array([float(beta)]))

    return power.graph.create_op(
        "Assign",
        [beta],
        [OutputSpec(power.dtype.dtype, power.shape)],
        attributes={"T": power.dtype, **ASSIGN_ATTRIBUTES},
        computation=VariableAccess(power, request, mutates=True, joins=True),
        references=[power.op.outputs[0]],
    )
