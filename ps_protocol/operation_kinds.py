"""All about each kind of operation, apart from its encoding and from what a ps does with it: the table of kinds."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar, cast

from ps_protocol.dtype_traits import PLURALS, dtype_category
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.initializer_spec import ValueKind
from ps_protocol.operations import (
    Apply,
    Array,
    CountUpTo,
    Declare,
    Describe,
    Gather,
    Initialize,
    PsOperation,
    Read,
    Reduce,
    Replace,
    Scatter,
    Update,
    VariableSpec,
)
from ps_protocol.optimizer_rules import RULES
from ps_protocol.shared_objects import MAX_OBJECT_BYTES, MAX_SHORT_ANSWER_BYTES, Act, Look
from ps_protocol.training.round_operations import GROUP_KIND, STAMP_KIND, Commit, Stage

MAX_REDUCED_BYTES: Final = 1024 * 1024
"""The most bytes that a ``Reduce`` returns."""

_MOST_GROWTH: Final = 2
_MOST_EVENTS_BYTES: Final = 64 * 1024
"""What a group may grow by while it is asked."""

_Operation = TypeVar("_Operation", bound=PsOperation)


class Logged(enum.Enum):
    """How an operation of a batch that mutates is written down, to be carried out again after a crash."""

    AS_ITSELF = enum.auto()
    """In the record of its batch."""
    BEFORE_ITS_BATCH = enum.auto()
    """In a record of its own: it declares a variable or gives it its first value, which is safe to repeat."""
    AS_A_LOOK = enum.auto()
    """In the record of its batch a ``Describe`` stands for it: there is nothing to carry out again."""


def _no_tensors(_operation: PsOperation) -> tuple[Array, ...]:
    return ()


def _no_operand(_operation: PsOperation) -> None:
    return None


def _unchanged(operation: PsOperation, _tensors: Sequence[Array]) -> PsOperation:
    return operation


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationKind:
    """All about a kind of operation, apart from its encoding and from what a ps does with it.

    Attributes:
        logged: How it is written down.
        may_merge: Whether it may share a batch with what others have submitted: it waits for nothing, and its reply is
            small.
        tensors: Returns the tensors that it carries, in the order in which they travel.
        with_tensors: Returns an operation with other tensors in their place, which travel exactly.
        operand: Returns the tensor that is only computed with, if there is one: should its elements change later, no
            more than this update is spoiled, whatever they were when they were looked at.
        reply_bytes: Returns the most bytes of the tensor in its reply, on a variable of that spec. None if there is no
            tensor.
        others: Returns the names of the variables that it works on besides the one that it is about.
    """

    logged: Logged
    may_merge: bool = False
    tensors: Callable[[Any], tuple[Array, ...]] = _no_tensors
    with_tensors: Callable[[Any, Sequence[Array]], PsOperation] = _unchanged
    operand: Callable[[Any], Array | None] = _no_operand
    reply_bytes: Callable[[Any, VariableSpec], int] | None = None
    others: Callable[[Any], tuple[str, ...]] | None = None


def _initial_value(operation: Declare | Initialize) -> tuple[Array, ...]:
    kind = None if operation.initializer is None else operation.initializer.kind
    return (kind.array,) if isinstance(kind, ValueKind) else ()


def _with_initial_value(operation: Declare | Initialize, tensors: Sequence[Array]) -> PsOperation:
    if operation.initializer is None or not tensors:
        return operation
    return replace(operation, initializer=replace(operation.initializer, kind=ValueKind(tensors[0])))


def _tensors_of_apply(apply: Apply) -> tuple[Array, ...]:
    """Numbers that are not there need not travel."""
    return (*apply.operands, apply.numbers) if apply.numbers.size else apply.operands


def _gradient_of_apply(apply: Apply) -> Array | None:
    """Of an optimizer's step; what a function of a team does with its operands nobody knows."""
    return apply.operands[-1] if apply.function in RULES and apply.operands else None


def _apply_with_tensors(apply: Apply, tensors: Sequence[Array]) -> Apply:
    num_operands = len(apply.operands)
    numbers = tensors[num_operands] if len(tensors) > num_operands else apply.numbers
    return Apply(apply.name, apply.function, apply.slots, apply.state, tuple(tensors[:num_operands]), numbers)


def _rows_bytes(operation: Gather, spec: VariableSpec) -> int:
    if not spec.shape:
        return 0
    return operation.indices.size * math.prod(spec.shape[operation.index_depth :]) * spec.dtype.itemsize


def _answer_bytes(act: Act, spec: VariableSpec) -> int:
    """An object that holds tensors answers with no more than it holds, and JSON."""
    if act.kind == GROUP_KIND:
        return _group_answer_bytes(spec)
    return MAX_SHORT_ANSWER_BYTES if act.tensors else max(MAX_OBJECT_BYTES, spec.size_bytes)


def _look_bytes(look: Look, spec: VariableSpec) -> int:
    if look.kind == STAMP_KIND:
        return 0
    return _group_answer_bytes(spec) if look.kind == GROUP_KIND else MAX_OBJECT_BYTES


def _group_answer_bytes(spec: VariableSpec) -> int:
    """A group says what it holds, or less; a message has room for that twice and for what is read behind it."""
    return min(MAX_OBJECT_BYTES, _MOST_GROWTH * spec.size_bytes + _MOST_EVENTS_BYTES)


