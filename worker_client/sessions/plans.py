"""What a run has to do, found out once for all runs that want the same and are fed the same tensors.

A plan is a list of rounds. In each, what can be computed here is computed, and then accesses to variables are made
together: all reads that are ready, or when there are none, all updates that are ready. What may have to wait for
other tasks comes when nothing else is ready.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array
from worker_client.graph.computation import (
    AccessedVariable,
    BulkTransfer,
    Constant,
    Kernel,
    SharedCall,
    VariableAccess,
)
from worker_client.graph.operation import Operation, Tensor


@dataclass(frozen=True, slots=True)
class Step:
    """An operation that is computed here.

    Attributes:
        operation: Which one.
        operands: The tensors whose values it is given.
        outputs: For each value that it computes the tensor; None if that is fed.
        function: Computes them, where NumPy makes infinities and nan without warnings; None if that takes more than
            calling a function.
    """

    operation: Operation
    operands: tuple[Tensor, ...]
    outputs: tuple[Tensor | None, ...]
    function: Callable[..., Array | tuple[Array, ...]] | None


@dataclass(frozen=True, slots=True)
class PlannedAccess:
    """An operation that accesses a variable.

    Attributes:
        operation: Which one.
        access: What it does.
        operands: The tensors whose values it is given.
        reads_back: Whether its output is the value that the variable has after it.
        output: The tensor that gets a value from the ps's reply, None if none does.
    """

    operation: Operation
    access: VariableAccess
    operands: tuple[Tensor, ...]
    reads_back: bool
    output: Tensor | None


@dataclass(frozen=True, slots=True)
class Round:
    """What is done together.

    Attributes:
        steps: What is computed here, and reads of variables that are fed; first, and in this order.
        accesses: What is made with one exchange for each ps task, then.
        waits: What may have to wait for other tasks, or for each other; only if there are no accesses.
    """

    steps: tuple[Step | PlannedAccess, ...]
    accesses: tuple[PlannedAccess, ...]
    waits: tuple[Operation, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """All of a run.

    Attributes:
        rounds: In their order.
        constants: Values of tensors that need not be computed.
        variables: Those that are accessed.
        rewirings: How often operations of any graph had been made to wait for others when the plan was made.
    """

    rounds: tuple[Round, ...]
    constants: Mapping[Tensor, Array]
    variables: tuple[AccessedVariable, ...]
    rewirings: int


class Plans(dict[Any, Plan]):
    """The plans of a session. Threads may make the same one at the same time, of which one is kept."""

    MOST = 64

    def keep(self, key: Any, plan: Plan) -> None:
        """Keeps a plan; forgets all others if there are too many."""
        if len(self) >= self.MOST:
            self.clear()
        self[key] = plan


def planned(
    operations: Sequence[Operation],
    tensors: Sequence[Tensor],
    fed: Collection[Tensor],
    fed_variables: Collection[AccessedVariable],
) -> Plan:
    """Makes the plan of a run.

    Args:
        operations: What is to be run.
        tensors: Whose values are wanted.
        fed: Tensors whose values are given.
        fed_variables: Variables whose values are given.

    Raises:
        InvalidArgumentError: Operations wait for each other in a circle.
    """
    rewirings = Operation.rewirings
    wanted = [tensor.op for tensor in tensors if tensor not in fed]
    needed = ordered([*operations, *wanted], fed)
    consumed = frozenset({tensor for each in needed for tensor in each.operands}.union(tensors))
    accesses = [each.computation for each in needed if isinstance(each.computation, VariableAccess)]
    return Plan(
        tuple(_rounds(needed, consumed, fed, fed_variables)),
        {
            tensor: tensor.op.computation.value
            for tensor in consumed
            if tensor not in fed and isinstance(tensor.op.computation, Constant)
        },
        tuple(
            dict.fromkeys(
                variable
                for each in accesses
                if each.mutates or each.variable not in fed_variables
                for variable in (each.variable, *each.beside)
            )
            | dict.fromkeys(each.computation.shared for each in needed if isinstance(each.computation, SharedCall))
        ),
        rewirings,
    )


def ordered(targets: Sequence[Operation], fed: Collection[Tensor]) -> dict[Operation, list[Operation]]:
    """Returns the targets and all they need, each behind what it needs itself, and with that.

    Otherwise they are in the order of the targets.

    Raises:
        InvalidArgumentError: Operations wait for each other in a circle.
    """
    finished: dict[Operation, bool] = {}  # False while what the operation needs is being looked at
    needed: dict[Operation, list[Operation]] = {}
    order: dict[Operation, list[Operation]] = {}
    stack = [(target, False) for target in reversed(targets)]
    while stack:
        operation, is_ready = stack.pop()
        if is_ready:
            finished[operation] = True
            order[operation] = needed[operation]
        elif operation not in finished:
            finished[operation] = False
            stack.append((operation, True))
            needs = needed[operation] = list(_needs(operation, fed))
            circular = next((each for each in needs if finished.get(each) is False), None)
            if circular is not None:
                raise InvalidArgumentError(
                    f"operations {operation.name} and {circular.name} wait for each other, through inputs or "
                    f"control inputs; take one of the control inputs out"
                )
            stack.extend((each, False) for each in reversed(needs))
    return order


def _needs(operation: Operation, fed: Collection[Tensor]) -> Iterable[Operation]:
    for tensor in operation.operands:
        if tensor not in fed and not _is_known(tensor.op):
            yield tensor.op
    yield from operation.waits_for


def _is_known(operation: Operation) -> bool:
    """Whether its output is known without running anything: it is a constant that waits for nothing."""
    return type(operation.computation) is Constant and not operation.waits_for


def _rounds(
    needed: Mapping[Operation, Sequence[Operation]],
    consumed: Collection[Tensor],
    fed: Collection[Tensor],
    fed_variables: Collection[AccessedVariable],
) -> Iterable[Round]:
    remaining = dict(needed)
    done: set[Operation] = set()
    while remaining:
        steps: list[Step | PlannedAccess] = []
        ready: list[PlannedAccess] = []
        waiting: list[Operation] = []
        made: set[Operation] = set()  # updates that are ready, and what has nothing to do but to wait for them
        for operation, needs in remaining.items():
            access = operation.computation if isinstance(operation.computation, VariableAccess) else None
            is_idle = _is_idle(operation, fed)
            waits = not done.issuperset(needs)
            if waits:
                joins = is_idle if access is None else access.joins
                if not joins or [each for each in needs if each not in done and each not in made]:
                    continue
            if isinstance(operation.computation, SharedCall):
                waiting.append(operation)
            elif access is not None and (access.mutates or access.variable not in fed_variables):
                ready.append(_access(operation, access, consumed))
                made.update([operation] if access.mutates else [])
            elif waits:
                made.add(operation)
            else:
                if access is not None:
                    steps.append(_access(operation, access, consumed))
                elif not is_idle:
                    steps.append(_step(operation, fed))
                done.add(operation)
        accesses = [each for each in ready if not each.access.mutates] or ready
        last = () if accesses else tuple(waiting)
        done.update([*[each.operation for each in accesses], *last])
        if steps or accesses or last:
            yield Round(tuple(steps), tuple(accesses), last)
        remaining = {operation: needs for operation, needs in remaining.items() if operation not in done}


def _is_idle(operation: Operation, fed: Collection[Tensor]) -> bool:
    """Whether there is nothing to do: it has no outputs, or the plan knows them."""
    kind = type(operation.computation)
    return kind is Constant or (
        kind not in (BulkTransfer, SharedCall) and not [each for each in operation.outputs if each not in fed]
    )


def _access(operation: Operation, access: VariableAccess, consumed: Collection[Tensor]) -> PlannedAccess:
    is_consumed = any(output in consumed for output in operation.outputs)
    reads_back = access.mutates and not access.answered and is_consumed
    has_output = bool(operation.outputs) and (reads_back or access.answered or not access.mutates)
    return PlannedAccess(
        operation, access, tuple(operation.operands), reads_back, operation.outputs[0] if has_output else None
    )


def _step(operation: Operation, fed: Collection[Tensor]) -> Step:
    computation = operation.computation
    function = getattr(computation.function, "quietly", None) if isinstance(computation, Kernel) else None
    if any(output.dtype.kind == "S" for output in operation.outputs):
        function = None
    outputs = tuple([None if output in fed else output for output in operation.outputs])
    return Step(operation, tuple(operation.operands), outputs, function)
