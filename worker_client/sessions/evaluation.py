"""Runs operations of a graph: what is needed, in the rounds of a plan (``plans.py``).

What can be computed here is computed at once. Accesses to variables are gathered until nothing else can go on, and then
made together: all reads that are ready, one exchange for each ps task, and when there are none, all updates that are
ready. So a step that reads its variables, computes and updates them makes one exchange of each kind with each task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np

from ps_protocol.errors import InvalidArgumentError, ShapeMismatchError, ShardscopeError
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operation_kinds import reply_bytes
from ps_protocol.operations import READS, Array, Describe, PsOperation, Read, Reply, Result, mutates
from ps_protocol.shared_objects import decode_json
from worker_client.connection.fanout import Routed
from worker_client.connection.retry import Deadline
from worker_client.graph.computation import (
    BulkTransfer,
    Constant,
    DrawingKernel,
    Kernel,
    SeededKernel,
    SharedCall,
    UpdatesOnce,
    UpdatingCall,
)
from worker_client.graph.operation import Operation, Tensor
from worker_client.sessions.fed_variables import answered_from, fed_variables
from worker_client.sessions.plans import Plan, PlannedAccess, Plans, Step, planned
from worker_client.sessions.runtime import VariableRuntime
from worker_client.sessions.waits import WAIT_S, Wait, all_done
from worker_client.values.text import graph_array
from worker_client.values.versions import VersionedValue


@dataclass(slots=True)
class _Access:
    planned: PlannedAccess
    inputs: list[Array]
    cached: VersionedValue[int] | None = None


class Evaluation:
    """One run: holds the values of all tensors that have been computed in it. Used once, by one thread.

    Args:
        runtime: Where the variables live.
        feeds: Values that are given instead of computed.
        plans: Of earlier runs of the same session.
        timeout_s: How long the run may wait for shared objects, in seconds.
    """

    def __init__(
        self,
        runtime: VariableRuntime,
        feeds: Mapping[Tensor, Array],
        plans: Plans | None = None,
        timeout_s: float = WAIT_S,
    ):
        self._runtime = runtime
        self._timeout_s = timeout_s
        self._plans = plans
        self._feeds = feeds
        self._values: dict[Tensor, Array] = {}
        self._fed_variables = fed_variables(feeds) if feeds else {}
        self._updates: UpdatesOnce | None = None
        self._noted: set[Tensor] = set()

    def run(self, operations: Iterable[Operation], tensors: Sequence[Tensor]) -> list[Array]:
        """Runs operations and returns the values of tensors.

        Raises:
            InvalidArgumentError: A placeholder is not fed, or operations wait for each other in a circle.
            ShardscopeError: What the first access to a variable that failed was answered. Other updates that were ready
                at the same time have been made; nothing that comes after.
        """
        plan = self._plan(tuple(operations), tuple(tensors))
        self._runtime.place(plan.variables)
        self._values = {**plan.constants, **self._feeds}
        try:
            self._carry_out(plan)
        except BaseException as error:
            if self._updates is not None:
                self._updates.end(error)
            raise
        if self._updates is not None:
            self._updates.end(None)
        return [self._values[tensor] for tensor in tensors]

    def _carry_out(self, plan: Plan) -> None:
        deadline = None
        for number, each in enumerate(plan.rounds):
            self._compute(each.steps)
            if each.accesses:
                self._make_all(each.accesses)
            elif each.waits:
                deadline = deadline or Deadline(self._timeout_s)
                updating = self._wait_for(each.waits, deadline)
                if updating:
                    self._begin_updates(plan, number, updating[0])

    def _make_all(self, accesses: Sequence[PlannedAccess]) -> None:
        self._make([_Access(access, self._inputs(access)) for access in accesses])
        if self._updates is not None:
            for tensor in self._noted.intersection([each.output for each in accesses if each.output is not None]):
                self._values[tensor] = self._updates.as_read_before(tensor.name, self._values[tensor])

    def _begin_updates(self, plan: Plan, number: int, call: UpdatingCall) -> None:
        """From here on each update is carried out once; what they follow from is read again if it may have changed."""
        self._updates = call.updates()
        if self._updates is None:
            return
        accesses = [access for each in plan.rounds for access in each.accesses]
        updated = {each.access.variable for each in accesses if each.access.mutates}
        self._noted = {
            each.output
            for each in accesses
            if each.output is not None and not each.access.mutates and each.access.variable in updated
        }
        for each in plan.rounds[:number] if self._updates.reads_again else ():
            self._compute(each.steps)
            if each.accesses and not each.accesses[0].access.mutates:
                self._make_all(each.accesses)
        self._compute(plan.rounds[number].steps if self._updates.reads_again else ())

    def _wait_for(self, operations: Sequence[Operation], deadline: Deadline) -> list[UpdatingCall]:
        """Does what may have to wait for other tasks; returns those behind which updates are carried out once."""
        waits = []
        for operation in operations:
            call = operation.computation
            assert isinstance(call, SharedCall)
            inputs = [self._values[tensor] for tensor in operation.operands]
            begin = partial(call.begin, self._runtime) if call.at_home else call.begin
            waits.append(Wait(operation, begin, inputs, self._runtime.shared(call.shared)))
        try:
            done = all_done(waits, deadline, lambda: self._runtime.is_closed)
        except BaseException:
            for each in waits:
                if hasattr(each.call, "give_up"):
                    cast("UpdatingCall", each.call).give_up()
            raise
        for operation, outputs in done:
            for output, value in zip(operation.outputs, outputs, strict=True):
                if output not in self._feeds:
                    self._values[output] = value
        return [cast("UpdatingCall", each.call) for each in waits if hasattr(each.call, "updates")]

    def _plan(self, operations: tuple[Operation, ...], tensors: tuple[Tensor, ...]) -> Plan:
        key = (operations, tensors, frozenset(self._feeds))
        plan = None if self._plans is None else self._plans.get(key)
        if plan is None or plan.rewirings != Operation.rewirings:
            plan = planned(operations, tensors, self._feeds, self._fed_variables)
            if self._plans is not None:
                self._plans.keep(key, plan)
        return plan

    def _inputs(self, each: PlannedAccess) -> list[Array]:
        unless_fed = each.access.unless_fed
        if unless_fed is not None and self._is_given(unless_fed):
            return [self._values[unless_fed]]
        return [self._values[tensor] for tensor in each.operands]

    def _is_given(self, tensor: Tensor) -> bool:
        """Whether a tensor that is no input has a value that this run was given, or has computed."""
        return tensor in self._feeds or (tensor in self._values and type(tensor.op.computation) is not Constant)

    def _compute(self, steps: Sequence[Step | PlannedAccess]) -> None:
        """Computes what can be computed here."""
        values, warnings = self._values, np.geterr()
        with np.errstate(all="ignore"):  # as TensorFlow's kernels: no warnings, but infinities and nan
            for step in steps:
                if isinstance(step, PlannedAccess):
                    self._read_fed(_Access(step, self._inputs(step)))
                    continue
                inputs = [values[tensor] for tensor in step.operands]
                try:
                    if step.function is not None:
                        result = step.function(*inputs)
                    else:
                        with np.errstate(**warnings):
                            result = self._computed(step.operation, inputs)
                except ShardscopeError as error:
                    raise_interrupt(error)
                    raise _found_in(step.operation, error) from error.__cause__
                except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                    raise_interrupt(error)
                    raise _not_computed(step.operation, inputs, error) from error
                found = result if isinstance(result, tuple) else (result,)
                for output, value in zip(step.outputs, found, strict=True):
                    if output is not None:
                        values[output] = value

    def _read_fed(self, each: _Access) -> None:
        """Reads the value that is fed for a variable, or asks the ps for what else is read of it."""
        access, output = each.planned.access, each.planned.output
        request = self._request(each)
        if not isinstance(request, READS):
            self._make([each])
        elif output is not None:
            self._values[output] = access.output(
                answered_from(self._fed_variables[access.variable], request), each.inputs
            )

    def _computed(self, operation: Operation, inputs: Sequence[Array]) -> Array | tuple[Array, ...]:
        computation = operation.computation
        values: Array | tuple[Array, ...]
        if isinstance(computation, Kernel):
            values = computation.function(*inputs)
        elif isinstance(computation, Constant):
            values = computation.value
        elif isinstance(computation, SeededKernel):
            values = computation.function(self._runtime.job_seed, *inputs)
        elif isinstance(computation, DrawingKernel):
            values = computation.function(self._runtime.generator(computation), *inputs)
        elif isinstance(computation, BulkTransfer):
            values = computation.function(self._runtime, *inputs)
        else:
            raise _not_computable(operation)
        found = values if isinstance(values, tuple) else (values,)
        return tuple(
            [
                graph_array(value) if output.dtype.kind == "S" else value
                for output, value in zip(operation.outputs, found, strict=True)
            ]
        )

    def _make(self, accesses: Sequence[_Access]) -> None:
        """Makes accesses to variables together and keeps their outputs; raises the first error after all are made."""
        routed = []
        for each in accesses:
            access = each.planned.access
            spec, task, needs_value = access.variable.spec, self._runtime.route(access.variable), access.needs_value
            request = self._request(each)
            routed.append(Routed(task, request, reply_bytes(request, spec), needs_value))
            if each.planned.reads_back:
                routed.append(Routed(task, Read(spec.name), spec.size_bytes, needs_value))
        is_updating = self._updates is not None and accesses[0].planned.access.mutates
        replies = iter(self._exchange_once(routed) if is_updating else self._runtime.exchange(routed))
        for each in accesses:
            operation, access, output = each.planned.operation, each.planned.access, each.planned.output
            reply = next(replies)
            if access.cached:
                reply = self._runtime.value_cache.refreshed(access.variable, each.cached, reply)
            if each.planned.reads_back:
                outcome = next(replies)
                reply = reply if isinstance(reply, ShardscopeError) else outcome
            if access.heard is not None and not isinstance(reply, ShardscopeError):
                access.heard(self._runtime, reply)
            try:
                if output is not None:
                    self._values[output] = access.output(reply, each.inputs)
                elif isinstance(reply, ShardscopeError):
                    raise reply
            except ShapeMismatchError as error:
                raise _found_in(operation, _of_the_run(operation, error)) from error
            except ShardscopeError as error:
                raise _found_in(operation, error) from error.__cause__

    def _exchange_once(self, routed: Sequence[Routed]) -> list[Reply]:
        """Makes updates that another run may have made before; these are answered by how the variable is now."""
        assert self._updates is not None
        noted = {tensor.name: self._values[tensor] for tensor in self._noted if tensor in self._values}
        guards: Sequence[Routed] = self._updates.guards({each.ps_task for each in routed}, noted)
        found = self._runtime.exchange([*guards, *routed])
        replies = found[len(guards) :]
        before = {guard.ps_task for guard, answer in zip(guards, found, strict=False) if _has_been_made(answer)}
        made = [index for index, each in enumerate(routed) if each.ps_task in before and mutates((each.operation,))]
        described = self._runtime.exchange(
            [Routed(routed[index].ps_task, Describe(routed[index].operation.name)) for index in made]
        )
        for index, reply in zip(made, described, strict=True):
            replies[index] = reply if isinstance(reply, ShardscopeError) else Result(reply.version, True)
        return replies

    def _request(self, each: _Access) -> PsOperation:
        operation, access = each.planned.operation, each.planned.access
        if access.cached:
            each.cached = self._runtime.value_cache.find(access.variable)
            if each.cached is not None:
                return Read(access.variable.spec.name, unless_version=each.cached.version)
        try:
            told = self._runtime.worker if access.names_worker else self._runtime.job_seed
            return access.request(told, *each.inputs)
        except ShapeMismatchError as error:
            raise _found_in(operation, _of_the_run(operation, error)) from error


def _has_been_made(answer: Reply) -> bool:
    """Whether a guard was answered that what is behind it has been carried out before."""
    if isinstance(answer, ShardscopeError) or answer.tensor is None:
        return False
    return not decode_json(answer.tensor, "the answer of a receipt")["passes"]


def _of_the_run(operation: Operation, error: ShapeMismatchError) -> InvalidArgumentError:
    """Returns the error that a run reports; a ValueError is for what is found while the graph is built."""
    text = f"operation {operation.name} ({operation.type}): {error.message}"
    return InvalidArgumentError(text, variable=error.variable, task=error.task)


def _found_in(operation: Operation, error: ShardscopeError) -> ShardscopeError:
    """Returns an error that says which operation of the graph it was found in."""
    error.op = operation if error.op is None else error.op
    return error


def _not_computed(operation: Operation, inputs: Sequence[Array], error: Exception) -> InvalidArgumentError:
    given = ", ".join(f"{value.dtype.name}{list(value.shape)}" for value in inputs) or "nothing"
    text = f"operation {operation.name} ({operation.type}) cannot be computed from {given}: {error}"
    return InvalidArgumentError(text, op=operation)


def _not_computable(operation: Operation) -> InvalidArgumentError:
    text = f"operation {operation.name} ({operation.type}) only names something and has no value"
    if operation.type == "Placeholder":
        text = f"placeholder {operation.name} has no value; give it one in feed_dict, as {{{operation.name}: value}}"
    return InvalidArgumentError(text, op=operation)
