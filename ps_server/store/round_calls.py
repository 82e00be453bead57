"""What one ps does for rounds of training together: it keeps gradients, and carries decisions out.

A round changes all variables of a ps under all their locks, in one operation: others see it whole or not at all, a log
has it whole or not at all, and it is refused before anything has changed. That it needs memory for is done before that,
but for the blocks in which steps are computed; for these some is set aside. Its stamp says which round it has; readers
of several ps tasks compare these.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, cast

import numpy as np

from ps_protocol.errors import DataLossError, FailedPreconditionError, InvalidArgumentError, ShardscopeError
from ps_protocol.operations import Apply, Array, Result, VariableSpec, Verdict
from ps_protocol.shared_objects import Act, Look, encode_json
from ps_protocol.training.data_shards import SHARDS_KIND
from ps_protocol.training.round_messages import Decision, Part
from ps_protocol.training.round_operations import (
    COUNT_ROUNDS,
    GROUP_KIND,
    STAGED_KIND,
    STAMP_KIND,
    Commit,
    Stage,
    StagedStep,
    group_of_stamp,
    round_asked_for,
)
from ps_server.memory.lent_arrays import LendableArray
from ps_server.memory.spare_arrays import SpareArrays, prepared_array
from ps_server.rounds import staging
from ps_server.rounds.staging import Staging, Stamp
from ps_server.rules.round_means import mean
from ps_server.store.function_calls import FunctionCalls, PlannedCall
from ps_server.store.object_calls import ObjectCalls
from ps_server.store.spec_checks import describe_spec
from ps_server.store.staged_bytes import Header, StagedBytes, header_of, steps_of
from ps_server.store.stored_variable import HeldLocks, StoredVariable, uninitialized
from ps_server.store.stored_variables import StoredVariables

_SET_ASIDE_BYTES: Final = 8 * 1024 * 1024
_ATTEMPTS: Final = 1000
_PAUSE_S: Final = 0.0001
"""Once a round has begun to change variables it is finished: a minute is tried for."""


class RoundCalls:
    """Carries out ``Stage`` and ``Commit``, and a ``Look`` at a stamp. Thread-safe.

    Args:
        variables: Those of the store.
        functions: Makes the steps.
        spares: Where averages go.
        objects: Have the data shards of which rounds complete pieces.
        pause: Waits for so many seconds.
    """

    def __init__(
        self,
        variables: StoredVariables,
        functions: FunctionCalls,
        spares: SpareArrays,
        objects: ObjectCalls,
        pause: Callable[[float], None] = time.sleep,
    ):
        self._variables: Final = variables
        self._functions: Final = functions
        self._spares: Final = spares
        self._objects: Final = objects
        self._pause: Final = pause

    def stage(self, operation: Stage) -> Result:
        """Keeps the gradients of a worker until their round commits.

        Raises:
            NotFoundError: A variable does not exist here.
            AbortedError: This ps has to be brought earlier decisions first.
            FailedPreconditionError: Another process has the seat, or a variable has no value.
            ShapeMismatchError, DTypeMismatchError, InvalidArgumentError: A gradient does not fit, or is not finite.
            ResourceExhaustedError: The memory limit would be exceeded. After any error nothing has changed.
        """
        if min(operation.seat, operation.ticket, operation.round, operation.since) < 0 or operation.slots < 1:
            raise InvalidArgumentError(
                f"a gradient for round {operation.round} of the seat {operation.seat}, under the ticket "
                f"{operation.ticket}, since {operation.since}, in {operation.slots} slots: that cannot be",
                variable=operation.name,
            )
        slot, stamp = self._found(operation.name, STAGED_KIND), self._found(operation.stamp, STAMP_KIND)
        _check_distinct(operation)
        for step in operation.steps:
            self._check_step(step)
        content = StagedBytes.of(operation)
        replaced = None  # freed after the locks are released: to give memory back to the system takes time
        with HeldLocks(_in_order([slot, stamp])):
            try:
                staging.staged(
                    _staging(stamp, [slot]),
                    Part(operation.seat, operation.ticket, operation.round),
                    since=operation.since,
                    slots=operation.slots,
                )
            except ShardscopeError as error:
                raise _naming(operation.stamp, error) from error
            if content.size_bytes == slot.size_bytes and not slot.is_lent:
                content.write(slot.initialized_value())
            else:
                value = np.zeros(content.size_bytes, np.uint8)
                content.write(value)
                replaced = self._variables.relayout(slot, replace(slot.spec, shape=value.shape), value)
            slot.version += 1
            slot.reading = (slot.version, content.read)
            result = Result(slot.version, True)
        del replaced
        return result

    def commit(self, operation: Commit) -> Result:
        """Carries a round out, unless that has been done: makes the steps with the average of what is staged.

        If the group is to say which round, it is the next one: one that is refused has changed nothing.

        A variable whose average is not finite is skipped, if its optimizer does not want such a step.

        Raises:
            NotFoundError: A variable does not exist here.
            AbortedError: This ps has to be brought earlier decisions first.
            DataLossError: A gradient of the round is not here; or there was no memory to finish it, now or before: then
                a part of it has been made.
            FailedPreconditionError, ShapeMismatchError, DTypeMismatchError, InvalidArgumentError: A variable is not as
                it was when the gradients were staged.
            MemoryError: There is none. After any error but data loss nothing has changed, and who asks
                again has it carried out.
        """
        stamp = self._found(operation.name, STAMP_KIND)
        if not operation.decided_by:
            with stamp.lock:  # most of those who bring a round find it carried out
                if operation.decision.round <= _stamp_of(stamp)[1]:
                    return Result(stamp.version, True)
        slots = [self._found(name, STAGED_KIND) for name in operation.staged]
        others = [self._variables.find(name) for name in operation.others[len(slots) :]]
        with HeldLocks(_in_order([stamp, *slots, *others])):
            decision = operation.decision
            if operation.decided_by:
                found = self._next(operation.decided_by, stamp, slots)
                if found is None:
                    return Result(stamp.version, True)
                decision, slots = found
            try:
                begun = staging.begun(_staging(stamp, slots), decision)
            except ShardscopeError as error:
                raise _naming(operation.name, error) from error
            if begun is None:
                return Result(stamp.version, True)
            steps = _by_variable(slots)
            self._check(operation, decision, steps)
            averages: list[Array] = []

            def room(like: Array) -> Array:
                averages.append(self._spares.take(VariableSpec("", like.dtype, like.shape)))
                return averages[-1]

            planned, counters = [], []
            for of_variable in steps:
                if of_variable[0].function == COUNT_ROUNDS:
                    counters.append(_taken_back(self._variables.find(of_variable[0].name)))
                    continue
                gradients = [step.operands for step in of_variable]
                average = mean(gradients, len(gradients), of_present=operation.means_of_present_rows, room=room)
                planned.append(self._functions.planned(_apply(of_variable[0], average)))
            after = np.array(staging.ended(begun).stamp, stamp.spec.dtype)
            _taken_back(stamp)
            handed_in = [_applied(each, operation.name, decision) for each in others if _is_shards(each)]
            if not self._make_and_hand_in(planned, handed_in):
                stamp.initialized_value()[...] = begun.stamp
                raise DataLossError(
                    f"{operation.name}: there was no memory to finish round {begun.begun}, of which a part was made; "
                    f"restore a checkpoint, or start the ps again if it has a journal",
                    variable=operation.name,
                )
            for counter in counters:
                counter.initialized_value()[...] += 1
                counter.version += 1
            stamp.initialized_value()[...] = after
            stamp.version += 1
            stamp.wake_waiting()
            result = Result(stamp.version, True)
        for each in averages:
            self._spares.keep(LendableArray(each))
        return result

    def _make_and_hand_in(self, planned: Sequence[PlannedCall], events: Sequence[Act]) -> bool:
        """Has pieces of data shards count, and makes all steps, or none of that; False as of ``_make``."""
        before = [self._objects.kept(each) for each in events]
        try:
            for each in events:
                self._objects.act(each)
            return self._make(planned)
        except BaseException:
            for kept in before:
                self._objects.put_back(kept)
            raise

    def look(self, operation: Look) -> Result:
        """Says which round this ps has, once it has carried out the one that is asked for.

        Raises:
            NotFoundError: There is no such stamp.
            InvalidArgumentError: It is none, or the question is malformed.
        """
        stamp = self._found(operation.name, STAMP_KIND)
        with stamp.lock:
            version, (begun, ended) = stamp.version, _stamp_of(stamp)
        is_there = ended >= round_asked_for(operation.question) and begun == ended
        return Result(version, True, None, verdict=Verdict.APPLIED if is_there else Verdict.NOT_YET)

    def _next(
        self, group: str, stamp: StoredVariable, slots: Sequence[StoredVariable]
    ) -> tuple[Decision, list[StoredVariable]] | None:
        """With all locks held, the next round that a group has decided, and its slots.

        None if there is none, it has a gradient that is not in any of these slots, or completes pieces of data shards,
        whose locks are not held.
        """
        number = _stamp_of(stamp)[1] + 1
        decided = self._objects.state_of(group, GROUP_KIND).decisions
        decision = next((each for each in decided if each.round == number), None)
        if decision is None or decision.shards:
            return None
        there = {}
        for each in slots:
            slot = _header(each).slot
            if slot is not None:
                there[Part(slot.seat, slot.ticket, slot.round)] = each
        if not there.keys() >= set(decision.parts):
            return None
        return decision, [there[part] for part in decision.parts]

    def _make(self, planned: Sequence[PlannedCall]) -> bool:
        """Makes all steps, or none; False if it had to give up between two of them.

        What is set aside for the first step that lacks memory is more than one takes.
        """
        set_aside = [prepared_array((_SET_ASIDE_BYTES,), np.dtype(np.uint8))]
        for number, each in enumerate(planned):
            for attempt in range(_ATTEMPTS):
                try:
                    self._functions.carry_out(each)
                    break
                except MemoryError:  # nothing of this step has been done
                    if number == 0 and not set_aside:
                        raise
                    set_aside.clear()
                    self._pause(_PAUSE_S * attempt)
            else:
                return False
        return True

    def _check(self, operation: Commit, decision: Decision, steps: Sequence[Sequence[StagedStep]]) -> None:
        locked = set(operation.variables)
        for of_variable in steps:
            for step in of_variable:
                if not locked.issuperset(step.names):
                    raise InvalidArgumentError(
                        f"round {decision.round} has a gradient of {step.name}, which is not among the "
                        f"{len(locked)} variables that this worker trains; train the same ones everywhere",
                        variable=step.name,
                    )
                self._check_step(step)

    def _check_step(self, step: StagedStep) -> None:
        if step.function != COUNT_ROUNDS:
            self._functions.check(_apply(step, step.operands))
            return
        counter = self._variables.find(step.name)
        if counter.spec.shape or counter.spec.dtype.kind not in "iu":
            raise InvalidArgumentError(
                f"variable {counter.spec} cannot count rounds: that takes a scalar of integers", variable=step.name
            )
        if counter.value is None:
            raise uninitialized(counter.spec)
        if int(counter.initialized_value()) == np.iinfo(counter.spec.dtype).max:
            raise FailedPreconditionError(f"variable {counter.spec} cannot count any further", variable=step.name)

    def _found(self, name: str, kind: str) -> StoredVariable:
        variable = self._variables.find(name)
        if variable.declared.object_kind != kind:
            raise InvalidArgumentError(
                f"variable {name} is no {kind}, but {describe_spec(variable.spec)}", variable=name
            )
        if variable.value is None:
            raise uninitialized(variable.spec)
        return variable


def _staging(stamp: StoredVariable, slots: Sequence[StoredVariable]) -> Staging:
    begun, ended = _stamp_of(stamp)
    found = [_header(each).slot for each in slots]
    return Staging(begun, ended, tuple([each for each in found if each is not None]))


def _stamp_of(stamp: StoredVariable) -> Stamp:
    begun, ended = stamp.initialized_value().tolist()
    return begun, ended


def _header(slot: StoredVariable) -> Header:
    """With its lock held, what the header of a slot says; that is read once."""
    there = slot.reading
    if there is not None and there[0] == slot.version:
        return cast(Header, there[1])
    header = header_of(slot.initialized_value())
    slot.reading = (slot.version, header)
    return header


def _is_shards(variable: StoredVariable) -> bool:
    return variable.declared.object_kind == SHARDS_KIND


def _applied(shards: StoredVariable, stamp: str, decision: Decision) -> Act:
    """Returns what tells data shards that a round is carried out."""
    parts = [[each.ticket, each.round] for each in decision.parts]
    event = {"do": "applied", "group": group_of_stamp(stamp), "parts": parts}
    return Act(shards.declared.name, SHARDS_KIND, encode_json(event))


def _taken_back(variable: StoredVariable) -> StoredVariable:
    """Returns a variable, with its value copied if it is lent, so that it can be changed in its place."""
    if variable.is_lent:
        variable.replace(variable.initialized_value().copy())
    return variable


def _by_variable(slots: Sequence[StoredVariable]) -> list[list[StagedStep]]:
    """The steps for each variable, in the order of the slots."""
    found: dict[str, list[StagedStep]] = {}
    for slot in slots:
        for step in steps_of(slot.initialized_value(), _header(slot)):
            found.setdefault(step.name, []).append(step)
    return list(found.values())


def _apply(step: StagedStep, operands: tuple[Array, ...]) -> Apply:
    return Apply(step.name, step.function, step.slots, step.state, operands, step.numbers)


def _in_order(variables: Sequence[StoredVariable]) -> list[StoredVariable]:
    """Each once, in the order in which locks are taken."""
    by_name = {each.declared.name: each for each in variables}
    return [by_name[name] for name in sorted(by_name)]


def _check_distinct(operation: Stage) -> None:
    names = [step.name for step in operation.steps]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidArgumentError(
            f"two gradients of variable {twice} were given for round {operation.round}; add them up", variable=twice
        )


def _naming(stamp: str, error: ShardscopeError) -> ShardscopeError:
    """Returns an error of the rules for staging with the name of the stamp, which has that of the group."""
    error.variable = stamp
    error.message = f"{stamp}: {error.message}"
    return error
