"""Steps along a running sum of gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from worker_client.training.optimizers.rule_optimizer import RuleOptimizer, tensors


class MomentumOptimizer(RuleOptimizer):
    """``momentum = momentum * slot + gradient``, by which the variable is changed (Sutskever et al., 2013).

    Args:
        learning_rate: A number, a tensor, or a function that returns one.
        momentum: The same.
        use_locking: Only noted; every step is atomic.
        name: Of the operations, and of the slots.
        use_nesterov: Whether the gradient counts as that at the place ahead.
    """

    rule = "momentum"
    tensor_names = tensors("learning_rate", "momentum")
    slot_names = ("momentum",)

    def __init__(
        self,
        learning_rate: Any,
        momentum: Any,
        use_locking: bool = False,
        name: str = "Momentum",
        use_nesterov: bool = False,
    ):
        settings = {"learning_rate": learning_rate, "momentum": momentum, "use_nesterov": float(use_nesterov)}
        super().__init__(settings, use_locking, name)

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for var in var_list:
            self._zeros_slot(var, "momentum", self._name)
