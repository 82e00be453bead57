"""The manifest of a checkpoint: which variables are in which part, where, and the checksums of all bytes.

A part is a safetensors file that one ps task has written. Beside it, while the checkpoint is being written, lies its
entry of the manifest as a file; ``publish`` puts the entries together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from ps_protocol.files.json_fields import Fields, ManifestError
from ps_protocol.files.spec_json import decode_checked, decode_spec, encode_checked, encode_spec
from ps_protocol.operations import VariableSpec

__all__ = [
    "BLOCK_BYTES",
    "MANIFEST_FILE",
    "CheckpointManifest",
    "ManifestError",
    "SavedPart",
    "SavedVariable",
    "decode_manifest",
    "decode_part",
    "encode_manifest",
    "encode_part",
    "part_file",
]

MANIFEST_FILE: Final = "manifest.json"
BLOCK_BYTES: Final = 4 * 1024**2
"""Bytes of a value under one checksum. Who needs some rows of a value reads and checks no more than their blocks."""

_MAX_CRC: Final = 2**32 - 1
_MOST_SECONDS: Final = 250_000_000_000  # in the year 9892; no calendar goes further than 9999
_FILE: Final = re.compile(r"([0-9a-f]{32}/)?[A-Za-z0-9][A-Za-z0-9_.+=@,-]{0,199}", re.ASCII)

_FORMAT: Final = "shardscope-checkpoint"
_VERSION: Final = 1
_KNOWN_FEATURES: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class SavedVariable:
    """A variable, or a part of one, as one ps task held it.

    Attributes:
        spec: What its value is like.
        version: Updates applied to it.
        initialized: Whether it had a value.
        offset: Where in the file of its part the value begins, in bytes.
        checksums: CRC-32 of each block of the value.
        declared: The spec that was declared, if the value has another layout.
    """

    spec: VariableSpec
    version: int
    initialized: bool
    offset: int = 0
    checksums: tuple[int, ...] = ()
    declared: VariableSpec | None = None


@dataclass(frozen=True, slots=True)
class SavedPart:
    """What one ps task has written.

    Attributes:
        file: Name of the file.
        task: The ps task, as "ps:0".
        size_bytes: Of the file.
        header_bytes: Its beginning, before the first value.
        header_crc32: Of the beginning.
        position: Newest record of the task's log whose effect is in it; 0 of a task that keeps no log.
        variables: By name.
    """

    file: str
    task: str
    size_bytes: int
    header_bytes: int
    header_crc32: int
    position: int
    variables: tuple[SavedVariable, ...]


@dataclass(frozen=True, slots=True)
class CheckpointManifest:
    """A checkpoint.

    Attributes:
        name: Of the checkpoint.
        save: Identity of the save that has made it.
        saved_at_s: When, in seconds since the epoch.
        parts: One for each ps task, in order.
        step: Training step that it belongs to; None if none was given.
        metrics: Numbers that it was saved with, by name, as an accuracy.
    """

    name: str
    save: UUID
    saved_at_s: float
    parts: tuple[SavedPart, ...]
    step: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Of all parts."""
        return sum([part.size_bytes for part in self.parts])


def part_file(index: int, num_parts: int) -> str:
    """Name of the file of one part."""
    return f"part-{index:05}-of-{num_parts:05}.safetensors"


def encode_manifest(manifest: CheckpointManifest, required_features: Sequence[str] = ()) -> bytes:
    """Returns the file's bytes: JSON, always the same for the same manifest."""
    return encode_checked(
        {
            "format": _FORMAT,
            "format_version": _VERSION,
            "required_features": list(required_features),
            "name": manifest.name,
            "step": manifest.step,
            **({"metrics": _encode_metrics(manifest.metrics)} if manifest.metrics else {}),
            "save": str(manifest.save),
            "saved_at_s": manifest.saved_at_s,
            "block_bytes": BLOCK_BYTES,
            "parts": [_encode_part(part) for part in manifest.parts],
        }
    )


