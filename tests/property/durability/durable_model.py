"""What a ps task's state is to be after any number of crashes, in the plainest way: dictionaries and whole copies.

The model says which records every call appends. So the position that a task comes back with says how much of the last,
unanswered call has survived, and the model follows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias
from uuid import UUID

import numpy as np
import numpy.typing as npt

from ps_protocol.initializer_spec import InitializerSpec, ValueKind
from ps_protocol.operation_kinds import names_of
from ps_protocol.operations import (
    Apply,
    BatchReply,
    CountUpTo,
    Declare,
    Describe,
    Initialize,
    PsOperation,
    Read,
    Replace,
    Reply,
    Result,
    Scatter,
    ScatterRule,
    Update,
    UpdateRule,
    VariableSpec,
    Verdict,
)

REMEMBERED: Final = 4
"""Answers that the ledger keeps for each client."""

Answer: TypeAlias = tuple[tuple[Any, ...], ...]
"""Replies in a form that can be compared; of an error, its type."""

Values: TypeAlias = npt.NDArray[Any]


@dataclass
class ModelVariable:
    """One variable; ``spec`` is as it was declared."""

    spec: VariableSpec
    value: Values | None
    version: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the value, which a replacement may have changed."""
        return self.spec.shape if self.value is None else self.value.shape

    @property
    def layout(self) -> VariableSpec:
        """The spec with that shape, which is what a task tells about the variable."""
        return replace(self.spec, shape=self.shape)

    def assign(self, value: Values) -> tuple[Any, ...]:
        self.value = value
        self.version += 1
        return ("result", self.version, True, None, None)


@dataclass
class ModelClient:
    """What the ledger is to remember of a client."""

    newest: int = 0
    answers: dict[int, Answer] = field(default_factory=dict)

    def remember(self, sequence: int, answer: Answer) -> None:
        self.newest = sequence
        self.answers[sequence] = answer
        if len(self.answers) > REMEMBERED:
            del self.answers[min(self.answers)]


