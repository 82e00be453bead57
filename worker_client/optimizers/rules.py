"""The optimizers by name: each has the settings of its rule as arguments, with the defaults of the rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, TypedDict, TypeVar, Unpack

import numpy.typing as npt

from ps_protocol.optimizer_rules import RULES
from ps_protocol.training.sync_policy import SyncPolicy
from worker_client.optimizers.constraints import Constraint
from worker_client.optimizers.optimizer import LearningRate, Optimizer
from worker_client.values.made_functions import with_body

_Constructor = TypeVar("_Constructor", bound=Callable[..., None])
_ARGUMENT_OF: Final = {"use_nesterov": "nesterov"}
"""Arguments that have another name than the setting, which is named as in TensorFlow 1."""


class Common(TypedDict, total=False):
    """What all optimizers take besides the settings of their rules; see ``Optimizer``."""

    sparse: Literal["tf1", "lazy", "catch_up"] | None
    slot_dtype: npt.DTypeLike | None
    on_nonfinite: Literal["refuse", "skip", "apply"]
    constraint: Constraint | None
    sync: str | SyncPolicy | None


def _of_rule(rule: str) -> Callable[[_Constructor], _Constructor]:
    """Makes an optimizer's constructor from its signature: gives the rule the arguments that are its settings."""
    arguments = {each.name: _ARGUMENT_OF.get(each.name, each.name) for each in RULES[rule].settings[1:]}

    def construct(given: dict[str, Any]) -> None:
        settings = {setting: given[name] for setting, name in arguments.items() if name in given}
        rate, name = given["learning_rate"], given["name"]
        Optimizer.__init__(given["self"], rule, settings, learning_rate=rate, name=name, **given["common"])

    return with_body(construct)


class GradientDescent(Optimizer):
    """``w -= learning_rate * g``.

    Args:
        learning_rate: A number, or a schedule of ``ss.train``.
        name: Of the optimizer.
        **common: ``sparse``, ``slot_dtype``, ``on_nonfinite``, ``constraint`` and ``sync``; see ``Optimizer``.
    """

    @_of_rule("gradient_descent")
    def __init__(self, learning_rate: LearningRate, *, name: str = "GradientDescent", **common: Unpack[Common]): ...


class Momentum(Optimizer):
    """``momentum = momentum * slot + g; w -= learning_rate * slot``, as TensorFlow 1's (Polyak 1964).

    Args:
        learning_rate: A number, or a schedule of ``ss.train``.
        momentum: How much of the slot stays at each step.
        nesterov: Whether to look one step ahead: ``w -= learning_rate * (g + momentum * slot)`` (Sutskever 2013).
        name: Of the optimizer.
        **common: ``sparse``, ``slot_dtype``, ``on_nonfinite``, ``constraint`` and ``sync``; see ``Optimizer``.
    """

    @_of_rule("momentum")
    def __init__(
        self,
        learning_rate: LearningRate,
        momentum: float,
        *,
        nesterov: bool = False,
        name: str = "Momentum",
        **common: Unpack[Common],
    ): ...


class Adagrad(Optimizer):
    """``accumulator += g**2; w -= learning_rate * g / sqrt(accumulator)`` (Duchi et al. 2011).

    Args:
        learning_rate: A number, or a schedule of ``ss.train``.
        initial_accumulator_value: Of the accumulator of each element; above 0.
        name: Of the optimizer.
        **common: ``sparse``, ``slot_dtype``, ``on_nonfinite``, ``constraint`` and ``sync``; see ``Optimizer``.
    """

    @_of_rule("adagrad")
    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        initial_accumulator_value: float = 0.1,
        name: str = "Adagrad",
        **common: Unpack[Common],
    ): ...


class RowWiseAdagrad(Optimizer):
    """Adagrad with one accumulator for each row: a slot of a fraction of the size, for embedding tables.

    ``accumulator += mean(g**2); w -= learning_rate * g / (sqrt(accumulator) + epsilon)``, the mean over a row.

    Args:
        learning_rate: A number, or a schedule of ``ss.train``.
        initial_accumulator_value: Of the accumulator of each row; at least 0.
        epsilon: Added to the root.
        name: Of the optimizer.
        **common: ``sparse``, ``slot_dtype``, ``on_nonfinite``, ``constraint`` and ``sync``; see ``Optimizer``.
    """

    @_of_rule("row_wise_adagrad")
    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-8,
        name: str = "RowWiseAdagrad",
        **common: Unpack[Common],
    ): ...


