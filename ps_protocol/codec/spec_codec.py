"""Variable specs and initializers as messages of the contract, and back.

What is decoded comes from another process. Whatever is malformed in it is an ``InvalidArgumentError`` that says what.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

from ps_protocol.codec import tensor_codec
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.initializer_spec import (
    ConstantKind,
    Distribution,
    FanMode,
    IdentityKind,
    InitializerKind,
    InitializerSpec,
    OrthogonalKind,
    RandomNormalKind,
    RandomUniformKind,
    TruncatedNormalKind,
    ValueKind,
    VarianceScalingKind,
)
from ps_protocol.operations import Array, PartitionSlice, VariableSpec
from ps_protocol.optimizer_constraints import ConstraintSpec
from ps_protocol.optimizer_schedules import ScheduleSpec
from ps_protocol.optimizer_spec import OnNonfinite, OptimizerSpec, SparseMode
from ps_protocol.ps_service import KNOWN_FEATURES
from ps_protocol.v1 import variable_pb2
from ps_protocol.v1.tensor_pb2 import TensorHeader

TakeTensor: TypeAlias = Callable[[TensorHeader], Array]
"""Returns the tensor of the next header; called once for each header of a message, in their order."""

_Enum = TypeVar("_Enum", bound=enum.IntEnum)

_FAN_MODES = {int(mode): mode for mode in FanMode}
_SPARSE_MODES = {int(mode): mode for mode in SparseMode}
_ON_NONFINITE = {int(each): each for each in OnNonfinite}
_DISTRIBUTIONS = {int(distribution): distribution for distribution in Distribution}
_PLAIN_KINDS: dict[type[InitializerKind], tuple[str, tuple[str, ...]]] = {
    ConstantKind: ("constant", ("value",)),
    RandomUniformKind: ("random_uniform", ("minval", "maxval")),
    RandomNormalKind: ("random_normal", ("mean", "stddev")),
    TruncatedNormalKind: ("truncated_normal", ("mean", "stddev")),
    VarianceScalingKind: ("variance_scaling", ("scale", "mode", "distribution")),
    OrthogonalKind: ("orthogonal", ("gain",)),
    IdentityKind: ("identity", ("gain",)),
}
"""Of each kind without a tensor, its name in the message and the fields that both have."""


def decode_uuid(data: bytes, what: str) -> UUID:
    """Returns the UUID of 16 bytes; ``what`` says whose, for the error."""
    if len(data) != 16:
        raise InvalidArgumentError(f"the {what} has {len(data)} bytes; it is a UUID and has 16")
    return _uuid(data)


@lru_cache(maxsize=4096)
def _uuid(data: bytes) -> UUID:
    # Every batch brings the same few: its client's and its store's.
    return UUID(bytes=data)


def decode_enum(members: Mapping[int, _Enum], number: int, what: str) -> _Enum:
    """Returns the member of a number; ``what`` names the field, for the error."""
    member = members.get(number)
    if member is None:
        known = ", ".join(f"{value} ({each.name})" for value, each in members.items())
        raise InvalidArgumentError(f"the {what} is {number}; it should be one of {known}")
    return member


def check_features(required: Collection[str], what: str) -> None:
    """Makes sure that all fields are known without which a message means something else; ``what`` names the message.

    Raises:
        InvalidArgumentError: One is not known.
    """
    unknown = sorted(set(required) - KNOWN_FEATURES) if required else ()
    if unknown:
        raise InvalidArgumentError(
            f"{what} needs {', '.join(map(repr, unknown[:5]))}, which this side does not know and must not "
            f"leave out; use a newer version of shardscope here, or what needs it only when all have been updated"
        )


def encode_spec(spec: VariableSpec) -> variable_pb2.VariableSpec:
    """Returns a spec as a message."""
    message = variable_pb2.VariableSpec()
    encode_spec_into(message, spec)
    return message


def encode_spec_into(message: variable_pb2.VariableSpec, spec: VariableSpec) -> None:
    """Fills an empty message, a field of another one.

    Raises:
        InvalidArgumentError: Values of the spec's dtype cannot be sent.
    """
    message.name = spec.name
    message.dtype = tensor_codec.dtype_name(spec.dtype)
    message.shape.extend(spec.shape)
    if spec.slice is not None:
        part = message.slice
        part.full_name = spec.slice.full_name
        part.full_shape.extend(spec.slice.full_shape)
        part.offset.extend(spec.slice.offset)
    message.slot_of = spec.slot_of
    message.object_kind = spec.object_kind
    if spec.optimizer is not None:
        _encode_optimizer_into(message.optimizer, spec.optimizer)


def decode_spec(message: variable_pb2.VariableSpec) -> VariableSpec:
    """Returns the spec that a message holds.

    Raises:
        InvalidArgumentError: It has no name, an unknown dtype or an impossible shape, or its part does not lie in
            the whole.
    """
    name = message.name
    if not name:
        raise InvalidArgumentError("a variable's spec lacks the name")
    layout = tensor_codec.parse_layout(message.dtype, message.shape)
    part = _decode_slice(message.slice, layout) if message.HasField("slice") else None
    optimizer = _decode_optimizer(message.optimizer) if message.HasField("optimizer") else None
    return VariableSpec(name, layout.dtype, layout.shape, part, message.slot_of, optimizer, message.object_kind)


def encode_initializer_into(
    message: variable_pb2.Initializer, initializer: InitializerSpec, buffers: list[memoryview]
) -> None:
    """Fills an empty message, a field of another one; appends the bytes of a given value to ``buffers``."""
    message.seed = initializer.seed
    message.seed_alone = initializer.seed_alone
    kind = initializer.kind
    if isinstance(kind, ValueKind):
        buffers.append(tensor_codec.encode_into(message.value.tensor, kind.array))
        return
    name, fields = _PLAIN_KINDS[type(kind)]
    target = getattr(message, name)
    for field in fields:
        setattr(target, field, getattr(kind, field))


def decode_initializer(message: variable_pb2.Initializer, take: TakeTensor) -> InitializerSpec:
    """Returns the initializer that a message holds.

    Raises:
        InvalidArgumentError: It has no kind, or an unspecified mode or distribution.
    """
    name = message.WhichOneof("kind")
    if name is None:
        raise InvalidArgumentError("an initializer lacks its kind, or has one that this version does not know")
    return InitializerSpec(_KIND_DECODERS[name](getattr(message, name), take), message.seed, message.seed_alone)


def _encode_optimizer_into(message: variable_pb2.OptimizerSpec, optimizer: OptimizerSpec) -> None:
    message.function = optimizer.function
    message.numbers.extend(optimizer.numbers)
    message.sparse = variable_pb2.OptimizerSpec.SparseMode.ValueType(optimizer.sparse)
    message.on_nonfinite = variable_pb2.OptimizerSpec.OnNonfinite.ValueType(optimizer.on_nonfinite)
    if optimizer.schedule is not None:
        _encode_schedule_into(message.schedule, optimizer.schedule)
    if optimizer.constraint is not None:
        message.constraint.name = optimizer.constraint.name
        message.constraint.numbers.extend(optimizer.constraint.numbers)


def _encode_schedule_into(message: variable_pb2.OptimizerSpec.NamedNumbers, schedule: ScheduleSpec) -> None:
    message.name = schedule.name
    message.numbers.extend(schedule.numbers)
    if schedule.then is not None:
        _encode_schedule_into(message.then, schedule.then)


def _decode_optimizer(message: variable_pb2.OptimizerSpec) -> OptimizerSpec:
    if not message.function:
        raise InvalidArgumentError("the optimizer of a variable's spec lacks the name of its rule")
    return OptimizerSpec(
        message.function,
        tuple(message.numbers),
        decode_enum(_SPARSE_MODES, message.sparse, "sparse mode of an optimizer"),
        decode_enum(_ON_NONFINITE, message.on_nonfinite, "treatment of gradients that are not finite"),
        _decode_schedule(message.schedule) if message.HasField("schedule") else None,
        ConstraintSpec(message.constraint.name, tuple(message.constraint.numbers))
        if message.HasField("constraint")
        else None,
    )


def _decode_schedule(message: variable_pb2.OptimizerSpec.NamedNumbers) -> ScheduleSpec:
    then = _decode_schedule(message.then) if message.HasField("then") else None
    return ScheduleSpec(message.name, tuple(message.numbers), then)


def _decode_slice(message: variable_pb2.PartitionSlice, part: tensor_codec.TensorLayout) -> PartitionSlice:
    if not message.full_name:
        raise InvalidArgumentError("the slice of a variable's spec lacks the name of the whole")
    whole = tensor_codec.parse_layout(tensor_codec.dtype_name(part.dtype), message.full_shape).shape
    if len(message.offset) != len(whole) or len(part.shape) != len(whole):
        raise InvalidArgumentError(
            f"a part with {len(part.shape)} dimensions at an offset with {len(message.offset)} cannot lie in "
            f"{message.full_name!r} with {len(whole)}"
        )
    offset = tuple(message.offset)
    for start, length, limit in zip(offset, part.shape, whole, strict=True):
        if not 0 <= start <= limit - length:
            raise InvalidArgumentError(
                f"a part of shape {list(part.shape)} at offset {list(offset)} does not lie in {message.full_name!r} "
                f"of shape {list(whole)}"
            )
    return PartitionSlice(message.full_name, whole, offset)


def _plain_decoder(
    kind: type[InitializerKind], fields: tuple[str, ...]
) -> Callable[[Any, TakeTensor], InitializerKind]:
    return lambda message, _take: kind(*(getattr(message, field) for field in fields))


def _decode_variance_scaling(
    message: variable_pb2.Initializer.VarianceScaling, _take: TakeTensor
) -> VarianceScalingKind:
    return VarianceScalingKind(
        message.scale,
        decode_enum(_FAN_MODES, message.mode, "mode of a variance scaling initializer"),
        decode_enum(_DISTRIBUTIONS, message.distribution, "distribution of a variance scaling initializer"),
    )


_KIND_DECODERS: dict[str, Callable[[Any, TakeTensor], InitializerKind]] = {
    **{name: _plain_decoder(kind, fields) for kind, (name, fields) in _PLAIN_KINDS.items()},
    "variance_scaling": _decode_variance_scaling,
    "value": lambda message, take: ValueKind(take(message.tensor)),
}
