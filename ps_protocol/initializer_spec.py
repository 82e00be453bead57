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
class ConstantKind:
    """Every element is ``value``."""

    value: float


@dataclass(frozen=True, slots=True)
class RandomUniformKind:
    """Uniform in ``[minval, maxval)``."""

    minval: float
    maxval: float


@dataclass(frozen=True, slots=True)
class RandomNormalKind:
    """Normal."""

    mean: float
    stddev: float


@dataclass(frozen=True, slots=True)
class TruncatedNormalKind:
    """Normal, redrawn beyond two standard deviations from the mean."""

    mean: float
    stddev: float


@dataclass(frozen=True, slots=True)
class VarianceScalingKind:
    """Scaled by the number of inputs or outputs (fans) of the whole variable's shape."""

    scale: float
    mode: FanMode
    distribution: Distribution


@dataclass(frozen=True, slots=True)
class OrthogonalKind:
    """Orthogonal rows or columns, whichever are fewer, times ``gain``."""

    gain: float


@dataclass(frozen=True, slots=True)
class IdentityKind:
    """Ones on the main diagonal of a matrix, times ``gain``."""

    gain: float


@dataclass(frozen=True, slots=True)
class ValueKind:
    """The value itself, computed by the client; has the variable's dtype and shape."""

    array: npt.NDArray[Any]


InitializerKind: TypeAlias = (
    ConstantKind
    | RandomUniformKind
    | RandomNormalKind
    | TruncatedNormalKind
    | VarianceScalingKind
    | OrthogonalKind
    | IdentityKind
    | ValueKind
)


@dataclass(frozen=True, slots=True)
class InitializerSpec:
    """A kind and the seed of its random numbers (ignored by the kinds that draw none).

    Attributes:
        kind: What to make.
        seed: Of its random numbers.
        seed_alone: Whether these follow from the seed alone; else from the variable's full name as well.
    """

    kind: InitializerKind
    seed: int = 0
    seed_alone: bool = False
