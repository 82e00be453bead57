"""A primitive of arrays as the function of an operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from autograd.core import primitive_vjps

from worker_client.derivatives.registry import Rule


@dataclass(frozen=True)
class Applied:
    """Calls a primitive with arrays and with what else it needs, and says how that is differentiated.

    Attributes:
        primitive: One of autograd's primitives. Its first arguments are the inputs of the operation.
        further: Its other arguments.
    """

    primitive: Callable[..., Any]
    further: tuple[Any, ...] = ()

    def __call__(self, *arrays: Any) -> Any:
        return self.primitive(*arrays, *self.further)

    @property
    def derivative(self) -> Rule:
        """The rule of the primitive."""
        rule: Rule = primitive_vjps[self.primitive]
        return lambda argnums, ans, args, _: rule(argnums, ans, (*args, *self.further), {})
