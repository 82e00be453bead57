"""The store against a plain dictionary, through any sequence of operations, each batch perhaps sent more than once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import FailedPreconditionError, ShardscopeError
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec, ValueKind
from ps_protocol.operations import (
    Array,
    Batch,
    CountUpTo,
    Declare,
    Describe,
    Gather,
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
)
from ps_server.batches.update_ledger import LedgerLimits
from ps_server.core.parameter_server import ParameterServer
from ps_server.core.state import MemoryState
from ps_server.log.state_parts import StateParts

CLIENT = UUID(int=1)
TIMEOUT_S = 30.0
MEMORY_LIMIT_BYTES = 60
REMEMBERED = 4

NAMES = st.sampled_from(["a", "b", "c"])
SHAPES = st.sampled_from([(), (3,), (2, 2), (0, 2)])
DTYPES = st.sampled_from([np.dtype(np.int8), np.dtype(np.int32)])
SMALL = st.integers(-5, 5)
DEPTHS = st.sampled_from([1, 1, 1, 2, 3])


@dataclass
class ModelVariable:
    """What a variable is, in the plainest way."""

    spec: VariableSpec
    value: Array | None = None
    version: int = 0
    declared: VariableSpec | None = None


class Refused(Exception):  # noqa: N818 - the model's word for any error
    pass


def arrays(draw: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    size = int(np.prod(shape))
    return np.array(draw(st.lists(SMALL, min_size=size, max_size=size)), dtype).reshape(shape)


@st.composite
def initializers(draw: Any) -> InitializerSpec:
    if draw(st.booleans()):
        return InitializerSpec(ConstantKind(draw(SMALL)))
    return InitializerSpec(ValueKind(arrays(draw, draw(SHAPES), draw(DTYPES))))


@st.composite
def operations(draw: Any) -> PsOperation:
    """Operations of which many fit and some do not."""
    name, shape, dtype = draw(NAMES), draw(SHAPES), draw(DTYPES)
    match draw(st.integers(0, 9)):
        case 0 | 1:
            return Declare(VariableSpec(name, dtype, shape), draw(st.none() | initializers()))
        case 2:
            return Initialize(name, draw(initializers()), draw(st.booleans()))
        case 3 | 4:
            scalar = draw(st.booleans())
            return Update(name, draw(st.sampled_from(UpdateRule)), arrays(draw, () if scalar else shape, dtype))
        case 5:
            indices, depth = np.array(draw(st.lists(st.integers(-1, 3), max_size=4)), np.int64), draw(DEPTHS)
            updates_shape = () if draw(st.booleans()) else (indices.size, *shape[depth:])
            updates = arrays(draw, updates_shape, dtype)
            return Scatter(name, draw(st.sampled_from(ScatterRule)), indices, updates, depth)
        case 6:
            return Gather(name, np.array(draw(st.lists(st.integers(-1, 3), max_size=4)), np.int32), draw(DEPTHS))
        case 7:
            return Replace(name, arrays(draw, shape, dtype), draw(st.booleans()))
        case 8:
            return CountUpTo(name, draw(st.sampled_from([0, 3, 127, 128])))
        case _:
            return Read(name, draw(st.none() | st.integers(0, 3))) if draw(st.booleans()) else Describe(name)


class Model:
    """A ps that does one thing at a time and never loses a reply."""

    def __init__(self) -> None:
        self.variables: dict[str, ModelVariable] = {}

    def run(self, operation: PsOperation) -> Result:
        if isinstance(operation, Declare):
            return self.declare(operation)
        variable = self.variables.get(operation.name)
        if variable is None:
            raise Refused
        match operation:
            case Describe():
                return Result(variable.version, variable.value is not None, None, variable.spec)
            case Initialize():
                return self.initialize(variable, operation)
            case Update():
                return self.update(variable, operation)
            case Replace(value=value):
                if value.dtype != variable.spec.dtype or (operation.keeps_shape and value.shape != variable.spec.shape):
                    raise Refused
                self.relay(variable, dataclasses.replace(variable.spec, shape=value.shape), value)
                variable.version += 1
                return Result(variable.version, True)
        if variable.value is None:
            raise Refused
        match operation:
            case Read(unless_version=known):
                return Result(variable.version, True, None if known == variable.version else variable.value.copy())
            case CountUpTo(limit=limit):
                return self.count(variable, variable.value, limit)
            case Gather(indices=indices):
                rows = self.in_rows(variable.value, operation.index_depth)
                self.check_rows(rows, indices)
                return Result(variable.version, True, rows[indices])
            case Scatter():
                return self.scatter(variable, self.in_rows(variable.value, operation.index_depth), operation)
            case _:
                raise AssertionError(f"the model is not asked for {operation}")

    def declare(self, operation: Declare) -> Result:
        variable = self.variables.get(operation.name)
        if variable is None:
            self.check_memory(operation.spec.size_bytes)
            variable = ModelVariable(operation.spec)
        elif (variable.declared or variable.spec) != operation.spec:
            raise Refused
        if operation.initializer is not None and variable.value is None:
            variable.value = self.initial_value(operation.spec, operation.initializer)
        self.variables[operation.name] = variable
        return Result(variable.version, variable.value is not None, None, variable.spec)

    def initialize(self, variable: ModelVariable, operation: Initialize) -> Result:
        if variable.value is None or operation.overwrite:
            spec, is_first = variable.declared or variable.spec, variable.value is None
            self.relay(variable, spec, self.initial_value(spec, operation.initializer))
            variable.version += not is_first
        return Result(variable.version, True)

    def relay(self, variable: ModelVariable, spec: VariableSpec, value: Array) -> None:
        more_bytes = spec.size_bytes - variable.spec.size_bytes
        if more_bytes > 0:
            self.check_memory(more_bytes)
        variable.declared = variable.declared or variable.spec
        variable.spec, variable.value = spec, value.copy()

    def check_memory(self, more_bytes: int) -> None:
        if sum(each.spec.size_bytes for each in self.variables.values()) + more_bytes > MEMORY_LIMIT_BYTES:
            raise Refused

    def update(self, variable: ModelVariable, operation: Update) -> Result:
        assigns, value = operation.rule is UpdateRule.ASSIGN, operation.value
        fits = value.shape == variable.spec.shape or (not value.shape and not assigns)
        if value.dtype != variable.spec.dtype or not fits or (variable.value is None and not assigns):
            raise Refused
        if variable.value is None or assigns:
            variable.value = value.copy()
        else:
            sign = 1 if operation.rule is UpdateRule.ASSIGN_ADD else -1
            variable.value = variable.value + (sign * value).astype(value.dtype)
        variable.version += 1
        return Result(variable.version, True)

    def count(self, variable: ModelVariable, value: Array, limit: int) -> Result:
        if variable.spec.shape or limit > np.iinfo(value.dtype).max or int(value) >= limit:
            raise Refused
        variable.value = value + value.dtype.type(1)
        variable.version += 1
        return Result(variable.version, True, value)

    def scatter(self, variable: ModelVariable, value: Array, operation: Scatter) -> Result:
        indices, updates = operation.indices, operation.updates
        self.check_rows(value, indices)
        expected = (*indices.shape, *value.shape[1:])
        if updates.dtype != variable.spec.dtype or (updates.shape and updates.shape != expected):
            raise Refused
        divides = operation.rule is ScatterRule.DIV
        if divides and indices.size and (updates == 0).any():
            raise Refused
        updates = np.broadcast_to(updates, expected)
        result = value.copy()
        for row, change in zip(indices, updates, strict=True):
            result[row] = self.changed_row(operation.rule, result[row].astype(np.int64), change.astype(np.int64))
        variable.value = result.reshape(variable.spec.shape)
        variable.version += 1
        return Result(variable.version, True)

    @staticmethod
    def in_rows(value: Array, index_depth: int) -> Array:
        if index_depth > value.ndim:
            raise Refused
        return value.reshape(int(np.prod(value.shape[:index_depth])), *value.shape[index_depth:])

    @staticmethod
    def changed_row(rule: ScatterRule, row: Array, change: Array) -> Array:
        match rule:
            case ScatterRule.UPDATE:
                changed = change
            case ScatterRule.ADD:
                changed = row + change
            case ScatterRule.SUB:
                changed = row - change
            case ScatterRule.MUL:
                changed = row * change
            case ScatterRule.DIV:
                changed = np.trunc(row / change).astype(np.int64)
            case ScatterRule.MIN:
                changed = np.minimum(row, change)
            case ScatterRule.MAX:
                changed = np.maximum(row, change)
        return np.asarray(changed)

    @staticmethod
    def initial_value(spec: VariableSpec, initializer: InitializerSpec) -> Array:
        if isinstance(initializer.kind, ConstantKind):
            return np.full(spec.shape, initializer.kind.value, spec.dtype)
        assert isinstance(initializer.kind, ValueKind)
        if initializer.kind.array.dtype != spec.dtype or initializer.kind.array.shape != spec.shape:
            raise Refused
        return initializer.kind.array.copy()

    @staticmethod
    def check_rows(rows: Array, indices: Array) -> None:
        if indices.size and (indices.min() < 0 or indices.max() >= len(rows)):
            raise Refused


class StoreMachine(RuleBasedStateMachine):
    """Sends batches, some of them again, to a ps and to the model of one."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        cluster_spec = ClusterSpec({"ps": ["localhost:1"]})
        limits = LedgerLimits(answers_per_client=REMEMBERED)
        parts = StateParts(cluster_spec, 0, memory_limit_bytes=MEMORY_LIMIT_BYTES, ledger_limits=limits)
        self.core = ParameterServer(cluster_spec=cluster_spec, task_index=0, state=MemoryState(parts))
        self.core.hello(CLIENT, "worker:0", timeout_s=TIMEOUT_S)
        self.sequence = 0
        self.sent: list[tuple[Batch, list[Result | None]]] = []

    @rule(batch=st.lists(operations(), max_size=5), skipped=st.integers(0, 2))
    def send(self, batch: list[PsOperation], skipped: int) -> None:
        unnumbered = Batch(CLIENT, self.core.store_incarnation, 0, tuple(batch))
        expected = [self.expected(operation) for operation in batch]
        if not unnumbered.mutates:
            self.check(self.core.exchange(unnumbered, timeout_s=TIMEOUT_S).replies, expected)
            return
        self.sequence += 1 + skipped
        numbered = Batch(CLIENT, self.core.store_incarnation, self.sequence, tuple(batch))
        self.check(self.core.exchange(numbered, timeout_s=TIMEOUT_S).replies, expected)
        self.sent.append((numbered, expected))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        age = data.draw(st.integers(1, len(self.sent)))
        batch, expected = self.sent[-age]
        if age <= REMEMBERED:
            self.check(self.core.exchange(batch, timeout_s=TIMEOUT_S).replies, expected)
            return
        self.check_refused(batch)

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), operation=operations())
    def send_overtaken(self, data: st.DataObject, operation: PsOperation) -> None:
        sequence = data.draw(st.integers(1, self.sequence))
        batch = Batch(CLIENT, self.core.store_incarnation, sequence, (operation,))
        if batch.mutates and sequence not in [each.sequence for each, _ in self.sent]:
            self.check_refused(batch)

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        listed = {each.spec.name: each for each in self.core.list_variables(timeout_s=TIMEOUT_S)}
        assert listed.keys() == self.model.variables.keys()
        for name, variable in self.model.variables.items():
            assert (listed[name].version, listed[name].initialized) == (variable.version, variable.value is not None)
            if variable.value is not None:
                read = Batch(CLIENT, self.core.store_incarnation, 0, (Read(name),))
                (reply,) = self.core.exchange(read, timeout_s=TIMEOUT_S).replies
                assert isinstance(reply, Result)
                np.testing.assert_array_equal(reply.tensor, variable.value)
        used = sum(variable.spec.size_bytes for variable in self.model.variables.values())
        assert self.core.status(timeout_s=TIMEOUT_S).variable_bytes == used

    def expected(self, operation: PsOperation) -> Result | None:
        try:
            return self.model.run(operation)
        except Refused:
            return None

    def check(self, replies: tuple[Reply, ...], expected: list[Result | None]) -> None:
        assert len(replies) == len(expected)
        for reply, result in zip(replies, expected, strict=True):
            if result is None:
                assert isinstance(reply, ShardscopeError)
                continue
            assert isinstance(reply, Result), reply
            assert (reply.version, reply.initialized, reply.spec) == (result.version, result.initialized, result.spec)
            assert (reply.tensor is None) == (result.tensor is None)
            if reply.tensor is not None and result.tensor is not None:
                assert reply.tensor.dtype == result.tensor.dtype
                np.testing.assert_array_equal(reply.tensor, result.tensor)
                reply.tensor[...] = 99  # it is the receiver's own

    def check_refused(self, batch: Batch) -> None:
        try:
            self.core.exchange(batch, timeout_s=TIMEOUT_S)
        except FailedPreconditionError:
            return
        raise AssertionError("a forgotten or overtaken batch was answered")


StoreMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestStore = StoreMachine.TestCase