class AdagradDA(Optimizer):
    """Adagrad by dual averaging (Duchi et al. 2011), for sparse models with an L1 penalty.

    The value follows from the slots, the sums ``s`` of gradients and ``q`` of squares, alone:
    ``w = -learning_rate * soft(s, l1 * step) / (l2 * step * learning_rate + sqrt(q))``, where ``soft`` moves a number
    towards zero.

    Args:
        learning_rate: A number, or a schedule of ``ss.train``.
        initial_gradient_squared_accumulator_value: Of the sum of squares of each element; above 0.
        l1_regularization_strength: At least 0.
        l2_regularization_strength: At least 0.
        name: Of the optimizer.
        **common: ``sparse``, ``slot_dtype``, ``on_nonfinite``, ``constraint`` and ``sync``; see ``Optimizer``.
    """

    @_of_rule("adagrad_da")
    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        initial_gradient_squared_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        name: str = "AdagradDA",
        **common: Unpack[Common],
    ): ...


class Adadelta(Optimizer):
    """Steps in the units of the variable (Zeiler 2012).

    ``step = sqrt(accum_update + epsilon) / sqrt(accum + epsilon) * g; w -= learning_rate * step``, where the slots are
    decaying means of ``g**2`` and ``step**2``.

    Args:
        learning_rate: A number, or a schedule of ``ss.train``.
        rho: How much of the means stays at each step.
        epsilon: Added to the means.
        name: Of the optimizer.
        **common: ``sparse``, ``slot_dtype``, ``on_nonfinite``, ``constraint`` and ``sync``; see ``Optimizer``.
    """

    @_of_rule("adadelta")
    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        *,
        rho: float = 0.95,
        epsilon: float = 1e-8,
        name: str = "Adadelta",
        **common: Unpack[Common],
    ): ...


