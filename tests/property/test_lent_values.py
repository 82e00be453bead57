"""Lent values and taken operands against plain copies, through any interleaving of borrowers and updates."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.codec import tensor_codec
from ps_protocol.initializer_spec import InitializerSpec, ValueKind
from ps_protocol.operations import (
    Array,
    Batch,
    Declare,
    Gather,
    Initialize,
    PsOperation,
    Read,
    Result,
    Scatter,
    ScatterRule,
    Update,
    UpdateRule,
    VariableSpec,
)
from ps_server.core.parameter_server import ParameterServer

CLIENT = UUID(int=1)
TIMEOUT_S = 30.0
DTYPE = np.dtype(np.int32)
SHAPE = (70, 130)  # just large enough to be lent

NAMES = st.sampled_from(["a", "b"])
NUMBERS = st.integers(-9, 9)
ROWS = st.lists(st.integers(0, SHAPE[0] - 1), max_size=4)
DERIVATIONS: list[Callable[[Array], Array]] = [
    lambda view: view,
    lambda view: view[3:, ::2],
    lambda view: view.reshape(-1)[7:].reshape(-1, 1),
    lambda view: view.T[1:].view(),
    lambda view: view.view(np.uint8),
    lambda view: np.frombuffer(tensor_codec.bytes_of(view)[8:], np.uint8),
]


def filled(number: int) -> Array:
    """An array of which each element tells its place, so that half of another value is noticed."""
    return np.arange(number, number + SHAPE[0] * SHAPE[1], dtype=DTYPE).reshape(SHAPE)


class LendingMachine(RuleBasedStateMachine):
    """Borrows values, gives them back, and updates them meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.core = ParameterServer(cluster_spec=ClusterSpec({"ps": ["localhost:1"]}), task_index=0)
        self.core.hello(CLIENT, "worker:0", timeout_s=TIMEOUT_S)
        self.sequence = 0
        self.held: list[tuple[Array, Array]] = []  # what was lent, and what it was then
        self.model: dict[str, Array] = {}
        for name in ("a", "b"):
            initial = filled(0)
            self.mutate(Declare(VariableSpec(name, DTYPE, SHAPE), InitializerSpec(ValueKind(initial))), take=False)
            self.model[name] = initial.copy()
            initial[...] = 99  # the caller's own

    def exchange(self, *operations: PsOperation, sequence: int, lend: bool, take: bool) -> list[Result]:
        batch = Batch(CLIENT, self.core.store_incarnation, sequence, operations)
        reply = self.core.exchange(batch, timeout_s=TIMEOUT_S, lend_values=lend, take_operands=take)
        results = [each for each in reply.replies if isinstance(each, Result)]
        assert len(results) == len(operations), reply
        return results

    def mutate(self, *operations: PsOperation, take: bool, lend: bool = False) -> list[Result]:
        self.sequence += 1
        return self.exchange(*operations, sequence=self.sequence, lend=lend, take=take)

    def look(self, operation: PsOperation, *, lend: bool = False) -> Array:
        (result,) = self.exchange(operation, sequence=0, lend=lend, take=False)
        assert result.tensor is not None
        return result.tensor

    # -- borrowers ----------------------------------------------------------------------------

    @rule(name=NAMES, derive=st.sampled_from(DERIVATIONS))
    def borrow(self, name: str, derive: Callable[[Array], Array]) -> None:
        view = self.look(Read(name), lend=True)
        assert not view.flags.writeable
        np.testing.assert_array_equal(view, self.model[name])
        self.held.append((derive(view), derive(self.model[name].copy()).copy()))

    @rule(name=NAMES, number=NUMBERS)
    def borrow_within_an_update(self, name: str, number: int) -> None:
        add = Update(name, UpdateRule.ASSIGN_ADD, np.array(number, DTYPE))
        results = self.mutate(Read(name), add, Read(name), add, take=False, lend=True)
        for result in (results[0], results[2]):
            assert result.tensor is not None
            self.held.append((result.tensor, self.model[name].copy()))
            self.model[name] += DTYPE.type(number)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        del self.held[data.draw(st.integers(0, len(self.held) - 1))]

    @rule(name=NAMES, rows=ROWS, into=st.booleans())
    def read_a_copy(self, name: str, rows: list[int], into: bool) -> None:
        out = np.empty(SHAPE, DTYPE) if into else None
        rows_out = np.empty((len(rows), SHAPE[1]), DTYPE) if into else None
        copies = self.look(Read(name, out=out)), self.look(Gather(name, np.array(rows, np.int64), out=rows_out))
        np.testing.assert_array_equal(copies[0], self.model[name])
        np.testing.assert_array_equal(copies[1], self.model[name][rows])
        assert not into or (copies[0] is out and copies[1] is rows_out)
        for copy in copies:
            copy[...] = 99  # the receiver's own

    # -- updates ------------------------------------------------------------------------------

    @rule(name=NAMES, number=NUMBERS, whole=st.booleans(), adds=st.booleans(), take=st.booleans())
    def add(self, name: str, number: int, whole: bool, adds: bool, take: bool) -> None:
        operand = filled(number) if whole else np.array(number, DTYPE)
        self.mutate(Update(name, UpdateRule.ASSIGN_ADD if adds else UpdateRule.ASSIGN_SUB, operand), take=take)
        self.model[name] = self.model[name] + (operand if adds else -operand)

    @rule(name=NAMES, number=NUMBERS, take=st.booleans(), again=st.booleans())
    def assign(self, name: str, number: int, take: bool, again: bool) -> None:
        operand, spec = filled(number), InitializerSpec(ValueKind(filled(number)))
        self.mutate(
            Initialize(name, spec, overwrite=True) if again else Update(name, UpdateRule.ASSIGN, operand), take=take
        )
        self.model[name] = filled(number)
        if not take:
            operand[...] = 99
            assert isinstance(spec.kind, ValueKind)
            spec.kind.array[...] = 99

    @rule(number=NUMBERS, added=NUMBERS)
    def assign_one_operand_twice(self, number: int, added: int) -> None:
        operand = filled(number)
        self.mutate(
            Update("a", UpdateRule.ASSIGN, operand),
            Update("a", UpdateRule.ASSIGN_ADD, np.array(added, DTYPE)),
            Update("b", UpdateRule.ASSIGN, operand),
            take=True,
        )
        self.model = {"a": filled(number + added), "b": filled(number)}

    @rule(name=NAMES, rows=ROWS, number=NUMBERS)
    def scatter(self, name: str, rows: list[int], number: int) -> None:
        self.mutate(Scatter(name, ScatterRule.ADD, np.array(rows, np.int64), np.array(number, DTYPE)), take=False)
        value = self.model[name].copy()
        np.add.at(value, rows, number)
        self.model[name] = value

    # -- what holds always --------------------------------------------------------------------

    @invariant()
    def what_is_held_has_not_changed(self) -> None:
        for view, before in self.held:
            np.testing.assert_array_equal(view, before)

    @invariant()
    def the_values_are_those_of_the_model(self) -> None:
        for name, value in self.model.items():
            np.testing.assert_array_equal(self.look(Read(name)), value)


LendingMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLending = LendingMachine.TestCase
