"""Steps of the optimizers as a ps would make them: the equations of TensorFlow's kernels, in plain NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from ps_protocol.operations import KINDS, Logged, OperationKind, Read, Result, Update, UpdateRule
from ps_server.batches.handlers import HANDLERS, Resources
from worker_client.training.optimizers.apply_step import SETTINGS, Apply

Arrays = list[Any]


def _soft(x: Any, by: Any) -> Any:
    return np.sign(x) * np.maximum(np.abs(x) - by, 0)


def _gradient_descent(w: Any, g: Any, slots: Arrays, s: dict[str, float]) -> Any:
    return w - s["learning_rate"] * g


def _momentum(w: Any, g: Any, slots: Arrays, s: dict[str, float]) -> Any:
    slots[0][...] = slots[0] * s["momentum"] + g
    ahead = g + s["momentum"] * slots[0] if s["use_nesterov"] else slots[0]
    return w - s["learning_rate"] * ahead


def _adagrad(w: Any, g: Any, slots: Arrays, s: dict[str, float]) -> Any:
    slots[0][...] += g * g
    return w - s["learning_rate"] * g / np.sqrt(slots[0])


def _proximal(w: Any, rate: Any, s: dict[str, float]) -> Any:
    return _soft(w, rate * s["l1_regularization_strength"]) / (1 + rate * s["l2_regularization_strength"])


def _proximal_gradient_descent(w: Any, g: Any, slots: Arrays, s: dict[str, float]) -> Any:
    return _proximal(w - s["learning_rate"] * g, s["learning_rate"], s)


def _proximal_adagrad(w: Any, g: Any, slots: Arrays, s: dict[str, float]) -> Any:
    slots[0][...] += g * g
    rate = s["learning_rate"] / np.sqrt(slots[0])
    return _proximal(w - rate * g, rate, s)


def _adagrad_da(w: Any, g: Any, slots: Arrays, s: dict[str, float]) -> Any:
    slots[0][...] += g
    slots[1][...] += g * g
    steps = s["global_step"]
    pulled = _soft(slots[0], s["l1_regularization_strength"] * steps)
    below = s["l2_regularization_strength"] * steps * s["learning_rate"] + np.sqrt(slots[1])
    return -s["learning_rate"] * pulled / below


def _adadelta(w: Any, g: Any, slots: Arrays, s: dict[str, float]) -> Any:
    slots[0][...] = s["rho"] * slots[0] + (1 - s["rho"]) * g * g
    step = np.sqrt(slots[1] + s["epsilon"]) / np.sqrt(slots[0] + s["epsilon"]) * g
    slots[1][...] = s["rho"] * slots[1] + (1 - s["rho"]) * step * step
    return w - s["learning_rate"] * step


def _adam(w: Any, g: Any, slots: Arrays, s: dict[str, float]) -> Any:
    slots[0][...] += (g - slots[0]) * (1 - s["beta1"])
    slots[1][...] += (g * g - slots[1]) * (1 - s["beta2"])
    rate = s["learning_rate"] * np.sqrt(1 - s["beta2_power"]) / (1 - s["beta1_power"])
    return w - rate * slots[0] / (np.sqrt(slots[1]) + s["epsilon"])


def _rmsprop(w: Any, g: Any, slots: Arrays, s: dict[str, float]) -> Any:
    slots[0][...] = s["decay"] * slots[0] + (1 - s["decay"]) * g * g
    below = slots[0] + s["epsilon"]
    if s["centered"]:
        slots[2][...] = s["decay"] * slots[2] + (1 - s["decay"]) * g
        below = below - slots[2] ** 2
    slots[1][...] = s["momentum"] * slots[1] + s["learning_rate"] * g / np.sqrt(below)
    return w - slots[1]


def _ftrl(w: Any, g: Any, slots: Arrays, s: dict[str, float]) -> Any:
    shrunk = g + 2 * s["l2_shrinkage_regularization_strength"] * w
    new, power, rate = slots[0] + g * g, -s["learning_rate_power"], s["learning_rate"]
    slots[1][...] += shrunk - (new**power - slots[0] ** power) / rate * w
    slots[0][...] = new
    below = new**power / rate + 2 * s["l2_regularization_strength"] + s["beta"] / rate
    return -_soft(slots[1], s["l1_regularization_strength"]) / below


RULES: dict[str, Callable[..., Any]] = {
    "gradient_descent": _gradient_descent,
    "momentum": _momentum,
    "adagrad": _adagrad,
    "adagrad_da": _adagrad_da,
    "adadelta": _adadelta,
    "adam": _adam,
    "rmsprop": _rmsprop,
    "ftrl": _ftrl,
    "proximal_gradient_descent": _proximal_gradient_descent,
    "proximal_adagrad": _proximal_adagrad,
}


def _handle(ps: Resources, step: Any, _deadline_s: float, _lend: bool, _take: bool) -> Result:
    def read(name: str) -> Any:
        tensor = ps.store.read(Read(name)).tensor
        assert tensor is not None
        return np.array(tensor, np.float64)

    whole, slots = read(step.name), [read(name) for name in step.slots]
    settings = dict(zip(SETTINGS[step.function], step.numbers, strict=True))
    assert not np.isnan(step.numbers).any()
    rows: Any = ...
    gradient = np.asarray(step.operands[-1], np.float64)
    if len(step.operands) == 2:
        rows = step.operands[0]
        assert len(set(rows.tolist())) == len(rows)
        if step.function == "adam":  # of which every row decays
            full = np.zeros_like(whole)
            full[rows] = gradient
            rows, gradient = ..., full
    chosen = [slot[rows] for slot in slots]
    whole[rows] = RULES[step.function](whole[rows], gradient, chosen, settings)
    for name, slot, part in zip(step.slots, slots, chosen, strict=True):
        slot[rows] = part
        ps.store.update(Update(name, UpdateRule.ASSIGN, slot.astype(np.float32)))
    return ps.store.update(Update(step.name, UpdateRule.ASSIGN, whole.astype(np.float32)))


@contextmanager
def made_by_the_ps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets the ps of this process make steps."""
    kind = OperationKind(
        mutates=True,
        logged=Logged.AS_ITSELF,
        tensors=lambda step: step.operands,
        with_tensors=lambda step, tensors: Apply(  # type: ignore[arg-type, return-value]
            step.name, step.function, step.slots, step.state, tuple(tensors), step.numbers
        ),
    )
    monkeypatch.setitem(KINDS, Apply, kind)
    monkeypatch.setitem(HANDLERS, Apply, _handle)
    yield