class Adam(Optimizer):
    """Moments of the gradient, corrected for their start at zero (Kingma and Ba 2014), as TensorFlow 1's.

    ``w -= learning_rate * sqrt(1 - beta2**step) / (1 - beta1**step) * m / (sqrt(v) + epsilon)``, where the slots are
    decaying means of ``g`` and ``g**2``.

    Args:
        learning_rate: A number, or a schedule of ``ss.train``.
        beta1: How much of ``m`` stays at each step.
        beta2: How much of ``v`` stays at each step.
        epsilon: Added to the root.
        amsgrad: Whether to divide by the root of the largest ``v`` so far (Reddi et al. 2018).
        name: Of the optimizer.
        **common: ``sparse``, ``slot_dtype``, ``on_nonfinite``, ``constraint`` and ``sync``; see ``Optimizer``.
    """

    @_of_rule("adam")
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
    ): ...


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017), as torch's.

    ``w -= learning_rate * (weight_decay * w + mhat / (sqrt(vhat) + epsilon))``, where ``mhat = m / (1 - beta1**step)``
    and ``vhat = v / (1 - beta2**step)``.

    Args:
        learning_rate: A number, or a schedule of ``ss.train``.
        beta1: How much of ``m`` stays at each step.
        beta2: How much of ``v`` stays at each step.
        epsilon: Added to the root.
        weight_decay: At least 0.
        amsgrad: Whether to divide by the root of the largest ``v`` so far (Reddi et al. 2018).
        name: Of the optimizer.
        **common: ``sparse``, ``slot_dtype``, ``on_nonfinite``, ``constraint`` and ``sync``; see ``Optimizer``.
    """

    @_of_rule("adamw")
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
    ): ...


class RMSProp(Optimizer):
    """Divides by a moving root mean square of gradients (Tieleman and Hinton 2012), as TensorFlow 1's.

    ``slot = momentum * slot + learning_rate * g / sqrt(rms + epsilon); w -= slot``, where ``rms`` is a decaying mean of
    ``g**2``.

    Args:
        learning_rate: A number, or a schedule of ``ss.train``.
        decay: How much of the mean stays at each step.
        momentum: How much of the last change is made again.
        epsilon: Added to the mean.
        centered: Whether to subtract the square of the mean gradient from ``rms`` (Graves 2013).
        name: Of the optimizer.
        **common: ``sparse``, ``slot_dtype``, ``on_nonfinite``, ``constraint`` and ``sync``; see ``Optimizer``.
    """

    @_of_rule("rmsprop")
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
    ): ...


class Ftrl(Optimizer):
    """Follows the regularised leader (McMahan et al. 2013), as TensorFlow 1's.

    ``linear += g + 2 * l2_shrinkage * w - (new**-power - accum**-power) / learning_rate * w`` with
    ``new = accum + g**2``; then ``w = -soft(linear, l1) / (new**-power / learning_rate + 2 * l2)``, where ``soft``
    moves a number towards zero.

    Args:
        learning_rate: A number, or a schedule of ``ss.train``.
        learning_rate_power: At most 0.
        initial_accumulator_value: Of the accumulator of each element; at least 0.
        l1_regularization_strength: At least 0.
        l2_regularization_strength: At least 0.
        l2_shrinkage_regularization_strength: At least 0; a penalty on the size of weights that have gradients.
        beta: At least 0; ``beta / (2 * learning_rate)`` is added to the L2 strength.
        name: Of the optimizer.
        **common: ``sparse``, ``slot_dtype``, ``on_nonfinite``, ``constraint`` and ``sync``; see ``Optimizer``.
    """

    @_of_rule("ftrl")
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
    ): ...


class GroupFtrl(Optimizer):
    """Ftrl with a penalty on whole rows, which become exactly zero (Ni et al. 2021).

    A row of ``Ftrl`` is multiplied by ``max(0, 1 - l21 * sqrt(width) / norm(soft(linear, l1)))``.

    Args:
        learning_rate: A number, or a schedule of ``ss.train``.
        learning_rate_power: At most 0.
        initial_accumulator_value: Of the accumulator of each element; at least 0.
        l1_regularization_strength: At least 0.
        l2_regularization_strength: At least 0.
        l21_regularization_strength: Of whole rows; at least 0.
        name: Of the optimizer.
        **common: ``sparse``, ``slot_dtype``, ``on_nonfinite``, ``constraint`` and ``sync``; see ``Optimizer``.
    """

    @_of_rule("group_ftrl")
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
    ): ...


class ProximalGradientDescent(Optimizer):
    """Gradient descent with L1 and L2 penalties that are applied exactly (Duchi and Singer 2009), as TensorFlow 1's.

    ``w = soft(w - learning_rate * g, learning_rate * l1) / (1 + learning_rate * l2)``, where ``soft`` moves a number
    towards zero.

    Args:
        learning_rate: A number, or a schedule of ``ss.train``.
        l1_regularization_strength: At least 0.
        l2_regularization_strength: At least 0.
        name: Of the optimizer.
        **common: ``sparse``, ``slot_dtype``, ``on_nonfinite``, ``constraint`` and ``sync``; see ``Optimizer``.
    """

    @_of_rule("proximal_gradient_descent")
    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        name: str = "ProximalGradientDescent",
        **common: Unpack[Common],
    ): ...


class ProximalAdagrad(Optimizer):
    """As ``ProximalGradientDescent``, with Adagrad's rate for each element, as TensorFlow 1's.

    Args:
        learning_rate: A number, or a schedule of ``ss.train``.
        initial_accumulator_value: Of the accumulator of each element; above 0.
        l1_regularization_strength: At least 0.
        l2_regularization_strength: At least 0.
        name: Of the optimizer.
        **common: ``sparse``, ``slot_dtype``, ``on_nonfinite``, ``constraint`` and ``sync``; see ``Optimizer``.
    """

    @_of_rule("proximal_adagrad")
    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        name: str = "ProximalAdagrad",
        **common: Unpack[Common],
    ): ...


class Lamb(Optimizer):
    """Adam with a rate for each variable that follows from its norm (You et al. 2019), for large batches.

    ``w -= learning_rate * norm(w) / norm(d) * d`` with ``d = mhat / (sqrt(vhat) + epsilon) + weight_decay * w``, where
    ``mhat`` and ``vhat`` are those of ``AdamW``.

    Args:
        learning_rate: A number, or a schedule of ``ss.train``.
        beta1: How much of ``m`` stays at each step.
        beta2: How much of ``v`` stays at each step.
        epsilon: Added to the root.
        weight_decay: At least 0.
        name: Of the optimizer.
        **common: ``sparse``, ``slot_dtype``, ``on_nonfinite``, ``constraint`` and ``sync``; see ``Optimizer``.
    """

    @_of_rule("lamb")
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
    ): ...


class Lars(Optimizer):
    """Momentum with a rate for each variable that follows from its norm (You et al. 2017), for large batches.

    ``slot = momentum * slot + rate * (g + weight_decay * w); w -= slot`` with
    ``rate = learning_rate * eeta * norm(w) / (norm(g) + weight_decay * norm(w) + epsilon)``.

    Args:
        learning_rate: A number, or a schedule of ``ss.train``.
        momentum: How much of the slot stays at each step.
        weight_decay: At least 0.
        eeta: Above 0; the paper's trust coefficient.
        epsilon: Added to the norms.
        nesterov: Whether to look one step ahead, as ``Momentum``.
        name: Of the optimizer.
        **common: ``sparse``, ``slot_dtype``, ``on_nonfinite``, ``constraint`` and ``sync``; see ``Optimizer``.
    """

    @_of_rule("lars")
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
    ): ...


class Lion(Optimizer):
    """The sign of a momentum (Chen et al. 2023).

    ``w -= learning_rate * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * w)``, where ``m`` is a decaying mean of
    ``g``.

    Args:
        learning_rate: A number, or a schedule of ``ss.train``.
        beta1: How much of ``m`` is in the sign.
        beta2: How much of ``m`` stays at each step.
        weight_decay: At least 0.
        name: Of the optimizer.
        **common: ``sparse``, ``slot_dtype``, ``on_nonfinite``, ``constraint`` and ``sync``; see ``Optimizer``.
    """

    @_of_rule("lion")
    def __init__(
        self,
        learning_rate: LearningRate = 0.0001,
        *,
        beta1: float = 0.9,
        beta2: float = 0.99,
        weight_decay: float = 0.0,
        name: str = "Lion",
        **common: Unpack[Common],
    ): ...
