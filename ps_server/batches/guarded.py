"""Batches whose first operation guards the rest of them.

- An event of a shared object which guards its batch: all updates of that count, or none does. The updates of a data
  shard come so. They are looked at first: one that would be refused has the whole batch refused. Then the event
  happens, and if the object lets them pass, they are carried out. The updates of a synchronous step come so too, but
  are not looked at first.
- Such an event with the hand-in of a gradient for a round behind it, and maybe its staging between: a piece of a shard
  that counts when the round does. All of these happen or none does, also if the group does not take the gradient.
- A gradient that is staged, with its hand-in behind it: what was not staged is not handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from ps_protocol.errors import AbortedError, InvalidArgumentError, ShardscopeError
from ps_protocol.operation_kinds import names_of
from ps_protocol.operations import Apply, PsOperation, Reply, Scatter, Update, mutates
from ps_protocol.shared_objects import Act
from ps_protocol.training.round_operations import Stage
from ps_server.batches.handlers import Resources

_CHECKS: Final[dict[type[Any], Callable[[Resources, Any], None]]] = {
    Apply: lambda ps, operation: ps.functions.check(operation),
    Scatter: lambda ps, operation: ps.store.check(operation),
    Update: lambda ps, operation: ps.store.check(operation),
}


def is_guarded(ps: Resources, operations: Sequence[PsOperation]) -> bool:
    """Whether a batch begins with what guards the rest of it."""
    first = operations[0] if len(operations) > 1 else None
    if isinstance(first, Stage):
        return any(isinstance(each, Act) for each in operations)
    return isinstance(first, Act) and ps.objects.guards(first)


def guarded_replies(
    ps: Resources, operations: Sequence[PsOperation], carry_out: Callable[[PsOperation], Reply]
) -> list[Reply]:
    """Carries out a guarded batch, which others see whole or not at all.

    Args:
        ps: The task.
        operations: The first one is the guard.
        carry_out: Carries out one of them.
    """
    guard, *rest = operations
    with ps.store.variables.locked(names_of(operations)):
        if isinstance(guard, Act) and isinstance(rest[-1], Act) and ps.objects.stands_behind_guards(rest[-1]):
            return _handed_in(ps, operations, rest[-1], carry_out)
        refusal: Reply | None = None
        for each in rest if isinstance(guard, Act) and ps.objects.checks_first(guard) else ():
            if refusal is None and mutates((each,)):
                refusal = _refusal(ps, each)
        reply = refusal if refusal is not None else carry_out(guard)
        if isinstance(reply, ShardscopeError):
            refusal = reply
        elif isinstance(guard, Act) and not ps.objects.passes(guard, reply):
            refusal = AbortedError("it has been applied before; nothing was changed", retryable=False)
        replies = [reply]
        for each in rest:
            is_refused = refusal is not None and mutates((each,))
            replies.append(refusal if refusal is not None and is_refused else carry_out(each))
    return replies


def _handed_in(
    ps: Resources, operations: Sequence[PsOperation], hand_in: Act, carry_out: Callable[[PsOperation], Reply]
) -> list[Reply]:
    """With all locks held: hands in a gradient that completes a piece of a shard. The piece is noted before that."""
    others = [each for each in operations[1:-1] if not isinstance(each, Stage)]
    if others:
        refusal = InvalidArgumentError(
            f"{type(others[0]).__name__} of variable {others[0].name} cannot go with a gradient that completes a shard "
            f"in a round; nothing was changed",
            variable=others[0].name,
        )
        return [refusal] * len(operations)
    guard = operations[0]
    assert isinstance(guard, Act)
    before = ps.objects.kept(guard)
    replies = [carry_out(guard)]
    failure: ShardscopeError | None = None
    if isinstance(replies[0], ShardscopeError):
        failure = replies[0]
    elif not ps.objects.passes(guard, replies[0]):
        failure = AbortedError("it has been handed in before; nothing was changed", retryable=False)
    for each in operations[1:]:
        reply = failure if failure is not None else carry_out(each)
        failure = reply if isinstance(reply, ShardscopeError) else None
        replies.append(reply)
    if failure is None and ps.objects.takes(hand_in, replies[-1]):
        return replies
    if not isinstance(replies[0], ShardscopeError) and ps.objects.put_back(before):
        # It has changed nothing, so it counts as refused: a log does not repeat it.
        replies[0] = failure or AbortedError(
            f"{hand_in.kind} {hand_in.name} has not taken the gradient; nothing is handed in",
            variable=hand_in.name,
            retryable=False,
        )
    return replies


def _refusal(ps: Resources, operation: PsOperation) -> ShardscopeError | None:
    check = _CHECKS.get(type(operation))
    if check is None:
        return InvalidArgumentError(
            f"{type(operation).__name__} of variable {operation.name} cannot complete a shard; nothing was changed",
            variable=operation.name,
        )
    try:
        check(ps, operation)
    except ShardscopeError as error:
        return error.with_traceback(None)
    return None
