"""Runs operations of a graph: what is needed, in an order that their inputs and control inputs allow.

What can be computed here is computed at once. Accesses to variables are gathered until nothing else can go on, and then
made together: all reads that are ready, one exchange for each ps task, and when there are none, all updates that are
ready. So a step that reads its variables, computes and updates them makes one exchange of each kind with each task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ps_protocol.errors import InvalidArgumentError, ShapeMismatchError, ShardscopeError
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import READS, Array, PsOperation, Read, reply_bytes
from worker_client.connection.fanout import Routed
from worker_client.graph.computation import (
    AccessedVariable,
    Constant,
    DrawingKernel,
    Kernel,
    SeededKernel,
    VariableAccess,
)
from worker_client.graph.operation import Operation, Tensor
from worker_client.sessions.fed_variables import answered_from, fed_variables
from worker_client.sessions.runtime import VariableRuntime
from worker_client.values.text import graph_array
from worker_client.values.versions import VersionedValue


@dataclass(slots=True)
class _Access:
    operation: Operation
    access: VariableAccess
    inputs: list[Array]
    reads_back: bool
    cached: VersionedValue[int] | None = None

    @property
    def has_output(self) -> bool:
        """Whether a value comes back for the operation's output."""
        return bool(self.operation.outputs) and (self.reads_back or self.access.answered or not self.access.mutates)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run has to do, which is the same for all runs that want the same and are fed the same tensors.

    Attributes:
        order: The operations, each behind what it needs itself.
        needed: For each the operations that must have run before it.
        consumed: The tensors whose values are used.
        variables: Those that are accessed.
        rewirings: How often operations of any graph had been made to wait for others when the plan was made.
    """

    order: tuple[Operation, ...]
    needed: Mapping[Operation, Sequence[Operation]]
    consumed: frozenset[Tensor]
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


class _Values(dict[Tensor, Array]):
    """The values of tensors, those of constants included, which need not be computed."""

    def __missing__(self, tensor: Tensor) -> Array:
        computation = tensor.op.computation
        if not isinstance(computation, Constant):
            raise KeyError(tensor)
        return computation.value


class Evaluation:
    """One run: holds the values of all tensors that have been computed in it. Used once, by one thread.

    Args:
        runtime: Where the variables live.
        feeds: Values that are given instead of computed.
        plans: Of earlier runs of the same session.
    """

    def __init__(self, runtime: VariableRuntime, feeds: Mapping[Tensor, Array], plans: Plans | None = None):
        self._runtime = runtime
        self._plans = plans
        self._values = _Values(feeds)
        self._fed_variables = fed_variables(feeds) if feeds else {}

    def run(self, operations: Iterable[Operation], tensors: Sequence[Tensor]) -> list[Array]:
        """Runs operations and returns the values of tensors.

        Raises:
            InvalidArgumentError: A placeholder is not fed, or operations wait for each other in a circle.
            ShardscopeError: What the first access to a variable that failed was answered. Other updates that were ready
                at the same time have been made; nothing that comes after.
        """
        plan = self._plan(tuple(operations), tuple(tensors))
        self._runtime.place(plan.variables)
        order: Sequence[Operation] = plan.order
        done: set[Operation] = set()
        while order:
            accesses = self._compute(order, done, plan)
            reads = [each for each in accesses if not each.access.mutates]
            if accesses:
                self._make(reads or accesses)
            done.update(each.operation for each in reads or accesses)
            order = [operation for operation in order if operation not in done]
        return [self._values[tensor] for tensor in tensors]

    def _plan(self, operations: tuple[Operation, ...], tensors: tuple[Tensor, ...]) -> Plan:
        key = (operations, tensors, frozenset(self._values))
        plan = None if self._plans is None else self._plans.get(key)
        if plan is None or plan.rewirings != Operation.rewirings:
            plan = self._planned(operations, tensors)
            if self._plans is not None:
                self._plans.keep(key, plan)
        return plan

    def _planned(self, operations: Sequence[Operation], tensors: Sequence[Tensor]) -> Plan:
        rewirings = Operation.rewirings
        needed: dict[Operation, Sequence[Operation]] = {}
        wanted = [tensor.op for tensor in tensors if tensor not in self._values]
        order = self._ordered([*operations, *wanted], needed)
        variables = dict.fromkeys(
            variable
            for each in order
            if isinstance(each.computation, VariableAccess)
            and (each.computation.mutates or each.computation.variable not in self._fed_variables)
            for variable in (each.computation.variable, *each.computation.beside)
        )
        consumed = frozenset({tensor for each in order for tensor in each.operands}.union(tensors))
        return Plan(tuple(order), needed, consumed, tuple(variables), rewirings)

    def _ordered(self, targets: Sequence[Operation], needed: dict[Operation, Sequence[Operation]]) -> list[Operation]:
        """Returns the targets and all they need, each behind what it needs itself; else in the order of the targets."""
        finished: dict[Operation, bool] = {}  # False while what the operation needs is being looked at
        order: list[Operation] = []
        stack = [(target, False) for target in reversed(targets)]
        while stack:
            operation, is_ready = stack.pop()
            if is_ready:
                finished[operation] = True
                order.append(operation)
            elif operation not in finished:
                finished[operation] = False
                stack.append((operation, True))
                needs = needed[operation] = list(self._needs(operation))
                circular = next((each for each in needs if finished.get(each) is False), None)
                if circular is not None:
                    raise InvalidArgumentError(
                        f"operations {operation.name} and {circular.name} wait for each other, through inputs or "
                        f"control inputs; take one of the control inputs out"
                    )
                stack.extend((each, False) for each in reversed(needs))
        return order

    def _needs(self, operation: Operation) -> Iterable[Operation]:
        for tensor in operation.operands:
            if tensor not in self._values and not _is_known(tensor.op):
                yield tensor.op
        yield from operation.waits_for

    def _compute(self, order: Iterable[Operation], done: set[Operation], plan: Plan) -> list[_Access]:
        """Computes what can be computed here; returns the accesses to variables that are ready."""
        ready = []
        for operation in order:
            if not done.issuperset(plan.needed[operation]):
                continue
            inputs = [self._values[tensor] for tensor in operation.operands]
            computation = operation.computation
            if isinstance(computation, VariableAccess):
                if computation.unless_fed is not None and computation.unless_fed in self._values:
                    inputs = [self._values[computation.unless_fed]]
                if computation.variable in self._fed_variables and self._read_fed(operation, computation, inputs):
                    done.add(operation)
                    continue
                is_consumed = not plan.consumed.isdisjoint(operation.outputs)
                reads_back = computation.mutates and not computation.answered and is_consumed
                ready.append(_Access(operation, computation, inputs, reads_back))
                continue
            if any(output not in self._values for output in operation.outputs):  # or all are fed
                for output, value in zip(operation.outputs, self._computed(operation, inputs), strict=True):
                    self._values.setdefault(output, graph_array(value) if output.dtype.kind == "S" else value)
            done.add(operation)
        return ready

    def _read_fed(self, operation: Operation, access: VariableAccess, inputs: list[Array]) -> bool:
        """Reads the value that is fed for a variable; False if the operation does not read the value."""
        request = self._request(_Access(operation, access, inputs, reads_back=False))
        if not isinstance(request, READS):
            return False
        reply = answered_from(self._fed_variables[access.variable], request)
        self._values.setdefault(operation.outputs[0], access.output(reply, inputs))
        return True

    def _computed(self, operation: Operation, inputs: Sequence[Array]) -> tuple[Array, ...]:
        computation = operation.computation
        try:
            if isinstance(computation, Kernel):
                values = computation.function(*inputs)
                return values if isinstance(values, tuple) else (values,)
            if isinstance(computation, Constant):
                return (computation.value,)
            if isinstance(computation, SeededKernel):
                return (computation.function(self._runtime.job_seed, *inputs),)
            if isinstance(computation, DrawingKernel):
                drawn = computation.function(self._runtime.generator(computation), *inputs)
                return drawn if isinstance(drawn, tuple) else (drawn,)
        except ShardscopeError as error:
            raise_interrupt(error)
            raise _found_in(operation, error) from error.__cause__
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise_interrupt(error)
            given = ", ".join(f"{value.dtype.name}{list(value.shape)}" for value in inputs) or "nothing"
            text = f"operation {operation.name} ({operation.type}) cannot be computed from {given}: {error}"
            raise InvalidArgumentError(text, op=operation) from error
        raise _not_computable(operation)

    def _make(self, accesses: Sequence[_Access]) -> None:
        """Makes accesses to variables together and keeps their outputs; raises the first error after all are made."""
        routed = []
        for each in accesses:
            spec, task = each.access.variable.spec, self._runtime.route(each.access.variable)
            request = self._request(each)
            needs_value = each.access.needs_value
            routed.append(Routed(task, request, reply_bytes(request, spec), needs_value))
            if each.reads_back:
                routed.append(Routed(task, Read(spec.name), spec.size_bytes, needs_value))
        replies = iter(self._runtime.exchange(routed))
        for each in accesses:
            reply = next(replies)
            if each.access.cached:
                reply = self._runtime.value_cache.refreshed(each.access.variable, each.cached, reply)
            if each.reads_back:
                outcome = next(replies)
                reply = reply if isinstance(reply, ShardscopeError) else outcome
            try:
                if each.has_output:
                    self._values[each.operation.outputs[0]] = each.access.output(reply, each.inputs)
                elif isinstance(reply, ShardscopeError):
                    raise reply
            except ShapeMismatchError as error:
                raise _found_in(each.operation, _of_the_run(each.operation, error)) from error
            except ShardscopeError as error:
                raise _found_in(each.operation, error) from error.__cause__

    def _request(self, each: _Access) -> PsOperation:
        if each.access.cached:
            each.cached = self._runtime.value_cache.find(each.access.variable)
            if each.cached is not None:
                return Read(each.access.variable.spec.name, unless_version=each.cached.version)
        try:
            return each.access.request(self._runtime.job_seed, *each.inputs)
        except ShapeMismatchError as error:
            raise _found_in(each.operation, _of_the_run(each.operation, error)) from error


def _is_known(operation: Operation) -> bool:
    """Whether its output is known without running anything: it is a constant that waits for nothing."""
    return type(operation.computation) is Constant and not operation.waits_for


def _of_the_run(operation: Operation, error: ShapeMismatchError) -> InvalidArgumentError:
    """Returns the error that a run reports; a ValueError is for what is found while the graph is built."""
    text = f"operation {operation.name} ({operation.type}): {error.message}"
    return InvalidArgumentError(text, variable=error.variable, task=error.task)


def _found_in(operation: Operation, error: ShardscopeError) -> ShardscopeError:
    """Returns an error that says which operation of the graph it was found in."""
    error.op = operation if error.op is None else error.op
    return error


def _not_computable(operation: Operation) -> InvalidArgumentError:
    text = f"operation {operation.name} ({operation.type}) only names something and has no value"
    if operation.type == "Placeholder":
        text = f"placeholder {operation.name} has no value; give it one in feed_dict, as {{{operation.name}: value}}"
    return InvalidArgumentError(text, op=operation)
