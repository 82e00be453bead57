"""The base of the optimizers whose step is one rule that a ps carries out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from worker_client.graph.operation import Operation, Tensor
from worker_client.ops.constant_ops import convert_to_tensor
from worker_client.training.optimizers.apply_step import apply_op
from worker_client.training.optimizers.optimizer import Optimizer
from worker_client.values.conversion import IndexedSlices


def tensors(*settings: str, **named: str) -> Mapping[str, str]:
    """Returns the settings of a rule that are tensors of its steps, and what those are called.

    Args:
        *settings: Those whose tensors have their names.
        **named: Names of the tensors of others, which come first.
    """
    return {**named, **{each: each for each in settings}}


class RuleOptimizer(Optimizer):
    """Makes one operation for each variable: a step of a rule.

    Args:
        settings: Of the rule, by name: numbers, tensors, or functions that return one of them when the step is built.
            Those in ``tensor_names`` become tensors of the step; the others must be numbers.
        use_locking: Only noted; every step is atomic.
        name: Of the operations, and of the slots.
        has_own_scope: Whether variables that are no slots are in a name scope of that name.

    Attributes:
        rule: Name of the rule.
        tensor_names: Settings that are tensors of the step, and what those are called; see ``tensors``.
        slot_names: Names of the rule's slots, in its order.
    """

    rule: ClassVar[str]
    tensor_names: ClassVar[Mapping[str, str]]
    slot_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: Mapping[str, Any], use_locking: bool, name: str, has_own_scope: bool = False):
        super().__init__(use_locking, name, has_own_scope)
        for setting, value in settings.items():
            if isinstance(value, str | bytes):
                raise TypeError(f"{setting} of {name} is {value!r}; give a number or a tensor")
        self._settings = dict(settings)
        self._tensors: dict[str, Tensor] = {}

    @property
    def op_type(self) -> str:
        """Type of the operation behind "Apply"."""
        return "".join(word.title() for word in self.rule.split("_"))

    def _prepare(self) -> None:
        self._tensors = {
            setting: convert_to_tensor(self._call_if_callable(self._settings[setting]), name=name)
            for setting, name in self.tensor_names.items()
        }

    def _apply_dense(self, grad: Tensor, var: Any) -> Operation:
        return self._step(var, grad, None)

    def _apply_sparse(self, grad: IndexedSlices, var: Any) -> Operation:
        values: Any = grad.values
        indices: Any = grad.indices
        return self._step(var, values, indices)

    def _step(self, var: Any, gradient: Tensor, indices: Tensor | None) -> Operation:
        slots = [self.get_slot(var, name) for name in self.slot_names]
        op_type = f"{'' if indices is None else 'Sparse'}Apply{self.op_type}"
        return apply_op(
            var,
            self.rule,
            op_type,
            [slot for slot in slots if slot is not None],
            {**self._tensors, **{name: each for name, each in self._settings.items() if name not in self._tensors}},
            gradient,
            indices,
            use_locking=self._use_locking,
        )