KINDS: Final[dict[type[Any], OperationKind]] = {
    Update: OperationKind(
        logged=Logged.AS_ITSELF,
        may_merge=True,
        tensors=lambda update: (update.value,),
        with_tensors=lambda update, tensors: Update(update.name, update.rule, tensors[0]),
        operand=lambda update: update.value,
    ),
    Replace: OperationKind(
        logged=Logged.AS_ITSELF,
        may_merge=True,
        tensors=lambda replace: (replace.value,),
        with_tensors=lambda replace, tensors: Replace(replace.name, tensors[0], replace.keeps_shape),
    ),
    Scatter: OperationKind(
        logged=Logged.AS_ITSELF,
        may_merge=True,
        tensors=lambda scatter: (scatter.indices, scatter.updates),
        with_tensors=lambda scatter, tensors: Scatter(
            scatter.name, scatter.rule, tensors[0], tensors[1], scatter.index_depth
        ),
        operand=lambda scatter: scatter.updates,
    ),
    CountUpTo: OperationKind(logged=Logged.AS_ITSELF, reply_bytes=lambda _count_up_to, spec: spec.size_bytes),
    Apply: OperationKind(
        logged=Logged.AS_ITSELF,
        may_merge=True,
        tensors=_tensors_of_apply,
        with_tensors=_apply_with_tensors,
        operand=_gradient_of_apply,
        others=lambda apply: (*apply.slots, apply.state) if apply.state else apply.slots,
    ),
    Declare: OperationKind(logged=Logged.BEFORE_ITS_BATCH, tensors=_initial_value, with_tensors=_with_initial_value),
    Initialize: OperationKind(logged=Logged.BEFORE_ITS_BATCH, tensors=_initial_value, with_tensors=_with_initial_value),
    Read: OperationKind(logged=Logged.AS_A_LOOK, reply_bytes=lambda _read, spec: spec.size_bytes),
    Gather: OperationKind(
        logged=Logged.AS_A_LOOK,
        tensors=lambda gather: (gather.indices,),
        with_tensors=lambda gather, tensors: Gather(
            gather.name, tensors[0], gather.index_depth, gather.wire, gather.out
        ),
        reply_bytes=_rows_bytes,
    ),
    Reduce: OperationKind(
        logged=Logged.AS_A_LOOK,
        tensors=lambda reduce: (*reduce.operands, reduce.numbers),
        with_tensors=lambda reduce, tensors: Reduce(reduce.name, reduce.function, tuple(tensors[:-1]), tensors[-1]),
        reply_bytes=lambda _reduce, _spec: MAX_REDUCED_BYTES,
    ),
    Act: OperationKind(
        logged=Logged.AS_ITSELF,
        tensors=lambda act: (act.event, *act.tensors),
        with_tensors=lambda act, tensors: Act(act.name, act.kind, tensors[0], tuple(tensors[1:])),
        operand=lambda act: act.tensors[-1] if act.tensors else None,
        reply_bytes=_answer_bytes,
    ),
    Look: OperationKind(
        logged=Logged.AS_A_LOOK,
        tensors=lambda look: (look.question,),
        with_tensors=lambda look, tensors: Look(look.name, look.kind, tensors[0], look.wait_s),
        reply_bytes=_look_bytes,
    ),
    Stage: OperationKind(
        logged=Logged.AS_ITSELF,
        tensors=lambda stage: stage.tensors,
        with_tensors=lambda stage, tensors: stage.with_tensors(tensors),
        others=lambda stage: stage.others,
    ),
    Commit: OperationKind(logged=Logged.AS_ITSELF, others=lambda commit: commit.others),
    Describe: OperationKind(logged=Logged.AS_A_LOOK),
}
"""A row for each kind. Its messages are in ``operation_codec``, what a ps does with it in ``batch_handlers``."""


def names_of(operations: Iterable[PsOperation]) -> set[str]:
    """Names of all variables that operations work on."""
    names = set()
    for operation in operations:
        names.add(operation.name)
        others = KINDS[type(operation)].others
        if others is not None:
            names.update(others(operation))
    return names


def tensors_of(operation: PsOperation) -> tuple[Array, ...]:
    """The tensors that an operation carries, in the order in which they travel."""
    return KINDS[type(operation)].tensors(operation)


def tensor_bytes(operations: Iterable[PsOperation]) -> int:
    """Size of the tensors that operations carry."""
    size_bytes = 0
    for operation in operations:
        for tensor in KINDS[type(operation)].tensors(operation):
            size_bytes += tensor.nbytes
    return size_bytes


def map_tensors(operation: _Operation, change: Callable[[Array], Array]) -> _Operation:
    """Returns an operation with its tensors changed, which then travel exactly; itself if it carries none."""
    kind = KINDS[type(operation)]
    tensors = kind.tensors(operation)
    return cast(_Operation, kind.with_tensors(operation, [change(each) for each in tensors])) if tensors else operation


def reply_bytes(operation: PsOperation, spec: VariableSpec) -> int:
    """Most bytes of the tensor in the reply to an operation on a variable of that spec.

    A read with ``unless_version`` may be answered without a tensor.
    """
    size = KINDS[type(operation)].reply_bytes
    return 0 if size is None else size(operation, spec)


def not_computable(spec: VariableSpec, operation: str) -> InvalidArgumentError:
    """The error for arithmetic on something that is not a number, or for ordering complex numbers."""
    return InvalidArgumentError(
        f"variable {spec} holds {PLURALS[dtype_category(spec.dtype)]}, for which there is no {operation}; "
        f"use assign or scatter_update",
        variable=spec.name,
    )
