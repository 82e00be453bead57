"""Steps of optimizers by gradients for some rows; otherwise as ``plans``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ps_protocol.operations import Array, VariableSpec
from ps_protocol.optimizer_rules import CATCH_UP, TF1, check_mode
from ps_server.rules.computed_rows import put_rows
from ps_server.rules.optimizers import compiled_loops
from ps_server.rules.optimizers.blocks import BLOCK, Part, Workspace, groups, lie_direct, spare_memory
from ps_server.rules.optimizers.bound_rule import BoundRule
from ps_server.rules.optimizers.checks import Settings, check_gradient, checked_settings
from ps_server.rules.optimizers.plans import Plan
from ps_server.rules.optimizers.row_gradients import RowGradients, row_gradients
from ps_server.rules.row_rules import checked_rows


def plan_rows(rule: BoundRule, indices: Array, gradient: Array, settings: Settings) -> Plan:
    """Prepares a step by gradients for some rows, in the rule's mode; those of a row are added up in their order.

    Args:
        rule: With its variable.
        indices: int32 or int64, any shape; rows may repeat.
        gradient: ``[*indices.shape, *spec.shape[1:]]``; otherwise as of ``plan_dense``.
        settings: Of the rule.

    Raises:
        DTypeMismatchError: The gradient or the indices have another dtype.
        ShapeMismatchError: The gradient has another shape.
        InvalidArgumentError: A row is out of range, or the rule has no such mode.
    """
    spec, mode = rule.spec, rule.mode or ""
    check_mode(rule.name, mode)
    rows = checked_rows(spec, indices)
    check_gradient(spec, rule.name, gradient, (*indices.shape, *spec.shape[1:]))
    matrix = np.require(gradient.reshape(rows.size, rule.width), rule.dtype, ["C", "A"])
    by_row = row_gradients(rows, matrix, spec.shape[0])
    return (_EveryRow if mode == TF1 else _GivenRows)(rule, settings, by_row)


def apply_rows(
    rule: str,
    value: Array,
    slots: Sequence[Array],
    indices: Array,
    gradient: Array,
    numbers: Sequence[float],
    step: int,
    mode: str,
    rounding_key: int | None = None,
) -> None:
    """Carries out what ``plan_rows`` prepares."""
    bound = BoundRule(rule, VariableSpec("value", value.dtype, value.shape), mode, rounding_key)
    plan = plan_rows(bound, indices, gradient, checked_settings(rule, tuple(numbers), mode))
    plan.check(value, slots, step)
    plan.apply(value, slots, step)


class _RowPlan(Plan):
    _is_for_rows = True

    def __init__(self, rule: BoundRule, settings: Settings, by_row: RowGradients):
        super().__init__(rule, settings)
        self._by_row = by_row

    def apply(self, value: Array, slots: Sequence[Array], step: int) -> None:
        super().apply(value, slots, step)
        spare_memory.give(self._by_row.memory)


class _EveryRow(_RowPlan):
    """The mode "tf1": the gradient is zero in the rows that are not given."""

    def __init__(self, rule: BoundRule, settings: Settings, by_row: RowGradients):
        super().__init__(rule, settings, by_row.ascending())
        self._places = np.empty(min(by_row.rows.size, self._block_length() // max(rule.width, 1)), np.intp)

    def _parts(self) -> Iterator[Part]:
        return self._stretches()

    def _gradient_of(self, part: Part, workspace: Workspace) -> Array:
        """Spreads the sums."""
        gradient, width = workspace.gradient(part.end - part.begin), self._rule.width
        gradient.fill(0)
        rows, sums = self._by_row.rows, self._by_row.sums
        first, last = np.searchsorted(rows, (part.begin // width, -(-part.end // width)), side="left")
        if width <= self._block_length():
            places = self._places[: last - first]
            np.subtract(rows[first:last], part.begin // width, out=places)
            put_rows(gradient.reshape(-1, width), places, sums[first:last])
            return gradient
        for number in range(first, last):  # one or two rows, of which the stretch is a part
            begin = int(rows[number]) * width
            inside = slice(max(begin, part.begin) - part.begin, min(begin + width, part.end) - part.begin)
            gradient[inside] = sums[number][max(part.begin - begin, 0) : part.end - begin]
        return gradient


class _GivenRows(_RowPlan):
    """The modes "lazy" and "catch_up": only the given rows."""

    def _block_length(self) -> int:
        return max(BLOCK, self._rule.width)

    def _parts(self) -> Iterator[Part]:
        return groups(self._by_row.rows, max(1, self._block_length() // self._rule.width))

    def _gradient_of(self, part: Part, workspace: Workspace) -> Array:  # noqa: ARG002 - others copy into it
        return self._by_row.sums[part.begin : part.end].reshape(-1)

    def _run(self, value: Array, slots: Sequence[Array], step: int) -> None:
        if self._rule.mode == CATCH_UP:
            *slots, last = slots
            self._catch_up(self._application(value, slots, step), last, step - 1, step)
        elif self._run_compiled(value, slots, step):
            return
        super()._run(value, slots, step)

    def _run_compiled(self, value: Array, slots: Sequence[Array], step: int) -> bool:
        """Carries the step out by a loop for rows, if there is one; returns whether there was."""
        rule, by_row, targets = self._rule, self._by_row, (value, *slots)
        if not rule.is_elementwise or not lie_direct(targets, rule.dtype):
            return False
        one = self._elementwise(step)
        loop = None if one.loop is None else compiled_loops.find(one.loop._replace(by_rows=True))
        if loop is None:
            return False
        loop(*[each.reshape(-1, rule.width) for each in targets], by_row.sums, by_row.rows, one.constants)
        return True
