"""Steps of optimizers on a variable and its slots: checked and prepared first, then carried out in place.

A plan does all that does not need the value before the variable is locked. Carrying it out cannot fail half-way:
nothing is changed before the slots are known to fit and all memory is at hand.

Updates are computed in float32, for float64 variables in float64. They are pure functions of their operands: a step
that is replayed gives the same bits, with numba or without. Steps by rows are in ``row_plans``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ps_protocol.errors import InvalidArgumentError, ShardscopeError
from ps_protocol.operations import Array, VariableSpec, Verdict
from ps_protocol.optimizer_rules import CATCH_UP, check_mode
from ps_server.rules.arithmetic import quiet
from ps_server.rules.optimizers import compiled_loops
from ps_server.rules.optimizers.application import Application, row_number_of, run_by_numpy
from ps_server.rules.optimizers.blocks import BLOCK, Part, Workspace, lie_direct, stretches, workspaces
from ps_server.rules.optimizers.bound_rule import BoundRule
from ps_server.rules.optimizers.catch_up import CatchUp
from ps_server.rules.optimizers.checks import Settings, check_gradient, check_slots, check_value, checked_settings
from ps_server.rules.optimizers.constants import Elementwise, elementwise_step, rounded_settings
from ps_server.rules.optimizers.norm_rules import NORM_RULES
from ps_server.rules.optimizers.stochastic_rounding import BFLOAT16, Rounding


def plan_dense(rule: BoundRule, gradient: Array, settings: Settings) -> Plan:
    """Prepares a step by a gradient for the whole variable.

    In the mode "catch_up" all rows first get the steps that they were left out of.

    Args:
        rule: With its variable.
        gradient: The variable's shape; its dtype, or float32. Kept until the plan has been carried out.
        settings: Of the rule.

    Raises:
        DTypeMismatchError: The gradient has another dtype.
        ShapeMismatchError: The gradient has another shape.
    """
    check_gradient(rule.spec, rule.name, gradient, rule.spec.shape)
    flags = gradient.flags
    if not (flags.c_contiguous and flags.aligned):
        gradient = np.require(gradient, requirements=["C", "A"])
    return (_DenseCaughtUp if rule.mode == CATCH_UP else _Dense)(rule, settings, gradient)


def plan_catch_up(rule: BoundRule, settings: Settings) -> Plan:
    """Prepares to let every row have all steps so far, so that the value can be read; mode "catch_up".

    Raises:
        InvalidArgumentError: The rule has no such mode.
    """
    check_mode(rule.name, CATCH_UP)
    return _CaughtUp(rule, settings)


def apply_dense(
    rule: str,
    value: Array,
    slots: Sequence[Array],
    gradient: Array,
    numbers: Sequence[float],
    step: int,
    mode: str | None = None,
    rounding_key: int | None = None,
) -> None:
    """Carries out what ``plan_dense`` prepares."""
    bound = BoundRule(rule, VariableSpec("value", value.dtype, value.shape), mode, rounding_key)
    plan = plan_dense(bound, gradient, checked_settings(rule, tuple(numbers), mode))
    plan.check(value, slots, step)
    plan.apply(value, slots, step)


class Plan:
    """A step whose operands are checked and prepared. Carried out once, on the thread that made it or another.

    Args:
        rule: With its variable.
        settings: Of the rule.

    Attributes:
        settings: As above. Where they follow from the step, they may be replaced by others with the same slots.
        verdict: What becomes of the step; APPLIED unless somebody says something else.
        refusal: The error of a step that is refused; as above.
        num_read: No slot is only read.
    """

    verdict: Verdict = Verdict.APPLIED
    refusal: ShardscopeError | None = None
    num_read: int = 0
    _is_for_rows = False

    def __init__(self, rule: BoundRule, settings: Settings):
        self._rule, self.settings = rule, settings

    def check(self, value: Array, slots: Sequence[Array], step: int) -> None:
        """Makes sure that ``apply`` can do its work.

        Raises:
            FailedPreconditionError: Value or slots are not what the plan was made for.
            InvalidArgumentError: The step is not counted from 1.
        """
        spec = self._rule.spec
        check_value(spec, value)
        check_slots(spec, self._rule.name, self.settings.slots, slots)
        if step < 1:
            raise InvalidArgumentError(f"step {step} of variable {spec}: steps are counted from 1", variable=spec.name)

    def apply(self, value: Array, slots: Sequence[Array], step: int) -> None:
        """Changes value and slots in place.

        Args:
            value: In C order.
            slots: In C order, each, and in the rule's order.
            step: The count of this step, from 1; 0 if nothing counts them, for the first.

        Raises:
            MemoryError: There is no room for the blocks; nothing has been changed.
        """
        if value.size:
            quiet.run(self._run, value, slots, step or 1)

    def _run(self, value: Array, slots: Sequence[Array], step: int) -> None:
        rule = self._rule
        application = self._application(value, slots, step)
        if not rule.is_elementwise:
            NORM_RULES[rule.name](application, rounded_settings(rule.name, self.settings.numbers, step, rule.dtype))
            return
        one = self._elementwise(step)
        loop = application.loop(one.loop)
        for part in application.parts():
            blocks = application.load(part)
            application.run(one.body, blocks, (application.gradient_of(part),), one.constants, loop)
            application.store(part, blocks)

    def _elementwise(self, step: int) -> Elementwise:
        rule, settings = self._rule, self.settings
        mode = rule.mode if self._is_for_rows else None
        return elementwise_step(rule.name, settings.numbers, step if settings.follow_step else 1, rule.dtype, mode)

    def _application(self, value: Array, slots: Sequence[Array], step: int) -> Application:
        workspace = workspaces.get(self._rule.dtype, self._block_length())
        roundings = self._roundings(slots, step)
        if any(roundings):
            workspace.rounding()
        if not self._rule.is_elementwise:
            workspace.doubles()
        return Application(
            value,
            slots,
            self._rule.width,
            self._parts,
            lambda part: self._gradient_of(part, workspace),
            workspace,
            roundings,
            value.flags.aligned and all(each.flags.aligned for each in slots),
        )

    def _catch_up(self, application: Application, last: Array, step: int, counted: int) -> None:
        """Gives rows the steps up to ``step`` that they were left out of, and notes that they have had ``counted``."""
        width = self._rule.width
        most_rows = min(self._rule.num_rows, self._block_length() // width)
        one = CatchUp(self._rule.name, self.settings.numbers, application.workspace, most_rows, width)
        for part in self._parts():  # from here on no memory is taken
            blocks = application.load(part)
            at = row_number_of(part, width)
            own = one.last[: blocks[0].size // width]
            if part.rows is None:
                np.copyto(own, last[at])
            else:
                np.take(last, part.rows, out=own, mode="clip")
            one.run([each.reshape(-1, width) for each in blocks], own, step)
            application.store(part, blocks)
            last[at] = np.maximum(own, counted, out=own)
        one.close()

    def _roundings(self, slots: Sequence[Array], step: int) -> list[Rounding | None]:
        key = self._rule.rounding_key
        return [
            Rounding(key, number, step) if key is not None and each.dtype == BFLOAT16 else None
            for number, each in enumerate(slots)
        ]

    def _block_length(self) -> int:
        return self._rule.block_length

    def _stretches(self) -> Iterator[Part]:
        """All elements; by whole rows, unless a row has more elements than a block."""
        length, width = self._block_length(), self._rule.width
        return stretches(self._rule.num_rows * width, length // width * width or length)

    def _parts(self) -> Iterator[Part]:
        raise NotImplementedError

    def _gradient_of(self, part: Part, workspace: Workspace) -> Array:
        raise NotImplementedError


class _Dense(Plan):
    def __init__(self, rule: BoundRule, settings: Settings, gradient: Array):
        self._rule, self.settings, self._gradient = rule, settings, gradient

    def _run(self, value: Array, slots: Sequence[Array], step: int) -> None:
        """Changes all where it lies, by one loop or as one block, if that is possible."""
        dtype, gradient, targets = self._rule.dtype, self._gradient, (value, *slots)
        if self._rule.is_elementwise and gradient.dtype == dtype and lie_direct(targets, dtype):
            one = self._elementwise(step)
            loop = None if one.loop is None else compiled_loops.find(one.loop)
            if loop is not None:
                loop(*[each.reshape(-1) for each in targets], gradient.reshape(-1), one.constants)
                return
            if value.size <= BLOCK:
                run_by_numpy(workspaces.get(dtype, BLOCK), one.body, targets, (gradient,), one.constants)
                return
        super()._run(value, slots, step)

    def _parts(self) -> Iterator[Part]:
        return self._stretches()

    def _gradient_of(self, part: Part, workspace: Workspace) -> Array:
        own = self._gradient.reshape(-1)[part.begin : part.end]
        return own if own.dtype == workspace.dtype else workspace.converted(own, workspace.gradient(own.size))


class _DenseCaughtUp(_Dense):
    """A dense step in the mode "catch_up"."""

    def _block_length(self) -> int:
        return max(BLOCK, self._rule.width)

    def _run(self, value: Array, slots: Sequence[Array], step: int) -> None:
        *slots, last = slots
        self._catch_up(self._application(value, slots, step), last, step - 1, step)
        super()._run(value, slots, step)


class _CaughtUp(Plan):
    """No step: every row gets those that it was left out of."""

    def _block_length(self) -> int:
        return max(BLOCK, self._rule.width)

    def _parts(self) -> Iterator[Part]:
        return self._stretches()

    def _run(self, value: Array, slots: Sequence[Array], step: int) -> None:
        *slots, last = slots
        self._catch_up(self._application(value, slots, step), last, step, step)