def decode_manifest(data: bytes) -> CheckpointManifest:
    """Returns the manifest that the file's bytes hold.

    Raises:
        ManifestError: They were changed, or a newer version wrote them.
    """
    content = decode_checked(data)
    if "format" not in content or content.text("format") != _FORMAT:
        raise ManifestError(f"it is no checkpoint of Shardscope's: {content.wrong('format', repr(_FORMAT))}")
    version, features = content.whole("format_version"), content.texts("required_features")
    unknown = [each for each in features if each not in _KNOWN_FEATURES]
    if version != _VERSION or unknown:
        needs = f"what this version does not know ({', '.join(unknown)})" if unknown else "a newer version"
        raise ManifestError(
            f"it was written by a newer version of Shardscope (format {version}, this one reads {_VERSION}) and needs "
            f"{needs}; use that version"
        )
    if content.whole("block_bytes") != BLOCK_BYTES:
        raise content.wrong("block_bytes", str(BLOCK_BYTES))
    try:
        return CheckpointManifest(
            name=content.text("name"),
            save=_decode_uuid(content, "save"),
            saved_at_s=_decode_time_s(content, "saved_at_s"),
            parts=tuple([_decode_part(part) for part in content.objects("parts")]),
            step=None if content.is_null("step") else content.whole("step"),
            metrics=_decode_metrics(content.object("metrics")) if "metrics" in content else {},
        )
    except RecursionError as error:
        raise ManifestError("one of its entries has too many others in each other") from error


def _decode_uuid(content: Fields, name: str) -> UUID:
    try:
        return UUID(content.text(name))
    except ManifestError:
        raise
    except ValueError:
        raise content.wrong(name, "a UUID") from None


def _decode_time_s(content: Fields, name: str) -> float:
    seconds = content.number(name)
    if not 0 <= seconds <= _MOST_SECONDS:
        raise content.wrong(name, "seconds since 1970")
    return seconds


def _decode_metrics(content: Fields) -> dict[str, float]:
    return {name: content.number(name) for name in content.names()}


def _encode_metrics(metrics: Mapping[str, float]) -> dict[str, float | str]:
    """Numbers by name; what JSON has no number for, such as "nan", as text."""
    return {name: value if math.isfinite(value) else str(value) for name, value in sorted(metrics.items())}


def encode_part(part: SavedPart) -> bytes:
    """Returns the entry of one part as a file of its own."""
    return encode_checked(_encode_part(part))


def decode_part(data: bytes) -> SavedPart:
    """Returns the entry of one part; ManifestError if it was changed."""
    try:
        return _decode_part(decode_checked(data))
    except RecursionError as error:
        raise ManifestError("one of its entries has too many others in each other") from error


def _encode_part(part: SavedPart) -> dict[str, Any]:
    return {
        "file": part.file,
        "task": part.task,
        "size_bytes": part.size_bytes,
        "header_bytes": part.header_bytes,
        "header_crc32": part.header_crc32,
        "position": part.position,
        "variables": [_encode_variable(each) for each in part.variables],
    }


def _decode_part(content: Fields) -> SavedPart:
    size_bytes = content.whole("size_bytes")
    part = SavedPart(
        file=content.text("file"),
        task=content.text("task"),
        size_bytes=size_bytes,
        header_bytes=content.whole("header_bytes", size_bytes),
        header_crc32=content.whole("header_crc32", _MAX_CRC),
        position=content.whole("position"),
        variables=tuple([_decode_variable(each) for each in content.objects("variables")]),
    )
    if _FILE.fullmatch(part.file) is None:
        raise content.wrong("file", "the name of a file beside the manifest")
    _check_places(part, content.path("variables"))
    return part


def _check_places(part: SavedPart, path: str) -> None:
    """Makes sure that each value has bytes of the file for itself."""
    if len({each.spec.name for each in part.variables}) != len(part.variables):
        raise ManifestError(f"{path} has two variables of one name")
    with_bytes = [
        (each.offset, each.spec.size_bytes, index)
        for index, each in enumerate(part.variables)
        if each.initialized and each.spec.size_bytes
    ]
    end = part.header_bytes
    for offset, size_bytes, index in sorted(with_bytes):
        if offset < end:
            raise ManifestError(
                f"{path}[{index}].offset is {offset}, where the header or another value is; it should be {end} or more"
            )
        end = offset + size_bytes
        if end > part.size_bytes:
            raise ManifestError(
                f"{path}[{index}].offset is {offset}, so that its {size_bytes} bytes end behind the file, which has "
                f"{part.size_bytes}"
            )


def _encode_variable(variable: SavedVariable) -> dict[str, Any]:
    return {
        **encode_spec(variable.spec, variable.declared),
        "version": variable.version,
        "initialized": variable.initialized,
        "offset": variable.offset,
        "crc32": list(variable.checksums),
    }


def _decode_variable(content: Fields) -> SavedVariable:
    spec, declared = decode_spec(content)
    checksums, initialized = content.wholes("crc32", _MAX_CRC), content.flag("initialized")
    num_blocks = -(-spec.size_bytes // BLOCK_BYTES) if initialized else 0
    if len(checksums) != num_blocks:
        raise ManifestError(
            f"{content.path('crc32')} has {len(checksums)} checksums; variable {spec} should have {num_blocks}"
        )
    return SavedVariable(spec, content.whole("version"), initialized, content.whole("offset"), checksums, declared)
