"""Operations as messages of the contract, and back: one row with a pair of functions for each kind.

What is decoded comes from another process. Whatever is malformed in it is an ``InvalidArgumentError`` that says what.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ps_protocol.codec import tensor_codec
from ps_protocol.codec.spec_codec import (
    TakeTensor,
    decode_enum,
    decode_initializer,
    decode_spec,
    encode_initializer_into,
    encode_spec_into,
)
from ps_protocol.codec.tensor_codec import parse_wire
from ps_protocol.errors import InvalidArgumentError
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
    ScatterRule,
    Update,
    UpdateRule,
    WireDType,
)
from ps_protocol.shared_objects import Act, Look
from ps_protocol.training.round_messages import Decision, Part
from ps_protocol.training.round_operations import COUNT_ROUNDS, STAGE_NUMBERS, UNKNOWN, Commit, Stage, StagedStep
from ps_protocol.v1 import batch_pb2, tensor_pb2

_EXACT = WireDType.EXACT
_NO_NUMBERS = np.empty(0, np.float64)
_LONGEST_WAIT_MS = 2**32 - 1
_UPDATE_RULES = {int(rule): rule for rule in UpdateRule}
_SCATTER_RULES = {int(rule): rule for rule in ScatterRule}


def encode_operation_into(message: batch_pb2.Operation, operation: PsOperation, buffers: list[memoryview]) -> None:
    """Fills an empty message, an element of another one, and appends the bytes of the operation's tensors.

    Raises:
        InvalidArgumentError: A tensor or the variable has a dtype that cannot be sent.
    """
    message.name = operation.name
    codec = CODECS[type(operation)]
    try:
        of_kind = getattr(message, codec.field)
        of_kind.SetInParent()  # else a message without contents would be left out
        codec.encode(of_kind, operation, buffers)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{operation.name}: {error.message}", variable=operation.name) from error


def decode_operation(message: batch_pb2.Operation, take: TakeTensor) -> PsOperation:
    """Returns the operation that a message holds; ``take`` gives it its tensors.

    Raises:
        InvalidArgumentError: The message is malformed; the error names the variable.
    """
    name, kind = message.name, message.WhichOneof("kind")
    if not name:
        raise InvalidArgumentError("an operation lacks the name of its variable")
    if kind is None:
        raise InvalidArgumentError(
            f"{name}: the operation lacks its kind, or has one that this version does not know", variable=name
        )
    try:
        return _DECODERS[kind](name, getattr(message, kind), take)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{name}: in {kind}, {error.message}", variable=name) from error


def _encode_declare(message: batch_pb2.Declare, operation: Declare, buffers: list[memoryview]) -> None:
    encode_spec_into(message.spec, operation.spec)
    if operation.initializer is not None:
        encode_initializer_into(message.initializer, operation.initializer, buffers)


def _decode_declare(name: str, message: batch_pb2.Declare, take: TakeTensor) -> Declare:
    spec = decode_spec(message.spec)
    if spec.name != name:
        raise InvalidArgumentError(f"the spec names another variable, {spec.name!r}")
    initializer = decode_initializer(message.initializer, take) if message.HasField("initializer") else None
    return Declare(spec, initializer)


def _encode_initialize(message: batch_pb2.Initialize, operation: Initialize, buffers: list[memoryview]) -> None:
    message.overwrite = operation.overwrite
    encode_initializer_into(message.initializer, operation.initializer, buffers)


def _decode_initialize(name: str, message: batch_pb2.Initialize, take: TakeTensor) -> Initialize:
    return Initialize(name, decode_initializer(message.initializer, take), message.overwrite)


def _encode_read(message: batch_pb2.Read, operation: Read, _buffers: list[memoryview]) -> None:
    if operation.unless_version is not None:
        if not 0 <= operation.unless_version < 2**64:
            raise InvalidArgumentError(f"{operation.unless_version} is no version")
        message.unless_version = operation.unless_version
    if operation.wire is not _EXACT:
        message.wire = tensor_pb2.WireDType.ValueType(operation.wire)


def _decode_read(name: str, message: batch_pb2.Read, _take: TakeTensor) -> Read:
    unless_version = message.unless_version if message.HasField("unless_version") else None
    return Read(name, unless_version, parse_wire(message.wire))


def _encode_update(message: batch_pb2.Update, operation: Update, buffers: list[memoryview]) -> None:
    message.rule = batch_pb2.Update.Rule.ValueType(operation.rule)
    buffers.append(tensor_codec.encode_into(message.value, operation.value, operation.wire, operation.encoded))


def _decode_update(name: str, message: batch_pb2.Update, take: TakeTensor) -> Update:
    rule, value = decode_enum(_UPDATE_RULES, message.rule, "rule"), take(message.value)
    return Update(name, rule, value, parse_wire(message.value.wire))


def _encode_replace(message: batch_pb2.Replace, operation: Replace, buffers: list[memoryview]) -> None:
    buffers.append(tensor_codec.encode_into(message.value, operation.value))
    message.keeps_shape = operation.keeps_shape


def _decode_replace(name: str, message: batch_pb2.Replace, take: TakeTensor) -> Replace:
    return Replace(name, take(message.value), message.keeps_shape)


def _encode_scatter(message: batch_pb2.Scatter, operation: Scatter, buffers: list[memoryview]) -> None:
    message.rule = batch_pb2.Scatter.Rule.ValueType(operation.rule)
    buffers.append(tensor_codec.encode_into(message.indices, operation.indices))
    buffers.append(tensor_codec.encode_into(message.updates, operation.updates, operation.wire))
    message.index_depth = operation.index_depth


def _decode_scatter(name: str, message: batch_pb2.Scatter, take: TakeTensor) -> Scatter:
    rule = decode_enum(_SCATTER_RULES, message.rule, "rule")
    indices, updates = take(message.indices), take(message.updates)
    return Scatter(name, rule, indices, updates, message.index_depth or 1, parse_wire(message.updates.wire))


def _encode_count_up_to(message: batch_pb2.CountUpTo, operation: CountUpTo, _buffers: list[memoryview]) -> None:
    if not -(2**63) <= operation.limit < 2**63:
        raise InvalidArgumentError(f"the limit {operation.limit} to count to has more than 64 bits")
    message.limit = operation.limit


def _encode_apply(message: batch_pb2.Apply, operation: Apply, buffers: list[memoryview]) -> None:
    message.function, message.state = operation.function, operation.state
    message.slots.extend(operation.slots)
    last = len(operation.operands) - 1
    for index, operand in enumerate(operation.operands):
        wire = operation.wire if index == last else _EXACT
        buffers.append(tensor_codec.encode_into(message.operands.add(), operand, wire))
    if operation.numbers.size:
        buffers.append(tensor_codec.encode_into(message.numbers, operation.numbers))


def _decode_apply(name: str, message: batch_pb2.Apply, take: TakeTensor) -> Apply:
    operands = tuple([take(operand) for operand in message.operands])
    wire = parse_wire(message.operands[-1].wire) if operands else _EXACT
    numbers = _decode_numbers(message.numbers, take) if message.HasField("numbers") else _NO_NUMBERS
    return Apply(name, _function(message.function), tuple(message.slots), message.state, operands, numbers, wire)


def _encode_reduce(message: batch_pb2.Reduce, operation: Reduce, buffers: list[memoryview]) -> None:
    message.function = operation.function
    buffers.extend([tensor_codec.encode_into(message.operands.add(), operand) for operand in operation.operands])
    buffers.append(tensor_codec.encode_into(message.numbers, operation.numbers))


def _decode_reduce(name: str, message: batch_pb2.Reduce, take: TakeTensor) -> Reduce:
    operands = tuple([take(operand) for operand in message.operands])
    return Reduce(name, _function(message.function), operands, _decode_numbers(message.numbers, take))


def _function(name: str) -> str:
    if not name:
        raise InvalidArgumentError("the name of the function is missing")
    return name


def _decode_numbers(message: tensor_pb2.TensorHeader, take: TakeTensor) -> Array:
    numbers = take(message)
    if message.dtype != "float64" or len(message.shape) != 1:
        raise InvalidArgumentError(
            f"the numbers are {message.dtype}{list(message.shape)}; they should be float64 of one dimension"
        )
    return numbers


def _encode_gather(message: batch_pb2.Gather, operation: Gather, buffers: list[memoryview]) -> None:
    buffers.append(tensor_codec.encode_into(message.indices, operation.indices))
    message.index_depth = operation.index_depth
    if operation.wire is not _EXACT:
        message.wire = tensor_pb2.WireDType.ValueType(operation.wire)


def _decode_gather(name: str, message: batch_pb2.Gather, take: TakeTensor) -> Gather:
    return Gather(name, take(message.indices), message.index_depth or 1, parse_wire(message.wire))


def _encode_act(message: batch_pb2.Act, operation: Act, buffers: list[memoryview]) -> None:
    message.kind = operation.kind
    buffers.append(tensor_codec.encode_into(message.event, operation.event))
    buffers.extend([tensor_codec.encode_into(message.tensors.add(), each) for each in operation.tensors])


def _decode_act(name: str, message: batch_pb2.Act, take: TakeTensor) -> Act:
    kind, event = _object_kind(message.kind), _json_bytes(message.event, take, "event")
    return Act(name, kind, event, tuple([take(each) for each in message.tensors]))


def _encode_look(message: batch_pb2.Look, operation: Look, buffers: list[memoryview]) -> None:
    message.kind = operation.kind
    buffers.append(tensor_codec.encode_into(message.question, operation.question))
    message.wait_ms = min(max(0, round(operation.wait_s * 1000)), _LONGEST_WAIT_MS)


def _decode_look(name: str, message: batch_pb2.Look, take: TakeTensor) -> Look:
    question = _json_bytes(message.question, take, "question")
    return Look(name, _object_kind(message.kind), question, message.wait_ms / 1000)


def _object_kind(kind: str) -> str:
    if not kind:
        raise InvalidArgumentError("the kind of the object is missing")
    return kind


def _json_bytes(message: tensor_pb2.TensorHeader, take: TakeTensor, what: str) -> Array:
    data = take(message)
    if message.dtype != "uint8" or len(message.shape) != 1:
        raise InvalidArgumentError(
            f"the {what} is {message.dtype}{list(message.shape)}; it should be uint8 of one dimension"
        )
    return data


def _encode_stage(message: batch_pb2.Stage, operation: Stage, buffers: list[memoryview]) -> None:
    message.stamp = operation.stamp
    if operation.packs_numbers:
        buffers.append(tensor_codec.encode_into(message.numbers, operation.tensors[0]))
    else:
        message.seat, message.ticket, message.round = operation.seat, operation.ticket, operation.round
        message.since, message.slots = operation.since, operation.slots
    for step in operation.steps:
        of_step = message.steps.add(name=step.name)
        apply = Apply(step.name, step.function, step.slots, step.state, step.operands, step.numbers)
        _encode_apply(of_step.apply, apply, buffers)


def _decode_stage(name: str, message: batch_pb2.Stage, take: TakeTensor) -> Stage:
    counts = [message.seat, message.ticket, message.round, message.since, message.slots]
    packs_numbers = message.HasField("numbers")
    if packs_numbers:
        numbers, header = take(message.numbers), message.numbers
        if header.dtype != STAGE_NUMBERS.name or list(header.shape) != [len(counts)] or any(counts):
            raise InvalidArgumentError(
                f"its numbers are {header.dtype}{list(header.shape)}, beside {counts}; they should be "
                f"{STAGE_NUMBERS.name}[{len(counts)}], or in the header"
            )
        counts = numbers.tolist() or counts  # nothing is taken while the layouts are noted
    steps = []
    for of_step in message.steps:
        apply = _decode_apply(of_step.name, of_step.apply, take)
        is_whole = (apply.state and apply.operands) or apply.function == COUNT_ROUNDS
        if not apply.name or not is_whole:
            raise InvalidArgumentError("a step lacks its variable, its count of steps or its gradient")
        steps.append(StagedStep(apply.name, apply.function, apply.slots, apply.state, apply.operands, apply.numbers))
    if not message.stamp or not (packs_numbers or message.slots):
        raise InvalidArgumentError("the stamp, or the number of slots, is missing")
    seat, ticket, number, since, slots = counts
    return Stage(name, message.stamp, seat, ticket, number, since, slots, tuple(steps), packs_numbers)


def _encode_commit(message: batch_pb2.Commit, operation: Commit, _buffers: list[memoryview]) -> None:
    if operation.decided_by:
        message.decided_by = operation.decided_by
        for staged in operation.staged:
            message.parts.add(staged=staged)
    else:
        message.round = operation.decision.round
        for part, staged in zip(operation.decision.parts, operation.staged, strict=True):
            message.parts.add(seat=part.seat, ticket=part.ticket, round=part.round, staged=staged)
    message.variables.extend(operation.variables)
    message.means_of_present_rows = operation.means_of_present_rows


def _decode_commit(name: str, message: batch_pb2.Commit, _take: TakeTensor) -> Commit:
    staged = tuple([part.staged for part in message.parts])
    if not staged or "" in staged:
        raise InvalidArgumentError("it has no parts, or a part lacks the name of the variable that has it")
    variables, of_present = tuple(message.variables), message.means_of_present_rows
    if message.decided_by:
        if message.round:
            raise InvalidArgumentError("it names a round, and a group that is to say which one")
        return Commit(name, UNKNOWN, staged, variables, of_present, message.decided_by)
    parts = tuple([Part(part.seat, part.ticket, part.round) for part in message.parts])
    return Commit(name, Decision(message.round, parts), staged, variables, of_present)


@dataclass(frozen=True, slots=True)
class OperationCodec:
    """The messages of a kind of operation.

    Attributes:
        field: Of ``Operation.kind`` in ``batch.proto``.
        encode: Fills the empty message of that field, and appends the bytes of the operation's tensors.
        decode: Makes the operation from the variable's name, such a message, and a function that gives it its tensors.
    """

    field: str
    encode: Callable[[Any, Any, list[memoryview]], None]
    decode: Callable[[str, Any, TakeTensor], PsOperation]


CODECS: Final[dict[type[Any], OperationCodec]] = {
    Declare: OperationCodec("declare", _encode_declare, _decode_declare),
    Initialize: OperationCodec("initialize", _encode_initialize, _decode_initialize),
    Read: OperationCodec("read", _encode_read, _decode_read),
    Update: OperationCodec("update", _encode_update, _decode_update),
    Replace: OperationCodec("replace", _encode_replace, _decode_replace),
    Scatter: OperationCodec("scatter", _encode_scatter, _decode_scatter),
    CountUpTo: OperationCodec(
        "count_up_to", _encode_count_up_to, lambda name, message, _: CountUpTo(name, message.limit)
    ),
    Apply: OperationCodec("apply", _encode_apply, _decode_apply),
    Reduce: OperationCodec("reduce", _encode_reduce, _decode_reduce),
    Gather: OperationCodec("gather", _encode_gather, _decode_gather),
    Act: OperationCodec("act", _encode_act, _decode_act),
    Look: OperationCodec("look", _encode_look, _decode_look),
    Stage: OperationCodec("stage", _encode_stage, _decode_stage),
    Commit: OperationCodec("commit", _encode_commit, _decode_commit),
    Describe: OperationCodec("describe", lambda *_: None, lambda name, *_: Describe(name)),
}
_DECODERS: Final = {codec.field: codec.decode for codec in CODECS.values()}
