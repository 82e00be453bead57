"""The equations of the update rules, element by element.

A body takes what it changes, then what it only reads, then constants, and returns what it changes in the same order:
``body(value, *slots, gradient, *constants) -> (value, *slots)``. The same function is run by NumPy, on blocks of arrays
(``tape``), and compiled by numba, on numbers (``compiled_loops``); both give the same bits.

So a body uses only operators and those functions of NumPy that IEEE 754 defines to the last bit (sqrt, abs, sign,
minimum, maximum), and no literals: in numba these are float64, and would make the result float64. ``tf`` in a source
stands for TensorFlow's ``core/kernels/training_ops.cc``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# ruff: noqa: ARG001 - each takes what it changes, even if it does not look at it


def gradient_descent(value: Any, gradient: Any, rate: Any) -> Any:
    """``value -= rate * gradient`` (tf: ApplyGradientDescent)."""
    return (value - rate * gradient,)


def momentum(value: Any, momentum: Any, gradient: Any, rate: Any, decay: Any) -> Any:
    """``momentum = decay * momentum + gradient; value -= rate * momentum`` (tf: ApplyMomentum).

    Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
    """
    momentum = momentum * decay + gradient
    return value - momentum * rate, momentum


def nesterov_momentum(value: Any, momentum: Any, gradient: Any, rate: Any, decay: Any) -> Any:
    """As ``momentum``, but ``value -= rate * (gradient + decay * momentum)`` (tf: ApplyMomentum, use_nesterov).

    Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.
    """
    momentum = momentum * decay + gradient
    return value - (gradient * rate + momentum * decay * rate), momentum


def adagrad(value: Any, accumulator: Any, gradient: Any, rate: Any) -> Any:
    """``accumulator += gradient**2; value -= rate * gradient / sqrt(accumulator)`` (tf: ApplyAdagrad).

    Duchi et al., "Adaptive subgradient methods for online learning and stochastic optimization", 2011.
    """
    accumulator = accumulator + gradient * gradient
    return value - gradient * rate / np.sqrt(accumulator), accumulator


def adagrad_da(
    value: Any, total: Any, squares: Any, gradient: Any, rate: Any, threshold: Any, shrinkage: Any, zero: Any
) -> Any:
    """Adagrad by dual averaging: the value follows from the sums of gradients alone (tf: ApplyAdagradDA).

    ``value = -rate * soft(total, l1 * step) / (l2 * step * rate + sqrt(squares))``, where ``soft`` moves a number
    towards zero by a threshold. Duchi et al., 2011, as above.
    """
    total = total + gradient
    squares = squares + gradient * gradient
    soft = np.sign(total) * np.maximum(np.abs(total) - threshold, zero)
    return -rate * soft / (shrinkage + np.sqrt(squares)), total, squares


def adadelta(
    value: Any, accum: Any, accum_update: Any, gradient: Any, rate: Any, rho: Any, one_minus_rho: Any, epsilon: Any
) -> Any:
    """A step of ``sqrt(accum_update + epsilon) / sqrt(accum + epsilon) * gradient`` (tf: ApplyAdadelta).

    Both slots are decaying means, of squared gradients and of squared steps. Zeiler, "ADADELTA: An adaptive learning
    rate method", 2012.
    """
    accum = accum * rho + gradient * gradient * one_minus_rho
    step = np.sqrt(accum_update + epsilon) / np.sqrt(accum + epsilon) * gradient
    return value - step * rate, accum, accum_update * rho + step * step * one_minus_rho


def adam(
    value: Any, m: Any, v: Any, gradient: Any, rate: Any, one_minus_beta1: Any, one_minus_beta2: Any, epsilon: Any
) -> Any:
    """Decaying means of gradient and square; ``value -= rate * m / (sqrt(v) + epsilon)`` (tf: ApplyAdam).

    ``rate = learning_rate * sqrt(1 - beta2**t) / (1 - beta1**t)``: the form before section 2.1 of Kingma and Ba, "Adam:
    A method for stochastic optimization", 2015, in which epsilon is "epsilon hat".
    """
    m = m + (gradient - m) * one_minus_beta1
    v = v + (gradient * gradient - v) * one_minus_beta2
    return value - m * rate / (np.sqrt(v) + epsilon), m, v


def adam_for_rows(
    value: Any,
    m: Any,
    v: Any,
    gradient: Any,
    rate: Any,
    one_minus_beta1: Any,
    one_minus_beta2: Any,
    epsilon: Any,
    beta1: Any,
    beta2: Any,
) -> Any:
    """As ``adam``, in the order of TensorFlow's sparse update of every row (``AdamOptimizer._apply_sparse_shared``)."""
    m = m * beta1 + gradient * one_minus_beta1
    v = v * beta2 + gradient * gradient * one_minus_beta2
    return value - m * rate / (np.sqrt(v) + epsilon), m, v


