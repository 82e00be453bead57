"""Specs of variables in manifests of snapshots and checkpoints, and the checksum that such a manifest carries."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Sequence
from typing import Any, Final

from ps_protocol.codec.tensor_codec import dtype_name, parse_layout
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.files.json_fields import Fields, ManifestError
from ps_protocol.operations import PartitionSlice, VariableSpec
from ps_protocol.optimizer_constraints import ConstraintSpec
from ps_protocol.optimizer_schedules import ScheduleSpec
from ps_protocol.optimizer_spec import OnNonfinite, OptimizerSpec, SparseMode

_BEGINNING: Final = b'{\n "crc32": %d,\n "content": '
_END: Final = b"\n}\n"


def encode_checked(content: dict[str, Any]) -> bytes:
    """Returns a manifest's bytes: JSON with its own checksum, always the same for the same content."""
    return _framed(json.dumps(content, indent=1).encode("ascii"))


def _framed(text: bytes) -> bytes:
    """The content one level further in, as JSON has it there; within strings newlines are escaped."""
    return _BEGINNING % zlib.crc32(text) + text.replace(b"\n", b"\n ") + _END


def decode_checked(data: bytes) -> Fields:
    """Returns the content that a manifest's bytes hold.

    Raises:
        ManifestError: They are not what was written.
    """
    try:
        outside = json.loads(data)
        content, crc = outside["content"], outside["crc32"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ManifestError(f"it is not what was written ({error})") from error
    # What is read is what was written, byte for byte: compared without writing it again, which takes much longer.
    beginning = _BEGINNING % crc if type(crc) is int else b""
    text = data[len(beginning) : -len(_END)].replace(b"\n ", b"\n")
    if data != _framed(text):
        raise ManifestError("its checksum does not fit what it says")
    return Fields(content)


def encode_spec(spec: VariableSpec, declared: VariableSpec | None = None) -> dict[str, Any]:
    """Returns a spec as JSON has it.

    Args:
        spec: What the value is like.
        declared: The spec that was declared, if the value has another layout now.
    """
    return {
        "name": spec.name,
        **_encode_layout(spec),
        "slice": None if spec.slice is None else _encode_slice(spec.slice),
        **({} if declared is None else {"declared": _encode_layout(declared)}),
        **({"slot_of": spec.slot_of} if spec.slot_of else {}),
        **({} if spec.optimizer is None else {"optimizer": _encode_optimizer(spec.optimizer)}),
        **({"object_kind": spec.object_kind} if spec.object_kind else {}),
    }


def decode_spec(content: Fields) -> tuple[VariableSpec, VariableSpec | None]:
    """Returns what ``encode_spec`` was given.

    Raises:
        ManifestError: It is malformed.
    """
    part = None if content.is_null("slice") else _decode_slice(content.object("slice"), content.wholes("shape"))
    layout = content.object("declared") if "declared" in content else None
    return _decode_spec(content, content, part), None if layout is None else _decode_spec(content, layout, part)


def _encode_layout(spec: VariableSpec) -> dict[str, Any]:
    return {"dtype": dtype_name(spec.dtype), "shape": list(spec.shape)}


def _encode_slice(part: PartitionSlice) -> dict[str, Any]:
    return {"full_name": part.full_name, "full_shape": list(part.full_shape), "offset": list(part.offset)}


def _decode_spec(content: Fields, declared: Fields, part: PartitionSlice | None) -> VariableSpec:
    try:
        layout = parse_layout(declared.text("dtype"), declared.wholes("shape"))
    except InvalidArgumentError as error:
        raise ManifestError(f"{declared.where} has an impossible dtype or shape: {error.message}") from error
    return VariableSpec(
        content.text("name"),
        layout.dtype,
        layout.shape,
        part,
        content.text("slot_of") if "slot_of" in content else "",
        _decode_optimizer(content.object("optimizer")) if "optimizer" in content else None,
        content.text("object_kind") if "object_kind" in content else "",
    )


def _encode_optimizer(optimizer: OptimizerSpec) -> dict[str, Any]:
    schedule, constraint = optimizer.schedule, optimizer.constraint
    return {
        "function": optimizer.function,
        "numbers": _encode_numbers(optimizer.numbers),
        "sparse": int(optimizer.sparse),
        "on_nonfinite": int(optimizer.on_nonfinite),
        "schedule": None if schedule is None else _encode_schedule(schedule),
        "constraint": None
        if constraint is None
        else {"name": constraint.name, "numbers": _encode_numbers(constraint.numbers)},
    }


def _encode_schedule(schedule: ScheduleSpec) -> dict[str, Any]:
    then = None if schedule.then is None else _encode_schedule(schedule.then)
    return {"name": schedule.name, "numbers": _encode_numbers(schedule.numbers), "then": then}


def _encode_numbers(numbers: Sequence[float]) -> list[float | str]:
    return [each if math.isfinite(each) else str(each) for each in numbers]  # JSON has neither infinities nor NaN


def _decode_optimizer(content: Fields) -> OptimizerSpec:
    try:
        sparse = SparseMode(content.whole("sparse"))
        on_nonfinite = OnNonfinite(content.whole("on_nonfinite"))
    except ManifestError:
        raise
    except ValueError as error:
        raise ManifestError(f"{content.where} has a setting that this version does not know: {error}") from error
    schedule = None if content.is_null("schedule") else _decode_schedule(content.object("schedule"))
    constraint = None if content.is_null("constraint") else content.object("constraint")
    return OptimizerSpec(
        content.text("function"),
        content.numbers("numbers"),
        sparse,
        on_nonfinite,
        schedule,
        None if constraint is None else ConstraintSpec(constraint.text("name"), constraint.numbers("numbers")),
    )


def _decode_schedule(content: Fields) -> ScheduleSpec:
    then = None if content.is_null("then") else _decode_schedule(content.object("then"))
    return ScheduleSpec(content.text("name"), content.numbers("numbers"), then)


def _decode_slice(content: Fields, shape: tuple[int, ...]) -> PartitionSlice:
    full_shape, offset = content.wholes("full_shape"), content.wholes("offset")
    if len(full_shape) != len(shape):
        raise content.wrong("full_shape", f"a list of {len(shape)} numbers, as the shape of the part")
    if len(offset) != len(shape) or [i for i, n, m in zip(offset, shape, full_shape, strict=True) if i + n > m]:
        raise content.wrong("offset", f"where a part {list(shape)} lies in {list(full_shape)}")
    return PartitionSlice(content.text("full_name"), full_shape, offset)
