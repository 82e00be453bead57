"""Steps that follow the regularized leader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from worker_client.initializers import constant_initializer
from worker_client.training.optimizers.rule_optimizer import RuleOptimizer, tensors


class FtrlOptimizer(RuleOptimizer):
    """FTRL-proximal (McMahan et al., 2013), for models whose weights should be sparse.

    Args:
        learning_rate: A number, a tensor, or a function that returns one.
        learning_rate_power: 0 or less.
        initial_accumulator_value: Of the sums of squared gradients; 0 or greater.
        l1_regularization_strength: 0 or greater.
        l2_regularization_strength: 0 or greater.
        use_locking: Only noted; every step is atomic.
        name: Of the operations, and of the slots.
        accum_name: Of the slots of the sums, instead.
        linear_name: Of the other slots, instead.
        l2_shrinkage_regularization_strength: 0 or greater; counts for the gradient, and not for the sums.
        beta: 0 or greater; added to the root of the sums.

    Raises:
        ValueError: A number is not in its range.
    """

    rule = "ftrl"
    tensor_names = tensors(
        "learning_rate",
        "l1_regularization_strength",
        "l2_regularization_strength",
        "beta",
        "l2_shrinkage_regularization_strength",
        "learning_rate_power",
    )
    slot_names = ("accum", "linear")

    def __init__(
        self,
        learning_rate: Any,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        use_locking: bool = False,
        name: str = "Ftrl",
        accum_name: str | None = None,
        linear_name: str | None = None,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float | None = None,
    ):
        settings = {
            "learning_rate": learning_rate,
            "learning_rate_power": learning_rate_power,
            "initial_accumulator_value": initial_accumulator_value,
            "l1_regularization_strength": l1_regularization_strength,
            "l2_regularization_strength": l2_regularization_strength,
            "l2_shrinkage_regularization_strength": l2_shrinkage_regularization_strength,
            "beta": 0.0 if beta is None else beta,
        }
        for setting, number in settings.items():
            if setting not in ("learning_rate", "learning_rate_power", "beta") and number < 0.0:
                raise ValueError(f"{setting} {number:f} needs to be positive or zero")
        if learning_rate_power > 0.0:
            raise ValueError(f"learning_rate_power {learning_rate_power:f} needs to be negative or zero")
        super().__init__(settings, use_locking, name)
        self._accum_name = accum_name
        self._linear_name = linear_name

    @property
    def op_type(self) -> str:
        return "FtrlV2" if self._settings["l2_shrinkage_regularization_strength"] > 0 else "Ftrl"

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        first = constant_initializer(self._settings["initial_accumulator_value"])
        for var in var_list:
            self._get_or_make_slot(var, first, "accum", self._accum_name or self._name)
            self._zeros_slot(var, "linear", self._linear_name or self._name)
