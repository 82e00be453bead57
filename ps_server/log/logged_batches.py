"""Carries out the batches of a task with a logged state: each mutating batch becomes one record.

A batch locks all its variables, in the order of their names, before its first operation, and appends its record before
it lets go of any (strict two-phase locking; P. Bernstein, V. Hadzilacos and N. Goodman, "Concurrency Control and
Recovery in Database Systems", 1987, 3.2). So records are in the order of effects, a batch is in the log whole or not at
all, and replaying the records makes the same state. An answer leaves when everything that it depends on is committed:
no client sees a state that a crash could still take back.

Declarations come first, wherever they stand in the batch. They are safe to repeat, so each is a record of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from ps_protocol.errors import NotFoundError, ShardscopeError
from ps_protocol.fault_points import fault_point
from ps_protocol.operation_kinds import KINDS, Logged, map_tensors, names_of
from ps_protocol.operations import (
    Array,
    Batch,
    BatchReply,
    Describe,
    Initialize,
    PsOperation,
    Replace,
    Reply,
    Update,
    UpdateRule,
)
from ps_server.batches.remembered_answers import independent_copy
from ps_server.log.commit_log import CommitLog, Reservation
from ps_server.log.records import AppliedBatch, size_of_batch
from ps_server.log.state_parts import StateParts

_SMALL_OPERAND_BYTES = 64 * 1024


class LoggedBatches:
    """Runs batches under the rules above. Thread-safe.

    Args:
        parts: Hold the variables. The store appends declarations to the log itself.
        log: Where records go.
    """

    def __init__(self, parts: StateParts, log: CommitLog):
        self.log: Final = log
        self._store = parts.store
        self._variables = parts.store.variables
        self._runner = parts.runner
        self._task = parts.task
        self._clock = parts.clock

    def reserve(self, operations: Sequence[PsOperation], deadline_s: float) -> Reservation:
        """Waits for room in the log; called before ``apply`` and outside the ledger, since it may be tried again.

        Raises:
            ResourceExhaustedError: There was none in time.
        """
        return self.log.reserve(size_of_batch(operations), deadline_s - self._clock(), is_awaited=True)

    def apply(self, batch: Batch, deadline_s: float, room: Reservation) -> tuple[BatchReply, int]:
        """Carries out a mutating batch; returns the reply and the position of its record, not committed yet."""
        operations = batch.operations
        steps = [self._step(operation, deadline_s) for operation in operations]
        if self._runner.is_guarded(operations):
            steps = _all_or_none(steps)
        remaining = [step for step in steps if not isinstance(step, _CarriedOut)]
        with self._variables.locked(names_of(remaining)) as variables:
            if [each for each in operations if type(each) is Initialize]:
                steps = self._assignments_where_they_fit(operations, steps)
                remaining = [step for step in steps if not isinstance(step, _CarriedOut)]
            answers = iter(self._runner.run(remaining, deadline_s).replies)
            reply = BatchReply(
                tuple([step.reply if isinstance(step, _CarriedOut) else next(answers) for step in steps])
            )
            logged = tuple([_logged(operation, step) for operation, step in zip(operations, steps, strict=True)])
            fault_point("batch.before_log")
            record = AppliedBatch(batch.client, batch.sequence, logged, independent_copy(reply), batch.checksum)
            position = room.append(record)
            fault_point("batch.after_log")
            for variable in variables:
                variable.position = position
        return reply, position

    def read(self, operations: Sequence[PsOperation], deadline_s: float, *, lend_values: bool) -> BatchReply:
        """Carries out a batch that changes nothing; returns when what it saw is committed.

        Raises:
            DeadlineExceededError: It was not in time.
        """
        reply = self._runner.read(operations, deadline_s, lend_values=lend_values)
        position = self._variables.newest_position(names_of(operations))
        self.log.wait_committed(position, deadline_s - self._clock())
        return reply

    def _step(self, operation: PsOperation, deadline_s: float) -> PsOperation | _CarriedOut:
        """Carries out a declaration; returns any other operation, and a repeated initialisation as an assignment.

        So an initial value is computed, and the gate of a name waited for, before any lock is taken.
        """
        if isinstance(operation, Initialize) and operation.overwrite:
            variable = self._variables.get(operation.name)
            if variable is not None and variable.value is not None:
                return self._assignment(operation)
            operation = replace(operation, overwrite=False)
        if KINDS[type(operation)].logged is Logged.BEFORE_ITS_BATCH:
            return _CarriedOut(self._runner.run([operation], deadline_s).replies[0])
        try:
            # Looked up here only: a variable that is created after this would not be locked.
            self._variables.find_all(operation)
        except NotFoundError as error:
            return self._refused(error)
        return operation

    def _assignment(self, operation: Initialize) -> PsOperation | _CarriedOut:
        try:
            value = self._store.first_value(operation)
        except ShardscopeError as error:
            return self._refused(error)
        return Replace(operation.name, value)

    def _assignments_where_they_fit(
        self, operations: Sequence[PsOperation], steps: Sequence[PsOperation | _CarriedOut]
    ) -> list[PsOperation | _CarriedOut]:
        """With the locks held: initialising anew is an assignment where the layout is the one that was declared."""
        fitting: list[PsOperation | _CarriedOut] = []
        relaid: set[str] = set()
        for operation, step in zip(operations, steps, strict=True):
            if isinstance(step, Replace) and not step.keeps_shape:
                variable = self._variables.find(step.name)
                if not isinstance(operation, Initialize):
                    relaid.add(step.name)
                elif variable.spec is variable.declared and step.name not in relaid:
                    fitting.append(Update(step.name, UpdateRule.ASSIGN, step.value))
                    continue
            fitting.append(step)
        return fitting

    def _refused(self, error: ShardscopeError) -> _CarriedOut:
        error.task = self._task
        return _CarriedOut(error.with_traceback(None))


class _CarriedOut:
    """The reply to an operation that has been carried out."""

    __slots__ = ("reply",)

    def __init__(self, reply: Reply):
        self.reply = reply


def _all_or_none(steps: Sequence[PsOperation | _CarriedOut]) -> list[PsOperation | _CarriedOut]:
    """Refuses all of a batch if one of its variables is not there."""
    refused = [each for each in steps if isinstance(each, _CarriedOut) and isinstance(each.reply, ShardscopeError)]
    return [refused[0]] * len(steps) if refused else list(steps)


def _logged(operation: PsOperation, step: PsOperation | _CarriedOut) -> PsOperation:
    """Returns the operation that replay carries out; ``Describe`` if it need not carry out anything.

    Tensors that came in a lossy form are logged exactly, so that replay does not round them a second time.
    """
    if isinstance(step, _CarriedOut) or KINDS[type(step)].logged is not Logged.AS_ITSELF:
        return Describe(operation.name)
    return map_tensors(step, _copy_if_small)


def _copy_if_small(operand: Array) -> Array:
    """Returns an operand that does not change when the batch times out before its record is written.

    Transports read small operands into memory that they use again at once; large ones have memory of their own.
    """
    return operand.copy() if operand.nbytes <= _SMALL_OPERAND_BYTES else operand
