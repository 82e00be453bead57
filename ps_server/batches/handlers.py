"""What a ps does with each kind of operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ps_protocol.operations import (
    Apply,
    CountUpTo,
    Declare,
    Describe,
    Gather,
    Initialize,
    Read,
    Reduce,
    Replace,
    Result,
    Scatter,
    Update,
)
from ps_protocol.shared_objects import Act, Look
from ps_protocol.training.round_operations import STAMP_KIND, Commit, Stage
from ps_server.store.function_calls import FunctionCalls
from ps_server.store.object_calls import ObjectCalls
from ps_server.store.round_calls import RoundCalls
from ps_server.store.variable_store import VariableStore


@dataclass(frozen=True, slots=True)
class Resources:
    """What handlers work with.

    Attributes:
        store: Holds the variables.
        functions: Calls named functions on them.
        objects: Has things happen to those that are shared objects.
        rounds: Keeps gradients for them, and carries them out.
        clock: Monotonic seconds.
    """

    store: VariableStore
    functions: FunctionCalls
    objects: ObjectCalls
    rounds: RoundCalls
    clock: Callable[[], float]


Handler: TypeAlias = Callable[[Resources, Any, float, bool, bool], Result]
"""Carries out an operation.

Its arguments are the operation, when to stop waiting for other work, whether the tensor that it returns may be a view
of a value (``VariableStore.read``), and whether arrays in the operation may be kept (``VariableStore.update``). They
are positional: calls and their arguments are most of the cost of a small operation.
"""


def _update(ps: Resources, operation: Update, _deadline_s: float, _lend: bool, take: bool) -> Result:
    return ps.store.update(operation, take=take)


def _replace(ps: Resources, operation: Replace, _deadline_s: float, _lend: bool, take: bool) -> Result:
    return ps.store.replace(operation, take=take)


def _read(ps: Resources, operation: Read, _deadline_s: float, lend: bool, _take: bool) -> Result:
    return ps.store.read(operation, lend=lend)


def _scatter(ps: Resources, operation: Scatter, _deadline_s: float, _lend: bool, _take: bool) -> Result:
    return ps.store.scatter(operation)


def _gather(ps: Resources, operation: Gather, _deadline_s: float, _lend: bool, _take: bool) -> Result:
    return ps.store.gather(operation)


def _count_up_to(ps: Resources, operation: CountUpTo, _deadline_s: float, _lend: bool, _take: bool) -> Result:
    return ps.store.count_up_to(operation)


def _apply(ps: Resources, operation: Apply, _deadline_s: float, _lend: bool, _take: bool) -> Result:
    return ps.functions.apply(operation)


def _reduce(ps: Resources, operation: Reduce, _deadline_s: float, _lend: bool, _take: bool) -> Result:
    return ps.functions.reduce(operation)


def _act(ps: Resources, operation: Act, _deadline_s: float, _lend: bool, _take: bool) -> Result:
    return ps.objects.act(operation)


def _look(ps: Resources, operation: Look, _deadline_s: float, _lend: bool, _take: bool) -> Result:
    return ps.rounds.look(operation) if operation.kind == STAMP_KIND else ps.objects.look(operation)


def _stage(ps: Resources, operation: Stage, _deadline_s: float, _lend: bool, _take: bool) -> Result:
    return ps.rounds.stage(operation)


def _commit(ps: Resources, operation: Commit, _deadline_s: float, _lend: bool, _take: bool) -> Result:
    return ps.rounds.commit(operation)


def _describe(ps: Resources, operation: Describe, _deadline_s: float, _lend: bool, _take: bool) -> Result:
    return ps.store.describe(operation)


def _declare(ps: Resources, operation: Declare, deadline_s: float, _lend: bool, take: bool) -> Result:
    return ps.store.declare(operation, deadline_s - ps.clock(), take=take)


def _initialize(ps: Resources, operation: Initialize, deadline_s: float, _lend: bool, take: bool) -> Result:
    return ps.store.initialize(operation, deadline_s - ps.clock(), take=take)


HANDLERS: Final[dict[type[Any], Handler]] = {
    Update: _update,
    Replace: _replace,
    Read: _read,
    Scatter: _scatter,
    Gather: _gather,
    CountUpTo: _count_up_to,
    Apply: _apply,
    Reduce: _reduce,
    Act: _act,
    Look: _look,
    Stage: _stage,
    Commit: _commit,
    Describe: _describe,
    Declare: _declare,
    Initialize: _initialize,
}
