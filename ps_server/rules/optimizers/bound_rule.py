"""A rule and the variable that it changes: what is the same in each step."""

from __future__ import annotations

import math
from typing import Final

from ps_protocol.operations import VariableSpec
from ps_protocol.optimizer_rules import rule_spec
from ps_server.rules.optimizers.blocks import BLOCK
from ps_server.rules.optimizers.checks import compute_dtype
from ps_server.rules.optimizers.constants import ELEMENTWISE_RULES
from ps_server.rules.optimizers.norm_rules import ROW_RULES


class BoundRule:
    """Immutable.

    Args:
        rule: Name of the update rule.
        spec: Of the variable.
        mode: What steps by rows do to the other rows: one of the rule's sparse modes.
        rounding_key: 64 bits, signed, that say how bfloat16 slots are rounded at random; None rounds to nearest.

    Attributes:
        dtype: Of the computation.
        num_rows: Of the variable; a scalar has one.
        width: Elements of a row.
        block_length: Elements that are computed at once.
        is_elementwise: Whether elements have nothing to do with each other.

    Raises:
        InvalidArgumentError: There is no such rule, or the variable does not hold floats.
    """

    __slots__ = (
        "block_length",
        "dtype",
        "is_elementwise",
        "mode",
        "name",
        "num_rows",
        "rounding_key",
        "spec",
        "width",
    )

    def __init__(self, rule: str, spec: VariableSpec, mode: str | None = None, rounding_key: int | None = None):
        self.name: Final = rule_spec(rule).name
        self.spec: Final = spec
        self.mode: Final = mode
        self.rounding_key: Final = rounding_key
        self.dtype: Final = compute_dtype(spec)
        self.num_rows: Final = spec.shape[0] if spec.shape else 1
        self.width: Final = math.prod(spec.shape[1:])
        self.block_length: Final = max(BLOCK, self.width) if rule in ROW_RULES else BLOCK
        self.is_elementwise: Final = rule in ELEMENTWISE_RULES