def amsgrad(
    value: Any,
    m: Any,
    v: Any,
    vhat: Any,
    gradient: Any,
    rate: Any,
    one_minus_beta1: Any,
    one_minus_beta2: Any,
    epsilon: Any,
) -> Any:
    """As ``adam``, but divided by the root of the largest ``v`` so far (tf: ApplyAdamWithAmsgrad).

    Reddi et al., "On the convergence of Adam and beyond", 2018.
    """
    m = m + (gradient - m) * one_minus_beta1
    v = v + (gradient * gradient - v) * one_minus_beta2
    vhat = np.maximum(vhat, v)
    return value - m * rate / (np.sqrt(vhat) + epsilon), m, v, vhat


def adamw(
    value: Any,
    m: Any,
    v: Any,
    gradient: Any,
    rate: Any,
    one_minus_beta1: Any,
    one_minus_beta2: Any,
    epsilon: Any,
    kept: Any,
    root: Any,
) -> Any:
    """Adam in the form of section 2.1, and decay of the value itself.

    ``value = kept * value - rate * m / (sqrt(v) / root + epsilon)`` with ``kept = 1 - learning_rate * weight_decay``,
    ``rate = learning_rate / (1 - beta1**t)`` and ``root = sqrt(1 - beta2**t)``. Loshchilov and Hutter, "Decoupled
    weight decay regularization", 2019, as in torch's ``AdamW``.
    """
    m = m + (gradient - m) * one_minus_beta1
    v = v + (gradient * gradient - v) * one_minus_beta2
    return value * kept - rate * (m / (np.sqrt(v) / root + epsilon)), m, v


def amsgrad_w(
    value: Any,
    m: Any,
    v: Any,
    vhat: Any,
    gradient: Any,
    rate: Any,
    one_minus_beta1: Any,
    one_minus_beta2: Any,
    epsilon: Any,
    kept: Any,
    root: Any,
) -> Any:
    """As ``adamw``, but divided by the root of the largest ``v`` so far, as in torch's ``AdamW`` with amsgrad."""
    m = m + (gradient - m) * one_minus_beta1
    v = v + (gradient * gradient - v) * one_minus_beta2
    vhat = np.maximum(vhat, v)
    return value * kept - rate * (m / (np.sqrt(vhat) / root + epsilon)), m, v, vhat


def rmsprop(
    value: Any, rms: Any, momentum: Any, gradient: Any, rate: Any, one_minus_decay: Any, kept: Any, epsilon: Any
) -> Any:
    """``momentum = kept * momentum + rate * gradient / sqrt(rms + epsilon)`` (tf: ApplyRMSProp).

    ``rms`` is a decaying mean of squared gradients; ``value -= momentum``. Tieleman and Hinton, lecture 6.5, 2012.
    """
    rms = rms + (gradient * gradient - rms) * one_minus_decay
    momentum = momentum * kept + gradient * rate / np.sqrt(rms + epsilon)
    return value - momentum, rms, momentum


