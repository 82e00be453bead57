"""The optimizers by name: each has the settings of its rule as arguments, with the defaults of the rule."""

from __future__ import annotations

from typing import Any, Literal, TypedDict, Unpack

import numpy.typing as npt

from worker_client.optimizers.optimizer import Constraint, LearningRate, Optimizer


class Common(TypedDict, total=False):
    """What all optimizers take besides the settings of their rules; see ``Optimizer``."""

    sparse: Literal["tf1", "lazy", "catch_up"] | None
    slot_dtype: npt.DTypeLike | None
    on_nonfinite: Literal["refuse", "skip", "apply"]
    constraint: Constraint | None


class GradientDescent(Optimizer):
    """``w -= learning_rate * g``."""

    def __init__(self, learning_rate: LearningRate, *, name: str = "GradientDescent", **common: Unpack[Common]):
        super().__init__("gradient_descent", {}, learning_rate=learning_rate, name=name, **common)


class Momentum(Optimizer):
    """Gradients with momentum, as TensorFlow 1's; ``nesterov`` looks one step ahead."""

    def __init__(
        self,
        learning_rate: LearningRate,
        momentum: float,
        *,
        nesterov: bool = False,
        name: str = "Momentum",
        **common: Unpack[Common],
    ):
        settings = {"momentum": momentum, "use_nesterov": nesterov}
        super().__init__("momentum", settings, learning_rate=learning_rate, name=name, **common)


class Adagrad(Optimizer):
    """Divides by the root of the sum of all squared gradients (Duchi et al. 2011)."""

    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        initial_accumulator_value: float = 0.1,
        name: str = "Adagrad",
        **common: Unpack[Common],
    ):
        settings = {"initial_accumulator_value": initial_accumulator_value}
        super().__init__("adagrad", settings, learning_rate=learning_rate, name=name, **common)


class RowWiseAdagrad(Optimizer):
    """Adagrad with one accumulator for each row: a slot of a fraction of the size, for embedding tables."""

    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-8,
        name: str = "RowWiseAdagrad",
        **common: Unpack[Common],
    ):
        settings = {"initial_accumulator_value": initial_accumulator_value, "epsilon": epsilon}
        super().__init__("row_wise_adagrad", settings, learning_rate=learning_rate, name=name, **common)


class AdagradDA(Optimizer):
    """Adagrad with dual averaging, for sparse models with an L1 penalty."""

    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        initial_gradient_squared_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        name: str = "AdagradDA",
        **common: Unpack[Common],
    ):
        settings = {
            "initial_gradient_squared_accumulator_value": initial_gradient_squared_accumulator_value,
            "l1_regularization_strength": l1_regularization_strength,
            "l2_regularization_strength": l2_regularization_strength,
        }
        super().__init__("adagrad_da", settings, learning_rate=learning_rate, name=name, **common)


class Adadelta(Optimizer):
    """Steps in the units of the variable (Zeiler 2012)."""

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        *,
        rho: float = 0.95,
        epsilon: float = 1e-8,
        name: str = "Adadelta",
        **common: Unpack[Common],
    ):
        super().__init__("adadelta", {"rho": rho, "epsilon": epsilon}, learning_rate=learning_rate, name=name, **common)


class Adam(Optimizer):
    """Moments of the gradient, corrected for their start at zero (Kingma and Ba 2014); ``amsgrad`` never forgets."""

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        amsgrad: bool = False,
        name: str = "Adam",
        **common: Unpack[Common],
    ):
        settings = {"beta1": beta1, "beta2": beta2, "epsilon": epsilon, "amsgrad": amsgrad}
        super().__init__("adam", settings, learning_rate=learning_rate, name=name, **common)


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017)."""

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        name: str = "AdamW",
        **common: Unpack[Common],
    ):
        settings: dict[str, Any] = {
            "beta1": beta1,
            "beta2": beta2,
            "epsilon": epsilon,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
        }
        super().__init__("adamw", settings, learning_rate=learning_rate, name=name, **common)


class RMSProp(Optimizer):
    """Divides by a moving root mean square of gradients, as TensorFlow 1's; ``centered`` subtracts their mean."""

    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        decay: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-10,
        centered: bool = False,
        name: str = "RMSProp",
        **common: Unpack[Common],
    ):
        settings = {"decay": decay, "momentum": momentum, "epsilon": epsilon, "centered": centered}
        super().__init__("rmsprop", settings, learning_rate=learning_rate, name=name, **common)


