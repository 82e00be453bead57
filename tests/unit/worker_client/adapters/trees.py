"""Models of every kind of container, whose gradients follow from a worker and a step."""

from __future__ import annotations

import dataclasses
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

import shardscope as ss

Array = npt.NDArray[Any]

STEPS: Final = 4
RATE: Final = 0.5
TIMEOUT_S: Final = 60.0
SHAPES: Final = {"dense/kernel": (5, 3), "dense/bias": (3,), "scale": (), "table/0": (7, 2), "table/1": (2, 0)}
"""A scalar and an array without elements among them."""


def descent(**more: Any) -> Any:
    """An optimizer by which a step is easy to tell."""
    return ss.train.GradientDescent(RATE, **more)


class Layer(NamedTuple):
    """A node of a tree."""

    w: Any
    b: Any


@dataclasses.dataclass
class Block:
    """A node of a tree."""

    first: Any
    second: Any


@dataclasses.dataclass(frozen=True)
class FrozenBlock:
    """A node of a tree."""

    first: Any


def params() -> dict[str, Any]:
    """What every worker begins with."""
    draw = np.random.default_rng(5)
    made = {name: draw.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    return nested(made)


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """The tree of arrays by their names."""
    return {
        "dense": {"kernel": flat["dense/kernel"], "bias": flat["dense/bias"]},
        "scale": flat["scale"],
        "table": [flat["table/0"], flat["table/1"]],
        "unused": None,
    }


def gradients(worker: int, step: int) -> dict[str, Any]:
    """Those of a worker in a step."""
    draw = np.random.default_rng([worker, step])
    return nested({name: draw.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()})


def flat(tree: Any) -> dict[str, Array]:
    """The arrays of such a tree by their names."""
    return {
        "dense/kernel": np.asarray(tree["dense"]["kernel"]),
        "dense/bias": np.asarray(tree["dense"]["bias"]),
        "scale": np.asarray(tree["scale"]),
        "table/0": np.asarray(tree["table"][0]),
        "table/1": np.asarray(tree["table"][1]),
    }


def descended(num_workers: int, rate: float, steps: int = STEPS) -> dict[str, Array]:
    """What gradient descent by one worker with the batches of all comes to."""
    found = {name: array.astype(np.float64) for name, array in flat(params()).items()}
    for step in range(steps):
        each = [flat(gradients(worker, step)) for worker in range(num_workers)]
        for name, value in found.items():
            found[name] = value - rate * np.mean([of[name].astype(np.float64) for of in each], axis=0)
    return found


def assert_close(tree: Any, expected: dict[str, Array]) -> None:
    """To 1e-6."""
    found = flat(tree)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-6, atol=1e-6, err_msg=name)
