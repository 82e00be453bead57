"""How a ps is to make an initial value: the contract's ``Initializer`` as plain Python values."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy.typing as npt


class FanMode(enum.IntEnum):
    """Which fan scales the variance; numbers of ``Initializer.FanMode``."""

    FAN_IN = 1
    FAN_OUT = 2
    FAN_AVG = 3


class Distribution(enum.IntEnum):
    """What variance scaling draws from; numbers of ``Initializer.Distribution``."""

    UNIFORM = 1
    TRUNCATED_NORMAL = 2
    UNTRUNCATED_NORMAL = 3


@dataclass(frozen=True, slots=True)
class Constant:
    """Every element is ``value``."""

    value: float


@dataclass(frozen=True, slots=True)
class RandomUniform:
    """Uniform in ``[minval, maxval)``."""

    minval: float
    maxval: float


@dataclass(frozen=True, slots=True)
class RandomNormal:
    """Normal."""

    mean: float
    stddev: float


@dataclass(frozen=True, slots=True)
class TruncatedNormal:
    """Normal, redrawn beyond two standard deviations from the mean."""

    mean: float
    stddev: float


@dataclass(frozen=True, slots=True)
class VarianceScaling:
    """Scaled by the number of inputs or outputs (fans) of the whole variable's shape."""

    scale: float
    mode: FanMode
    distribution: Distribution


@dataclass(frozen=True, slots=True)
class Orthogonal:
    """Orthogonal rows or columns, whichever are fewer, times ``gain``."""

    gain: float


@dataclass(frozen=True, slots=True)
class Identity:
    """Ones on the main diagonal of a matrix, times ``gain``."""

    gain: float


@dataclass(frozen=True, slots=True)
class Value:
    """The value itself, computed by the client; has the variable's dtype and shape."""

    array: npt.NDArray[Any]


InitializerKind: TypeAlias = (
    Constant | RandomUniform | RandomNormal | TruncatedNormal | VarianceScaling | Orthogonal | Identity | Value
)


@dataclass(frozen=True, slots=True)
class InitializerSpec:
    """A kind and the seed of its random numbers (ignored by the kinds that draw none)."""

    kind: InitializerKind
    seed: int = 0
