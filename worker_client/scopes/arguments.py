"""What variable scopes and ``get_variable`` are given, and what goes from one to the other as one object."""

from __future__ import annotations

import enum
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy.typing as npt

from worker_client.graph.definition import (
    Constraint,
    Regularizer,
    VariableAggregation,
    VariableSynchronization,
)
from worker_client.values.dtypes import DType, as_dtype, float32
from worker_client.values.shapes import ShapeLike
from worker_client.variables.partitioners import Partitioner


class ReuseMode(enum.Enum):
    """How a scope treats names that exist, beside True (they must exist) and False or None (they must not)."""

    AUTO_REUSE = 1


AUTO_REUSE: Final = ReuseMode.AUTO_REUSE
"""Reuse a variable that exists and create one that does not."""

Reuse: TypeAlias = bool | Literal[ReuseMode.AUTO_REUSE] | None
InitializerLike: TypeAlias = Any
"""An ``Initializer`` or a class of them, a function of ``(shape, dtype=...)``, a constant; None for the default."""

Getter: TypeAlias = Callable[..., Any]


def no_regularizer(_: object) -> None:
    """A regularizer that makes no loss, to leave out the scope's own."""


class VariableArguments(NamedTuple):
    """A variable that is asked for, with the defaults of a scope filled in: the arguments that a getter has.

    A named tuple, since that is made faster than a frozen dataclass, once at each ``get_variable``.

    Attributes:
        name: Full name.
        shape: As far as it is given.
        dtype: Of the variable; not of a constant initializer, which keeps its own.
        initializer: As given, None for the default.
        regularizer: Makes its loss.
        reuse: Whether it must exist (True), must not (False), or may (``AUTO_REUSE``, None).
        trainable: Whether optimizers are meant to update it, None for the default.
        collections: The collections it goes into, None for the standard ones.
        caching_device: Where a local copy is kept.
        partitioner: Says into how many parts to cut it; None for one whole.
        validate_shape: Whether values assigned later must have the shape.
        use_resource: Ignored; custom getters pass it on.
        constraint: Applied after an optimizer's update.
        synchronization: When copies are brought together.
        aggregation: How they are.
    """

    name: str
    shape: ShapeLike = None
    dtype: npt.DTypeLike = float32
    initializer: InitializerLike = None
    regularizer: Regularizer | None = None
    reuse: Reuse = None
    trainable: bool | None = None
    collections: Any = None
    caching_device: Any = None
    partitioner: Partitioner | None = None
    validate_shape: bool = True
    use_resource: bool | None = None
    constraint: Constraint | None = None
    synchronization: VariableSynchronization = VariableSynchronization.AUTO
    aggregation: VariableAggregation = VariableAggregation.NONE


class ScopeDefaults(NamedTuple):
    """What a variable scope sets for the variables inside; None leaves what is inherited."""

    initializer: InitializerLike = None
    regularizer: Regularizer | None = None
    caching_device: Any = None
    partitioner: Partitioner | None = None
    custom_getter: Getter | None = None
    dtype: Any = None
    use_resource: bool | None = None

    @property
    def are_none(self) -> bool:
        """Whether nothing is set; by identity, since an array does not compare with None."""
        return (
            self.initializer is None
            and self.regularizer is None
            and self.caching_device is None
            and self.partitioner is None
            and self.custom_getter is None
            and self.dtype is None
            and self.use_resource is None
        )

    def inside(self, outer: ScopeDefaults) -> ScopeDefaults:
        """Returns what counts in a scope that sets these inside one where ``outer`` count."""
        initializer, regularizer, caching_device, partitioner, custom_getter, dtype, use_resource = self
        return ScopeDefaults(
            outer.initializer if initializer is None else initializer,
            outer.regularizer if regularizer is None else regularizer,
            outer.caching_device if caching_device is None else caching_device,
            outer.partitioner if partitioner is None else partitioner,
            outer.custom_getter if custom_getter is None else _around(custom_getter, outer.custom_getter),
            outer.dtype if dtype is None else DType(as_dtype(dtype)),
            outer.use_resource if use_resource is None else use_resource,
        )


NO_DEFAULTS: Final = ScopeDefaults()


def _around(outer: Getter, inner: Getter | None) -> Getter:
    """Returns a getter that calls ``outer``, whose getter is ``inner``."""
    if inner is None:
        return outer
    wrapped = inner

    def chained(getter: Getter, *args: Any, **keywords: Any) -> Any:
        return outer(partial(wrapped, getter), *args, **keywords)

    return chained