def centered_rmsprop(
    value: Any,
    rms: Any,
    momentum: Any,
    mg: Any,
    gradient: Any,
    rate: Any,
    one_minus_decay: Any,
    kept: Any,
    epsilon: Any,
) -> Any:
    """As ``rmsprop``, divided by ``sqrt(rms - mg**2 + epsilon)``, ``mg`` a mean gradient (tf: ApplyCenteredRMSProp).

    Graves, "Generating sequences with recurrent neural networks", 2013.
    """
    rms = rms + (gradient * gradient - rms) * one_minus_decay
    mg = mg + (gradient - mg) * one_minus_decay
    momentum = momentum * kept + gradient * rate / np.sqrt(rms - mg * mg + epsilon)
    return value - momentum, rms, momentum, mg


def ftrl(
    value: Any,
    accum: Any,
    linear: Any,
    gradient: Any,
    rate: Any,
    l1: Any,
    twice_l2: Any,
    twice_shrinkage: Any,
    tiny: Any,
) -> Any:
    """Follow the regularised leader, for ``learning_rate_power = -0.5`` (tf: ApplyFtrl, ApplyFtrlV2).

    ``linear += gradient + 2 * l2_shrinkage * value - (sqrt(accum + gradient**2) - sqrt(accum)) / rate * value``, and
    ``value = -soft(linear, l1) / (sqrt(accum) / rate + 2 * l2)``. The quotient is 0 where both are. McMahan et al., "Ad
    click prediction: a view from the trenches", 2013.
    """
    new_accum = accum + gradient * gradient
    root = np.sqrt(new_accum)
    linear = linear + (gradient + twice_shrinkage * value) - (root - np.sqrt(accum)) / rate * value
    quadratic = np.maximum(root / rate + twice_l2, tiny)
    return (np.minimum(np.maximum(linear, -l1), l1) - linear) / quadratic, new_accum, linear


def ftrl_of_any_power(
    value: Any,
    accum: Any,
    linear: Any,
    gradient: Any,
    rate: Any,
    l1: Any,
    twice_l2: Any,
    twice_shrinkage: Any,
    tiny: Any,
    power: Any,
) -> Any:
    """As ``ftrl``, with ``accum ** -learning_rate_power`` for roots. Not compiled: powers have no defined last bit."""
    new_accum = accum + gradient * gradient
    root = np.power(new_accum, power)
    linear = linear + (gradient + twice_shrinkage * value) - (root - np.power(accum, power)) / rate * value
    quadratic = np.maximum(root / rate + twice_l2, tiny)
    return (np.minimum(np.maximum(linear, -l1), l1) - linear) / quadratic, new_accum, linear


def proximal_gradient_descent(value: Any, gradient: Any, rate: Any, threshold: Any, shrinkage: Any, zero: Any) -> Any:
    """``value = soft(value - rate * gradient, rate * l1) / (1 + rate * l2)`` (tf: ApplyProximalGradientDescent).

    Duchi and Singer, "Efficient online and batch learning using forward backward splitting", 2009.
    """
    moved = value - rate * gradient
    return (np.sign(moved) * np.maximum(np.abs(moved) - threshold, zero) / shrinkage,)


def proximal_adagrad(
    value: Any, accumulator: Any, gradient: Any, rate: Any, l1: Any, l2: Any, zero: Any, one: Any
) -> Any:
    """As ``proximal_gradient_descent``, with Adagrad's rate for each element (tf: ApplyProximalAdagrad)."""
    accumulator = accumulator + gradient * gradient
    own_rate = rate / np.sqrt(accumulator)
    moved = value - gradient * own_rate
    return np.sign(moved) * np.maximum(np.abs(moved) - l1 * own_rate, zero) / (one + l2 * own_rate), accumulator


def lion(
    value: Any,
    m: Any,
    gradient: Any,
    rate: Any,
    beta1: Any,
    one_minus_beta1: Any,
    one_minus_beta2: Any,
    weight_decay: Any,
) -> Any:
    """``value -= rate * (sign(beta1 * m + (1 - beta1) * gradient) + weight_decay * value)``; ``m`` decays by beta2.

    Chen et al., "Symbolic discovery of optimization algorithms", 2023, algorithm 2.
    """
    direction = np.sign(m * beta1 + gradient * one_minus_beta1)
    return value - rate * (direction + weight_decay * value), m + (gradient - m) * one_minus_beta2


