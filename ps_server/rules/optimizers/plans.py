"""Steps of optimizers on a variable and its slots: checked and prepared first, then carried out in place.

A plan does all that does not need the value before the variable is locked. Carrying it out cannot fail half-way:
nothing is changed before the slots are known to fit and all memory is at hand.

Updates are computed in float32, for float64 variables in float64. They are pure functions of their operands: a step
that is replayed gives the same bits, with numba or without.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ps_protocol.operations import Array, VariableSpec
from ps_protocol.optimizer_rules import CATCH_UP, TF1, check_mode
from ps_server.rules.arithmetic import quiet
from ps_server.rules.optimizers import compiled_loops
from ps_server.rules.optimizers.application import LEAST_COMPILED, Application, row_number_of
from ps_server.rules.optimizers.blocks import (
    BLOCK,
    Part,
    Workspace,
    groups,
    lie_direct,
    spare_memory,
    stretches,
    workspaces,
)
from ps_server.rules.optimizers.catch_up import catch_up
from ps_server.rules.optimizers.checks import check_gradient, check_slots, check_step, compute_dtype
from ps_server.rules.optimizers.compiled_loops import LoopKey
from ps_server.rules.optimizers.constants import ELEMENTWISE_RULES, elementwise, rounded_settings
from ps_server.rules.optimizers.norm_rules import NORM_RULES, ROW_RULES
from ps_server.rules.optimizers.row_gradients import RowGradients, row_gradients
from ps_server.rules.optimizers.stochastic_rounding import BFLOAT16, Rounding
from ps_server.rules.row_rules import checked_rows


def plan_dense(
    spec: VariableSpec,
    rule: str,
    gradient: Array,
    numbers: Sequence[float],
    step: int,
    *,
    mode: str | None = None,
    rounding_key: int | None = None,
) -> Plan:
    """Prepares a step by a gradient for the whole variable.

    Args:
        spec: Of the variable.
        rule: Name of the update rule.
        gradient: The variable's shape; its dtype, or float32. Kept until the plan has been applied.
        numbers: The rule's settings in its order; NaN for what follows from the step.
        step: The count of this step, from 1.
        mode: What steps by rows do; in the mode "catch_up" all rows first get the steps that they were left out of.
        rounding_key: 64 bits, signed, that say how bfloat16 slots are rounded at random; None rounds to nearest.

    Raises:
        DTypeMismatchError: The gradient has another dtype.
        ShapeMismatchError: The gradient has another shape.
        InvalidArgumentError: The variable does not hold floats, or a setting or the step is not allowed.
    """
    dtype = compute_dtype(spec)
    check_step(spec, rule, numbers, step)
    check_gradient(spec, rule, gradient, spec.shape)
    flat = np.require(gradient, requirements=["C", "A"]).reshape(-1)
    kind = _DenseCaughtUp if mode == CATCH_UP else _Dense
    return kind(spec, rule, numbers, step, dtype, rounding_key, flat)


def plan_rows(
    spec: VariableSpec,
    rule: str,
    indices: Array,
    gradient: Array,
    numbers: Sequence[float],
    step: int,
    mode: str,
    *,
    rounding_key: int | None = None,
) -> Plan:
    """Prepares a step by gradients for some rows; those of a row are added up in their order.

    Args:
        spec: Of the variable.
        rule: Name of the update rule.
        indices: int32 or int64, any shape; rows may repeat.
        gradient: ``[*indices.shape, *spec.shape[1:]]``; otherwise as of ``plan_dense``.
        numbers: As of ``plan_dense``.
        step: As of ``plan_dense``.
        mode: What happens to the other rows: one of the rule's sparse modes.
        rounding_key: As of ``plan_dense``.

    Raises:
        DTypeMismatchError: The gradient or the indices have another dtype.
        ShapeMismatchError: The gradient has another shape.
        InvalidArgumentError: The variable does not hold floats, a row is out of range, or a setting, the step or the
            mode is not allowed.
    """
    dtype = compute_dtype(spec)
    check_step(spec, rule, numbers, step)
    check_mode(rule, mode)
    rows = checked_rows(spec, indices)
    check_gradient(spec, rule, gradient, (*indices.shape, *spec.shape[1:]))
    width = math.prod(spec.shape[1:])
    matrix = np.require(gradient.reshape(rows.size, width), dtype, ["C", "A"])
    by_row = row_gradients(rows, matrix, spec.shape[0])
    kind = _EveryRow if mode == TF1 else _GivenRows
    return kind(spec, rule, numbers, step, dtype, rounding_key, by_row, mode)


def plan_catch_up(spec: VariableSpec, rule: str, numbers: Sequence[float], step: int) -> Plan:
    """Prepares to let every row have all steps up to ``step``, so that the value can be read; mode "catch_up".

    Raises:
        InvalidArgumentError: The rule has no such mode, or a setting or the step is not allowed.
    """
    dtype = compute_dtype(spec)
    check_step(spec, rule, numbers, step)
    check_mode(rule, CATCH_UP)
    return _CaughtUp(spec, rule, numbers, step, dtype, None)


def apply_dense(
    rule: str, value: Array, slots: Sequence[Array], gradient: Array, numbers: Sequence[float], step: int
) -> None:
    """Carries out what ``plan_dense`` prepares."""
    plan_dense(_spec_of(value), rule, gradient, numbers, step).apply(value, slots)


def apply_rows(
    rule: str,
    value: Array,
    slots: Sequence[Array],
    indices: Array,
    gradient: Array,
    numbers: Sequence[float],
    step: int,
    mode: str,
) -> None:
    """Carries out what ``plan_rows`` prepares."""
    plan_rows(_spec_of(value), rule, indices, gradient, numbers, step, mode).apply(value, slots)


def _spec_of(value: Array) -> VariableSpec:
    return VariableSpec("value", value.dtype, value.shape)


class Plan:
    """A step whose operands are checked and prepared. Carried out once, on the thread that made it or another."""

    _mode: str | None = None
    _whole_gradient: Array | None = None
    """The gradient of all elements, if it is there in the dtype of the computation."""

    def __init__(
        self,
        spec: VariableSpec,
        rule: str,
        numbers: Sequence[float],
        step: int,
        dtype: np.dtype[Any],
        rounding_key: int | None,
    ):
        self._spec, self._rule, self._numbers, self._step, self._dtype = spec, rule, tuple(numbers), step, dtype
        self._rounding_key = rounding_key
        self._num_rows = spec.shape[0] if spec.shape else 1
        self._width = math.prod(spec.shape[1:])

    def set_step(self, step: int, numbers: Sequence[float]) -> None:
        """Says which step it is and what its settings are, where that is known only now.

        Raises:
            InvalidArgumentError: A setting or the step is not allowed.
        """
        check_step(self._spec, self._rule, numbers, step)
        self._step, self._numbers = step, tuple(numbers)

    def apply(self, value: Array, slots: Sequence[Array]) -> None:
        """Changes value and slots in place.

        Args:
            value: C-contiguous.
            slots: C-contiguous, in the rule's order.

        Raises:
            FailedPreconditionError: They are not what the plan was made for; nothing has been changed.
            MemoryError: There is no room for the blocks; nothing has been changed.
        """
        check_slots(self._spec, self._rule, self._numbers, self._mode, value, slots)
        if value.size:
            workspace = workspaces.get(self._dtype, self._block_length())
            quiet.run(self._apply, value, slots, workspace)

    def _apply(self, value: Array, slots: Sequence[Array], workspace: Workspace) -> None:
        application = self._application(value, slots, workspace)
        settings = rounded_settings(self._rule, self._numbers, self._step, self._dtype)
        if self._rule not in ELEMENTWISE_RULES:
            NORM_RULES[self._rule](application, settings)
            return
        one = elementwise(self._rule, settings, self._dtype, self._mode)
        loop = application.loop(one.body, 1 + len(slots), 1, len(one.constants)) if one.is_compilable else None
        if loop is not None and self._whole_gradient is not None and lie_direct((value, *slots), self._dtype):
            loop(*(each.reshape(-1) for each in (value, *slots)), self._whole_gradient, one.constants)
            return
        for part in application.parts():
            blocks = application.load(part)
            application.run(one.body, blocks, (application.gradient_of(part),), one.constants, loop)
            application.store(part, blocks)

    def _application(self, value: Array, slots: Sequence[Array], workspace: Workspace) -> Application:
        return Application(
            value,
            slots,
            self._width,
            self._parts,
            lambda part: self._gradient_of(part, workspace),
            workspace,
            self._roundings(slots),
            value.size >= LEAST_COMPILED and value.flags.aligned and all(each.flags.aligned for each in slots),
        )

    def _catch_up(self, application: Application, last: Array) -> None:
        """Gives rows the steps before this one that they were left out of."""
        for part in self._parts():
            blocks = application.load(part)
            matrices = [each.reshape(-1, self._width) for each in blocks]
            at = row_number_of(part, self._width)
            catch_up(self._rule, self._numbers, application.workspace, matrices, last[at], self._step - 1)
            application.store(part, blocks)
            last[at] = np.maximum(last[at], self._step)

    def _roundings(self, slots: Sequence[Array]) -> list[Rounding | None]:
        key, step = self._rounding_key, self._step
        return [
            Rounding(key, number, step) if key is not None and each.dtype == BFLOAT16 else None
            for number, each in enumerate(slots)
        ]

    def _block_length(self) -> int:
        return max(BLOCK, self._width) if self._rule in ROW_RULES else BLOCK

    def _stretches(self) -> Iterator[Part]:
        """All elements; by whole rows, unless a row has more elements than a block."""
        length = self._block_length()
        return stretches(self._num_rows * self._width, length // self._width * self._width or length)

    def _parts(self) -> Iterator[Part]:
        raise NotImplementedError

    def _gradient_of(self, part: Part, workspace: Workspace) -> Array:
        raise NotImplementedError


class _Dense(Plan):
    def __init__(self, *arguments: Any):
        *shared, self._gradient = arguments
        super().__init__(*shared)
        self._whole_gradient = self._gradient if self._gradient.dtype == self._dtype else None

    def _parts(self) -> Iterator[Part]:
        return self._stretches()

    def _gradient_of(self, part: Part, workspace: Workspace) -> Array:
        own = self._gradient[part.begin : part.end]
        return own if own.dtype == self._dtype else workspace.converted(own, workspace.gradient(own.size))


class _DenseCaughtUp(_Dense):
    """A dense step in the mode "catch_up"."""

    _mode = CATCH_UP

    def _block_length(self) -> int:
        return max(BLOCK, self._width)

    def _apply(self, value: Array, slots: Sequence[Array], workspace: Workspace) -> None:
        *slots, last = slots
        self._catch_up(self._application(value, slots, workspace), last)
        super()._apply(value, slots, workspace)


class _EveryRow(Plan):
    """The mode "tf1": the gradient is zero in the rows that are not given."""

    def __init__(self, *arguments: Any):
        *shared, by_row, self._mode = arguments
        super().__init__(*shared)
        self._by_row: RowGradients = by_row.ascending()

    def apply(self, value: Array, slots: Sequence[Array]) -> None:
        super().apply(value, slots)
        spare_memory.give(self._by_row.memory)

    def _parts(self) -> Iterator[Part]:
        return self._stretches()

    def _gradient_of(self, part: Part, workspace: Workspace) -> Array:
        """Spreads the sums."""
        gradient, width = workspace.gradient(part.end - part.begin), self._width
        gradient.fill(0)
        rows, sums = self._by_row.rows, self._by_row.sums
        first, last = np.searchsorted(rows, (part.begin // width, -(-part.end // width)), side="left")
        if width <= self._block_length():
            gradient.reshape(-1, width)[rows[first:last] - part.begin // width] = sums[first:last]
            return gradient
        for number in range(first, last):  # one or two rows, of which the stretch is a part
            begin = int(rows[number]) * width
            inside = slice(max(begin, part.begin) - part.begin, min(begin + width, part.end) - part.begin)
            gradient[inside] = sums[number][max(part.begin - begin, 0) : part.end - begin]
        return gradient


class _GivenRows(Plan):
    """The modes "lazy" and "catch_up": only the given rows."""

    def __init__(self, *arguments: Any):
        self._by_row: RowGradients
        *shared, self._by_row, self._mode = arguments
        super().__init__(*shared)

    def apply(self, value: Array, slots: Sequence[Array]) -> None:
        super().apply(value, slots)
        spare_memory.give(self._by_row.memory)

    def _block_length(self) -> int:
        return max(BLOCK, self._width)

    def _parts(self) -> Iterator[Part]:
        return groups(self._by_row.rows, max(1, self._block_length() // self._width))

    def _gradient_of(self, part: Part, workspace: Workspace) -> Array:  # noqa: ARG002 - others copy into it
        return self._by_row.sums[part.begin : part.end].reshape(-1)

    def _apply(self, value: Array, slots: Sequence[Array], workspace: Workspace) -> None:
        if self._mode == CATCH_UP:
            *slots, last = slots
            self._catch_up(self._application(value, slots, workspace), last)
        elif self._rule in ELEMENTWISE_RULES and self._apply_compiled(value, slots):
            return
        super()._apply(value, slots, workspace)

    def _apply_compiled(self, value: Array, slots: Sequence[Array]) -> bool:
        """Carries the step out by a loop for rows, if there is one; returns whether there was."""
        by_row = self._by_row
        if by_row.sums.size < LEAST_COMPILED or not lie_direct((value, *slots), self._dtype):
            return False
        settings = rounded_settings(self._rule, self._numbers, self._step, self._dtype)
        one = elementwise(self._rule, settings, self._dtype, self._mode)
        if not one.is_compilable:
            return False
        loop = compiled_loops.find(LoopKey(one.body, 1 + len(slots), 1, len(one.constants), self._dtype, by_rows=True))
        if loop is None:
            return False
        targets = [each.reshape(-1, self._width) for each in (value, *slots)]
        loop(*targets, by_row.sums, by_row.rows, one.constants)
        return True


class _CaughtUp(Plan):
    """No step: every row gets those that it was left out of."""

    _mode = CATCH_UP

    def _block_length(self) -> int:
        return max(BLOCK, self._width)

    def _parts(self) -> Iterator[Part]:
        return self._stretches()

    def _apply(self, value: Array, slots: Sequence[Array], workspace: Workspace) -> None:
        *slots, last = slots
        application = self._application(value, slots, workspace)
        for part in self._parts():
            blocks = application.load(part)
            at = row_number_of(part, self._width)
            matrices = [each.reshape(-1, self._width) for each in blocks]
            catch_up(self._rule, self._numbers, workspace, matrices, np.minimum(last[at], self._step), self._step)
            application.store(part, blocks)
            last[at] = np.maximum(last[at], self._step)