class Model:
    """The whole state. ``position`` counts the records that brought it about."""

    def __init__(self) -> None:
        self.position = 0
        self.variables: dict[str, ModelVariable] = {}
        self.clients: dict[UUID, ModelClient] = {}
        self.departed: set[UUID] = set()
        self.placements: dict[str, int] = {}

    def apply(self, client: UUID, sequence: int, operations: tuple[PsOperation, ...], *, up_to: int = 2**63) -> Answer:
        """Carries out a batch that is new; of its records, only those that are not beyond position ``up_to``."""
        settled = [self._settle(operation, up_to) for operation in operations]
        if self.position >= up_to:
            return ()
        answer = tuple(
            self._run(operation) if each is None else each for operation, each in zip(operations, settled, strict=True)
        )
        self.position += 1
        self.clients[client].remember(sequence, answer)
        return answer

    def _settle(self, operation: PsOperation, up_to: int) -> tuple[Any, ...] | None:
        """Carries out a declaration; None for what is to be carried out later, under the locks of the batch."""
        variable = self.variables.get(operation.name)
        match operation:
            case Declare(spec=spec, initializer=initializer):
                return self._declare(variable, spec, initializer, up_to)
            case Initialize() if variable is None:
                return ("error", "NotFoundError")
            case Initialize(overwrite=True) if variable is not None and variable.value is not None:
                return None
            case Initialize(initializer=initializer) if variable is not None:
                self._give_first_value(variable, initializer, up_to)
                return ("result", variable.version, True, None, None)
            case _:
                missing = not self.variables.keys() >= names_of((operation,))
                return ("error", "NotFoundError") if missing else None

    def _declare(
        self, variable: ModelVariable | None, spec: VariableSpec, initializer: InitializerSpec | None, up_to: int
    ) -> tuple[Any, ...]:
        if variable is None:
            if self.position < up_to:
                self.position += 1
                variable = ModelVariable(spec, None if initializer is None else value_of(initializer))
                self.variables[spec.name] = variable
                return ("result", 0, initializer is not None, None, spec)
            return ()
        if variable.spec != spec:
            return ("error", "ShapeMismatchError")
        if initializer is not None:
            self._give_first_value(variable, initializer, up_to)
        return ("result", variable.version, variable.value is not None, None, variable.layout)

    def _give_first_value(self, variable: ModelVariable, initializer: InitializerSpec, up_to: int) -> None:
        if variable.value is None and self.position < up_to:
            self.position += 1
            variable.value = value_of(initializer)

    def _run(self, operation: PsOperation) -> tuple[Any, ...]:
        variable = self.variables[operation.name]
        match operation:
            case Apply():
                return self._step(variable, operation)
            case Describe():
                return ("result", variable.version, variable.value is not None, None, variable.layout)
            case Initialize(initializer=initializer):
                return variable.assign(value_of(initializer))
            case Replace(value=value, keeps_shape=keeps_shape):
                if keeps_shape and value.shape != variable.shape:
                    return ("error", "ShapeMismatchError")
                return variable.assign(value.copy())
            case Update(rule=UpdateRule.ASSIGN, value=value):
                if value.shape != variable.shape:
                    return ("error", "ShapeMismatchError")
                return variable.assign(value.copy())
        if variable.value is None:
            return ("error", "FailedPreconditionError")
        match operation:
            case Read():
                return ("result", variable.version, True, _key(variable.value), None)
            case Update(value=value):
                if value.shape not in ((), variable.shape):
                    return ("error", "ShapeMismatchError")
                return variable.assign(variable.value + value)
            case CountUpTo(limit=limit):
                before = variable.value
                if before.shape:
                    return ("error", "ShapeMismatchError")
                if int(before) >= limit:
                    return ("error", "OutOfRangeError")
                variable.assign(before + 1)
                return ("result", variable.version, True, _key(before), None)
            case Scatter(rule=rule, indices=indices, updates=updates):
                if not variable.shape or int(indices.max()) >= variable.shape[0]:
                    return ("error", "InvalidArgumentError")
                if updates.shape[1:] != variable.shape[1:]:
                    return ("error", "ShapeMismatchError")
                changed = variable.value.copy()
                if rule is ScatterRule.ADD:
                    np.add.at(changed, indices, updates)
                else:
                    for row, update in zip(indices, updates, strict=True):
                        changed[row] = update
                return variable.assign(changed)
        raise AssertionError(operation)

    def _step(self, variable: ModelVariable, operation: Apply) -> tuple[Any, ...]:
        slots, count = [self.variables[name] for name in operation.slots], self.variables[operation.state]
        *rows, gradient = operation.operands
        optimizer = count.spec.optimizer
        if optimizer is None or count.shape or optimizer.function != operation.function:
            return ("error", "FailedPreconditionError")
        if variable in slots:
            return ("error", "InvalidArgumentError")
        if rows and (not variable.shape or (rows[0].size and int(rows[0].max()) >= variable.shape[0])):
            return ("error", "InvalidArgumentError")
        if gradient.dtype != variable.spec.dtype:
            return ("error", "DTypeMismatchError")
        if gradient.shape != ((*rows[0].shape, *variable.shape[1:]) if rows else variable.shape):
            return ("error", "ShapeMismatchError")
        if variable.value is None or any(slot.value is None for slot in slots):
            return ("error", "FailedPreconditionError")
        if not np.isfinite(gradient).all():
            return ("skipped", variable.version, True, None, None)
        if count.value is None or count.value < 0 or [slot.shape for slot in slots] != [variable.shape]:
            return ("error", "FailedPreconditionError")
        (momentum,) = slots
        assert momentum.value is not None
        declared_rate, decay, _ = optimizer.numbers
        rate = declared_rate if np.isnan(operation.numbers[0]) else operation.numbers[0]
        total = gradient
        if rows:
            total = np.zeros(variable.shape)
            np.add.at(total, rows[0], gradient)
        given = np.isin(np.arange(len(total)), rows[0]) if rows else ...
        new_momentum, new_value = momentum.value.copy(), variable.value.copy()
        new_momentum[given] = (decay * momentum.value + total)[given]
        new_value[given] -= (rate * new_momentum)[given]
        momentum.assign(new_momentum)
        count.assign(count.value + 1)
        return variable.assign(new_value)


def value_of(initializer: InitializerSpec) -> Values:
    """The array that an initializer carries."""
    assert isinstance(initializer.kind, ValueKind)
    return initializer.kind.array.copy()


def comparable(reply: BatchReply) -> Answer:
    """What a task has answered, in the form in which the model answers."""
    return tuple(_comparable(each) for each in reply.replies)


def _comparable(reply: Reply) -> tuple[Any, ...]:
    if not isinstance(reply, Result):
        return ("error", type(reply).__name__)
    tensor = None if reply.tensor is None else _key(reply.tensor)
    word = "skipped" if reply.verdict is Verdict.SKIPPED else "result"
    return (word, reply.version, reply.initialized, tensor, reply.spec)


def _key(array: Values) -> tuple[str, tuple[int, ...], bytes]:
    return (array.dtype.name, array.shape, array.tobytes())