def moments(m: Any, v: Any, gradient: Any, one_minus_beta1: Any, one_minus_beta2: Any) -> Any:
    """Adam's decaying means alone."""
    return m + (gradient - m) * one_minus_beta1, v + (gradient * gradient - v) * one_minus_beta2


def lamb_direction(
    direction: Any, value: Any, m: Any, v: Any, rest1: Any, rest2: Any, epsilon: Any, weight_decay: Any
) -> Any:
    """What ``lamb`` takes its second norm of; overwrites ``direction``."""
    return (m / rest1 / (np.sqrt(v / rest2) + epsilon) + weight_decay * value,)


def lamb(value: Any, m: Any, v: Any, rate: Any, rest1: Any, rest2: Any, epsilon: Any, weight_decay: Any) -> Any:
    """``value -= rate * (mhat / (sqrt(vhat) + epsilon) + weight_decay * value)``.

    ``rate`` is the learning rate times the norm of the value over that of what is in brackets, or times 1 if one of
    them is 0; ``rest1 = 1 - beta1**t``, ``rest2 = 1 - beta2**t``. You et al., "Large batch optimization for deep
    learning: Training BERT in 76 minutes", 2020, algorithm 2.
    """
    return (value - rate * (m / rest1 / (np.sqrt(v / rest2) + epsilon) + weight_decay * value),)


def lars(value: Any, momentum: Any, gradient: Any, rate: Any, decay: Any, weight_decay: Any) -> Any:
    """``momentum = decay * momentum + rate * (gradient + weight_decay * value); value -= momentum``.

    ``rate`` is the learning rate times ``eeta * |value| / (|gradient| + weight_decay * |value| + epsilon)``, or times 1
    if a norm is 0. You et al., "Large batch training of convolutional networks", 2017, algorithm 1.
    """
    momentum = momentum * decay + (gradient + weight_decay * value) * rate
    return value - momentum, momentum


def nesterov_lars(value: Any, momentum: Any, gradient: Any, rate: Any, decay: Any, weight_decay: Any) -> Any:
    """As ``lars``, with Nesterov's look ahead."""
    pull = (gradient + weight_decay * value) * rate
    momentum = momentum * decay + pull
    return value - (pull + momentum * decay), momentum


def group_ftrl_sums(accum: Any, linear: Any, value: Any, gradient: Any, rate: Any, power: Any) -> Any:
    """The first half of ``group_ftrl``: the sums of ``ftrl``."""
    new_accum = accum + gradient * gradient
    sigma = (np.power(new_accum, power) - np.power(accum, power)) / rate
    return new_accum, linear + gradient - sigma * value


def group_ftrl_pull(pull: Any, linear: Any, l1: Any) -> Any:
    """The soft threshold, negated; overwrites ``pull``."""
    return (np.minimum(np.maximum(linear, -l1), l1) - linear,)


def group_ftrl(value: Any, accum: Any, pull: Any, rate: Any, twice_l2: Any, tiny: Any, power: Any, kept: Any) -> Any:
    """``value = kept * -soft(linear, l1) / (accum ** -learning_rate_power / rate + 2 * l2)``.

    ``kept = max(0, 1 - l21 * sqrt(width) / |soft(linear, l1)|)``, a number for each row: below the threshold the whole
    row is zero. Ni et al., "Adaptive optimizers with sparse group lasso for neural networks in CTR prediction", 2021.
    """
    return (kept * pull / np.maximum(np.power(accum, power) / rate + twice_l2, tiny),)


def moved_by_rows(value: Any, gradient: Any, rates: Any) -> Any:
    """``value -= rate of the row * gradient``."""
    return (value - gradient * rates,)


def moving_average(shadow: Any, value: Any, one_minus_decay: Any) -> Any:
    """``shadow -= (1 - decay) * (shadow - value)``, as TensorFlow 1's ``assign_moving_average``."""
    return (shadow - (shadow - value) * one_minus_decay,)
