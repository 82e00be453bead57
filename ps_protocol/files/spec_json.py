"""Specs of variables in manifests of snapshots and checkpoints, and the checksum that such a manifest carries."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Sequence
from typing import Any

from ps_protocol.codec.tensor_codec import dtype_name, parse_layout
from ps_protocol.operations import PartitionSlice, VariableSpec
from ps_protocol.optimizer_constraints import ConstraintSpec
from ps_protocol.optimizer_schedules import ScheduleSpec
from ps_protocol.optimizer_spec import OnNonfinite, OptimizerSpec, SparseMode


class ManifestError(ValueError):
    """This version cannot read the manifest; the message says why."""


def encode_checked(content: dict[str, Any]) -> bytes:
    """Returns a manifest's bytes: JSON with its own checksum, always the same for the same content."""
    text = json.dumps(content, indent=1)
    inside = text.replace("\n", "\n ")  # as JSON has it one level further in; within strings newlines are escaped
    return f'{{\n "crc32": {zlib.crc32(text.encode("ascii"))},\n "content": {inside}\n}}\n'.encode("ascii")


def decode_checked(data: bytes) -> dict[str, Any]:
    """Returns the content that a manifest's bytes hold.

    Raises:
        ManifestError: They are not what was written.
    """
    try:
        content = json.loads(data)["content"]
        is_whole = isinstance(content, dict) and encode_checked(content) == data
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ManifestError(f"it is not what was written ({error})") from error
    if not is_whole:
        raise ManifestError("its checksum does not fit what it says")
    found: dict[str, Any] = content
    return found


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


def decode_spec(content: dict[str, Any]) -> tuple[VariableSpec, VariableSpec | None]:
    """Returns what ``encode_spec`` was given.

    Raises:
        ValueError, KeyError, TypeError, InvalidArgumentError: It is malformed.
    """
    part = None if content["slice"] is None else _decode_slice(content["slice"])
    layout = content.get("declared")
    return _decode_spec(content, content, part), None if layout is None else _decode_spec(content, layout, part)


def _encode_layout(spec: VariableSpec) -> dict[str, Any]:
    return {"dtype": dtype_name(spec.dtype), "shape": list(spec.shape)}


def _encode_slice(part: PartitionSlice) -> dict[str, Any]:
    return {"full_name": part.full_name, "full_shape": list(part.full_shape), "offset": list(part.offset)}


def _decode_spec(content: dict[str, Any], declared: dict[str, Any], part: PartitionSlice | None) -> VariableSpec:
    layout = parse_layout(declared["dtype"], declared["shape"])
    return VariableSpec(
        content["name"],
        layout.dtype,
        layout.shape,
        part,
        content.get("slot_of", ""),
        _decode_optimizer(content["optimizer"]) if "optimizer" in content else None,
        content.get("object_kind", ""),
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


def _decode_optimizer(content: dict[str, Any]) -> OptimizerSpec:
    schedule, constraint = content["schedule"], content["constraint"]
    return OptimizerSpec(
        content["function"],
        _decode_numbers(content["numbers"]),
        SparseMode(content["sparse"]),
        OnNonfinite(content["on_nonfinite"]),
        None if schedule is None else _decode_schedule(schedule),
        None if constraint is None else ConstraintSpec(constraint["name"], _decode_numbers(constraint["numbers"])),
    )


def _decode_schedule(content: dict[str, Any]) -> ScheduleSpec:
    then = None if content["then"] is None else _decode_schedule(content["then"])
    return ScheduleSpec(content["name"], _decode_numbers(content["numbers"]), then)


def _decode_numbers(content: list[float | str]) -> tuple[float, ...]:
    return tuple([float(each) for each in content])


def _decode_slice(content: dict[str, Any]) -> PartitionSlice:
    return PartitionSlice(content["full_name"], tuple(content["full_shape"]), tuple(content["offset"]))
