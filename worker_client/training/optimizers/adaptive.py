"""Steps that are the shorter, the greater the gradients of an element have been."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from worker_client.initializers import constant_initializer, ones_initializer
from worker_client.ops.math_ops import add
from worker_client.training.optimizers.rule_optimizer import RuleOptimizer, tensors


class AdagradOptimizer(RuleOptimizer):
    """Divides by the root of the sum of all squared gradients (Duchi et al., 2011).

    Args:
        learning_rate: A number, a tensor, or a function that returns one.
        initial_accumulator_value: Of the sums; above 0.
        use_locking: Only noted; every step is atomic.
        name: Of the operations, and of the slots.

    Raises:
        ValueError: ``initial_accumulator_value`` is not above 0.
    """

    rule = "adagrad"
    tensor_names = tensors("learning_rate")
    slot_names = ("accumulator",)

    def __init__(
        self,
        learning_rate: Any,
        initial_accumulator_value: float = 0.1,
        use_locking: bool = False,
        name: str = "Adagrad",
    ):
        if initial_accumulator_value <= 0.0:
            raise ValueError(f"initial_accumulator_value must be positive: {initial_accumulator_value}")
        settings = {"learning_rate": learning_rate, "initial_accumulator_value": initial_accumulator_value}
        super().__init__(settings, use_locking, name)

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        first = constant_initializer(self._settings["initial_accumulator_value"])
        for var in var_list:
            self._get_or_make_slot(var, first, "accumulator", self._name)


class ProximalAdagradOptimizer(AdagradOptimizer):
    """Adagrad with L1 and L2 regularization by proximal steps (Duchi and Singer, FOBOS).

    Args:
        learning_rate: A number, a tensor, or a function that returns one.
        initial_accumulator_value: Of the sums; above 0.
        l1_regularization_strength: 0 or greater.
        l2_regularization_strength: 0 or greater.
        use_locking: Only noted; every step is atomic.
        name: Of the operations, and of the slots.

    Raises:
        ValueError: ``initial_accumulator_value`` is not above 0.
    """

    rule = "proximal_adagrad"
    tensor_names = tensors("learning_rate", "l1_regularization_strength", "l2_regularization_strength")

    def __init__(
        self,
        learning_rate: Any,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        use_locking: bool = False,
        name: str = "ProximalAdagrad",
    ):
        super().__init__(learning_rate, initial_accumulator_value, use_locking, name)
        self._settings["l1_regularization_strength"] = l1_regularization_strength
        self._settings["l2_regularization_strength"] = l2_regularization_strength


class AdagradDAOptimizer(RuleOptimizer):
    """Adagrad by dual averaging (Duchi et al., 2011), for linear models whose weights should be sparse.

    Args:
        learning_rate: A number, a tensor, or a function that returns one.
        global_step: The variable that counts the steps.
        initial_gradient_squared_accumulator_value: Of the sums of squares; above 0.
        l1_regularization_strength: 0 or greater.
        l2_regularization_strength: 0 or greater.
        use_locking: Only noted; every step is atomic.
        name: Of the operations, and of the slots.

    Raises:
        ValueError: ``initial_gradient_squared_accumulator_value`` is not above 0.
    """

    rule = "adagrad_da"
    tensor_names = tensors("learning_rate")
    slot_names = ("gradient_accumulator", "gradient_squared_accumulator")
    op_type = "AdagradDA"

    def __init__(
        self,
        learning_rate: Any,
        global_step: Any,
        initial_gradient_squared_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        use_locking: bool = False,
        name: str = "AdagradDA",
    ):
        first = initial_gradient_squared_accumulator_value
        if first <= 0.0:
            raise ValueError(f"initial_gradient_squared_accumulator_value must be positive: {first}")
        settings = {
            "learning_rate": learning_rate,
            "global_step": global_step,
            "initial_gradient_squared_accumulator_value": first,
            "l1_regularization_strength": l1_regularization_strength,
            "l2_regularization_strength": l2_regularization_strength,
        }
        super().__init__(settings, use_locking, name)

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        first = constant_initializer(self._settings["initial_gradient_squared_accumulator_value"])
        for var in var_list:
            self._zeros_slot(var, "gradient_accumulator", self._name)
            self._get_or_make_slot(var, first, "gradient_squared_accumulator", self._name)

    def _prepare(self) -> None:
        super()._prepare()
        self._tensors["global_step"] = add(self._settings["global_step"], 1, name="global_step")


class AdadeltaOptimizer(RuleOptimizer):
    """Divides by running means of squared gradients, and multiplies by those of squared steps (Zeiler, 2012).

    Args:
        learning_rate: A number, a tensor, or a function that returns one.
        rho: How much of the means stays; the same.
        epsilon: Added to the means; the same.
        use_locking: Only noted; every step is atomic.
        name: Of the operations, and of the slots.
    """

    rule = "adadelta"
    tensor_names = tensors("rho", "epsilon", learning_rate="lr")
    slot_names = ("accum", "accum_update")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: Any = 0.95,
        epsilon: Any = 1e-8,
        use_locking: bool = False,
        name: str = "Adadelta",
    ):
        super().__init__({"learning_rate": learning_rate, "rho": rho, "epsilon": epsilon}, use_locking, name)

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for var in var_list:
            self._zeros_slot(var, "accum", self._name)
            self._zeros_slot(var, "accum_update", self._name)


class RMSPropOptimizer(RuleOptimizer):
    """Divides by the root of a running mean of squared gradients (Tieleman and Hinton, 2012).

    Args:
        learning_rate: A number, a tensor, or a function that returns one.
        decay: How much of the mean stays; the same.
        momentum: How much of the last step is taken again; the same.
        epsilon: Added to the mean; the same.
        use_locking: Only noted; every step is atomic.
        centered: Whether the mean of the gradients is subtracted first.
        name: Of the operations, and of the slots.
    """

    rule = "rmsprop"
    tensor_names = tensors("learning_rate", "decay", "momentum", "epsilon")
    slot_names = ("rms", "momentum", "mg")

    def __init__(
        self,
        learning_rate: Any,
        decay: Any = 0.9,
        momentum: Any = 0.0,
        epsilon: Any = 1e-10,
        use_locking: bool = False,
        centered: bool = False,
        name: str = "RMSProp",
    ):
        settings = {
            "learning_rate": learning_rate,
            "decay": decay,
            "momentum": momentum,
            "epsilon": epsilon,
            "centered": float(centered),
        }
        super().__init__(settings, use_locking, name)

    @property
    def op_type(self) -> str:
        return "CenteredRMSProp" if self._settings["centered"] else "RMSProp"

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for var in var_list:
            self._get_or_make_slot(var, ones_initializer(), "rms", self._name)
            if self._settings["centered"]:
                self._zeros_slot(var, "mg", self._name)
            self._zeros_slot(var, "momentum", self._name)
