"""The manifest of a snapshot: what is in its files, and their checksums."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ps_protocol.codec.tensor_codec import dtype_name, parse_layout
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import PartitionSlice, VariableSpec
from ps_protocol.optimizer_constraints import ConstraintSpec
from ps_protocol.optimizer_schedules import ScheduleSpec
from ps_protocol.optimizer_spec import OnNonfinite, OptimizerSpec, SparseMode

FORMAT_VERSION: Final = 1


class ManifestError(ValueError):
    """This version cannot read the manifest; the message says why."""


@dataclass(frozen=True, slots=True)
class StoredValue:
    """One variable.

    Attributes:
        spec: What is fixed about it.
        version: Updates applied to it.
        initialized: Whether it has a value.
        offset: Where in the file of values its bytes begin; 0 without a value.
        crc32: Of its bytes.
        declared: The spec that was declared, if the value has another layout now.
    """

    spec: VariableSpec
    version: int
    initialized: bool
    offset: int
    crc32: int
    declared: VariableSpec | None = None


@dataclass(frozen=True, slots=True)
class FileSummary:
    """One file, or its beginning: size in bytes and CRC-32."""

    size_bytes: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A snapshot.

    Attributes:
        position: Newest record whose effect is in it.
        taken_at_s: When, in seconds since the epoch.
        variables: In the order of the image.
        values_bytes: Size of the file of values.
        values_header: The beginning of that file, before the first value.
        ledger: The file of the ledger.
    """

    position: int
    taken_at_s: float
    variables: tuple[StoredValue, ...]
    values_bytes: int
    values_header: FileSummary
    ledger: FileSummary


def encode_manifest(manifest: Manifest) -> bytes:
    """Returns the file's bytes: JSON, always the same for the same manifest."""
    content = {
        "format_version": FORMAT_VERSION,
        "position": manifest.position,
        "taken_at_s": manifest.taken_at_s,
        "values": {"size_bytes": manifest.values_bytes, "header": _encode_summary(manifest.values_header)},
        "ledger": _encode_summary(manifest.ledger),
        "variables": [_encode_variable(each) for each in manifest.variables],
    }
    return _with_checksum(content)


def decode_manifest(data: bytes) -> Manifest:
    """Returns the manifest that the file's bytes hold.

    Raises:
        ManifestError: They were changed, or a newer version wrote them.
    """
    try:
        document = json.loads(data)
        content = document["content"]
        version = content["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"it is not what was written ({error})") from error
    if _with_checksum(content) != data:
        raise ManifestError("its checksum does not fit what it says")
    if version != FORMAT_VERSION:
        raise ManifestError(
            f"it has the format {version}, but this version reads {FORMAT_VERSION}: run the version that wrote it"
        )
    try:
        return _decode_content(content)
    except (ValueError, KeyError, TypeError, InvalidArgumentError) as error:
        raise ManifestError(f"an entry cannot be understood ({error})") from error


def _with_checksum(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, indent=1)
    document = {"crc32": zlib.crc32(text.encode("ascii")), "content": content}
    return (json.dumps(document, indent=1) + "\n").encode("ascii")


def _encode_summary(summary: FileSummary) -> dict[str, int]:
    return {"size_bytes": summary.size_bytes, "crc32": summary.crc32}


def _encode_variable(variable: StoredValue) -> dict[str, Any]:
    spec, declared = variable.spec, variable.declared
    return {
        "name": spec.name,
        "dtype": dtype_name(spec.dtype),
        "shape": list(spec.shape),
        "slice": None if spec.slice is None else _encode_slice(spec.slice),
        "version": variable.version,
        "initialized": variable.initialized,
        "offset": variable.offset,
        "crc32": variable.crc32,
        **({} if declared is None else {"declared": _encode_layout(declared)}),
        **({"slot_of": spec.slot_of} if spec.slot_of else {}),
        **({} if spec.optimizer is None else {"optimizer": _encode_optimizer(spec.optimizer)}),
    }


def _encode_layout(spec: VariableSpec) -> dict[str, Any]:
    return {"dtype": dtype_name(spec.dtype), "shape": list(spec.shape)}


def _encode_slice(part: PartitionSlice) -> dict[str, Any]:
    return {"full_name": part.full_name, "full_shape": list(part.full_shape), "offset": list(part.offset)}


def _decode_content(content: dict[str, Any]) -> Manifest:
    return Manifest(
        position=content["position"],
        taken_at_s=content["taken_at_s"],
        variables=tuple([_decode_variable(each) for each in content["variables"]]),
        values_bytes=content["values"]["size_bytes"],
        values_header=FileSummary(**content["values"]["header"]),
        ledger=FileSummary(**content["ledger"]),
    )


def _decode_variable(content: dict[str, Any]) -> StoredValue:
    part = None if content["slice"] is None else _decode_slice(content["slice"])
    layout = content.get("declared")
    return StoredValue(
        spec=_decode_spec(content, content, part),
        version=content["version"],
        initialized=content["initialized"],
        offset=content["offset"],
        crc32=content["crc32"],
        declared=None if layout is None else _decode_spec(content, layout, part),
    )


def _decode_spec(content: dict[str, Any], declared: dict[str, Any], part: PartitionSlice | None) -> VariableSpec:
    layout = parse_layout(declared["dtype"], declared["shape"])
    return VariableSpec(
        content["name"],
        layout.dtype,
        layout.shape,
        part,
        content.get("slot_of", ""),
        _decode_optimizer(content["optimizer"]) if "optimizer" in content else None,
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