class Ftrl(Optimizer):
    """Follows the regularised leader (McMahan et al. 2013), as TensorFlow 1's."""

    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
        name: str = "Ftrl",
        **common: Unpack[Common],
    ):
        settings = {
            "learning_rate_power": learning_rate_power,
            "initial_accumulator_value": initial_accumulator_value,
            "l1_regularization_strength": l1_regularization_strength,
            "l2_regularization_strength": l2_regularization_strength,
            "l2_shrinkage_regularization_strength": l2_shrinkage_regularization_strength,
            "beta": beta,
        }
        super().__init__("ftrl", settings, learning_rate=learning_rate, name=name, **common)


class GroupFtrl(Optimizer):
    """Ftrl with a penalty on whole rows, which become exactly zero."""

    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l21_regularization_strength: float = 0.0,
        name: str = "GroupFtrl",
        **common: Unpack[Common],
    ):
        settings = {
            "learning_rate_power": learning_rate_power,
            "initial_accumulator_value": initial_accumulator_value,
            "l1_regularization_strength": l1_regularization_strength,
            "l2_regularization_strength": l2_regularization_strength,
            "l21_regularization_strength": l21_regularization_strength,
        }
        super().__init__("group_ftrl", settings, learning_rate=learning_rate, name=name, **common)


class ProximalGradientDescent(Optimizer):
    """Gradient descent with L1 and L2 penalties that are applied exactly, as TensorFlow 1's."""

    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        name: str = "ProximalGradientDescent",
        **common: Unpack[Common],
    ):
        settings = {
            "l1_regularization_strength": l1_regularization_strength,
            "l2_regularization_strength": l2_regularization_strength,
        }
        super().__init__("proximal_gradient_descent", settings, learning_rate=learning_rate, name=name, **common)


class ProximalAdagrad(Optimizer):
    """Adagrad with L1 and L2 penalties that are applied exactly, as TensorFlow 1's."""

    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        name: str = "ProximalAdagrad",
        **common: Unpack[Common],
    ):
        settings = {
            "initial_accumulator_value": initial_accumulator_value,
            "l1_regularization_strength": l1_regularization_strength,
            "l2_regularization_strength": l2_regularization_strength,
        }
        super().__init__("proximal_adagrad", settings, learning_rate=learning_rate, name=name, **common)


class Lamb(Optimizer):
    """Adam with a rate for each variable that follows from its norm (You et al. 2019), for large batches."""

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-6,
        weight_decay: float = 0.0,
        name: str = "Lamb",
        **common: Unpack[Common],
    ):
        settings = {"beta1": beta1, "beta2": beta2, "epsilon": epsilon, "weight_decay": weight_decay}
        super().__init__("lamb", settings, learning_rate=learning_rate, name=name, **common)


class Lars(Optimizer):
    """Momentum with a rate for each variable that follows from its norm (You et al. 2017), for large batches."""

    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0001,
        eeta: float = 0.001,
        epsilon: float = 0.0,
        nesterov: bool = False,
        name: str = "Lars",
        **common: Unpack[Common],
    ):
        settings = {
            "momentum": momentum,
            "weight_decay": weight_decay,
            "eeta": eeta,
            "epsilon": epsilon,
            "use_nesterov": nesterov,
        }
        super().__init__("lars", settings, learning_rate=learning_rate, name=name, **common)


class Lion(Optimizer):
    """The sign of a momentum (Chen et al. 2023)."""

    def __init__(
        self,
        learning_rate: LearningRate = 0.0001,
        *,
        beta1: float = 0.9,
        beta2: float = 0.99,
        weight_decay: float = 0.0,
        name: str = "Lion",
        **common: Unpack[Common],
    ):
        settings = {"beta1": beta1, "beta2": beta2, "weight_decay": weight_decay}
        super().__init__("lion", settings, learning_rate=learning_rate, name=name, **common)
