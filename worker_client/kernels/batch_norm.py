"""Normalisation of batches as the function of an operation with several outputs, of which the first has derivatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from autograd.core import primitive_vjps

from worker_client.derivatives.registry import Rule, Vjp
from worker_client.kernels import normalization as kernels
from worker_client.kernels.windows import Array

_NOTHING = np.zeros((), np.float32)


@dataclass(frozen=True)
class BatchNorm:
    """Normalises with the moments of the batch, or with given ones.

    Attributes:
        epsilon: Added to variances.
        channels_first: Whether images are ``[batch, channels, height, width]``.
        is_training: Whether the batch's own moments are taken.
        factor: What part of them goes into those that are returned.
    """

    epsilon: float
    channels_first: bool
    is_training: bool
    factor: float

    def __call__(self, x: Array, scale: Array, offset: Array, mean: Array, variance: Array) -> tuple[Any, ...]:
        if not self.is_training:
            made = kernels.scaled_norm(x, scale, offset, mean, variance, self.epsilon, self.channels_first)
            return made, mean, variance, mean, variance, _NOTHING
        made = kernels.batch_norm(x, scale, offset, self.epsilon, self.channels_first)
        moments = kernels.estimated_moments(x, self.channels_first)
        if self.factor == 1.0:
            return made, *moments, *moments, _NOTHING
        share = np.float32(self.factor)
        new = [(1 - share) * old + share * own for old, own in zip((mean, variance), moments, strict=True)]
        return made, *new, *moments, _NOTHING

    @property
    def derivative(self) -> Rule:
        """That of the images; the moments count as constants, as in TensorFlow."""

        def rule(argnums: Sequence[int], ans: Any, args: Sequence[Any], _: Mapping[str, Any]) -> Vjp:
            return _of_images(argnums, ans, args, self.epsilon, self.channels_first, is_training=self.is_training)

        return rule


@dataclass(frozen=True)
class BatchNormOfEither:
    """Normalises with the moments of the batch if its last input is True, else with given ones.

    Attributes:
        epsilon: Added to variances.
        channels_first: Whether images are ``[batch, channels, height, width]``.
    """

    epsilon: float
    channels_first: bool

    def __call__(
        self, x: Array, scale: Array, offset: Array, mean: Array, variance: Array, training: Array
    ) -> tuple[Any, ...]:
        chosen = BatchNorm(self.epsilon, self.channels_first, bool(training), 1.0)
        return chosen(x, scale, offset, mean, variance)[:3]

    @property
    def derivative(self) -> Rule:
        """That of the images; the moments count as constants, as in TensorFlow."""

        def rule(argnums: Sequence[int], ans: Any, args: Sequence[Any], _: Mapping[str, Any]) -> Vjp:
            is_training = bool(args[5])
            return _of_images(argnums, ans, args[:5], self.epsilon, self.channels_first, is_training=is_training)

        return rule


def _of_images(
    argnums: Sequence[int], ans: Any, args: Sequence[Any], epsilon: float, channels_first: bool, *, is_training: bool
) -> Vjp:
    """Returns the derivatives of the first output."""
    function = kernels.batch_norm if is_training else kernels.scaled_norm
    taken = 3 if is_training else 5
    own = [argnum for argnum in argnums if argnum < taken]
    vjp: Vjp = primitive_vjps[function](own, ans[0], (*args[:taken], epsilon, channels_first), {})

    def gradients(g: Any) -> list[Any]:
        found = dict(zip(own, vjp(g[0]), strict=True))
        return [found[each] if each in found else np.zeros_like(args[each]) for each in argnums]

    return gradients
