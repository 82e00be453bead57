"""The manifest of a checkpoint: which variables are in which part, where, and the checksums of all bytes.

A part is a safetensors file that one ps task has written. Beside it, while the checkpoint is being written, lies its
entry of the manifest as a file; ``publish`` puts the entries together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.files.spec_json import ManifestError, decode_checked, decode_spec, encode_checked, encode_spec
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
    if content.get("format") != _FORMAT:
        raise ManifestError(f"it is no checkpoint of Shardscope's, but says it is {content.get('format')!r}")
    version, features = content.get("format_version"), content.get("required_features") or []
    unknown = [each for each in features if each not in _KNOWN_FEATURES]
    if version != _VERSION or unknown:
        needs = f"what this version does not know ({', '.join(map(str, unknown))})" if unknown else "a newer version"
        raise ManifestError(
            f"it was written by a newer version of Shardscope (format {version}, this one reads {_VERSION}) and needs "
            f"{needs}; use that version"
        )
    try:
        if content["block_bytes"] != BLOCK_BYTES:
            raise ManifestError(f"its blocks have {content['block_bytes']} bytes, not {BLOCK_BYTES}")
        return CheckpointManifest(
            name=content["name"],
            save=UUID(content["save"]),
            saved_at_s=content["saved_at_s"],
            parts=tuple([_decode_part(part) for part in content["parts"]]),
            step=content["step"],
            metrics={name: float(value) for name, value in content.get("metrics", {}).items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError, InvalidArgumentError) as error:
        raise ManifestError(f"an entry cannot be understood ({error})") from error


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
    except (ValueError, KeyError, TypeError, AttributeError, InvalidArgumentError) as error:
        raise ManifestError(f"an entry cannot be understood ({error})") from error


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


def _decode_part(content: dict[str, Any]) -> SavedPart:
    return SavedPart(
        file=content["file"],
        task=content["task"],
        size_bytes=content["size_bytes"],
        header_bytes=content["header_bytes"],
        header_crc32=content["header_crc32"],
        position=content["position"],
        variables=tuple([_decode_variable(each) for each in content["variables"]]),
    )


def _encode_variable(variable: SavedVariable) -> dict[str, Any]:
    return {
        **encode_spec(variable.spec, variable.declared),
        "version": variable.version,
        "initialized": variable.initialized,
        "offset": variable.offset,
        "crc32": list(variable.checksums),
    }


def _decode_variable(content: dict[str, Any]) -> SavedVariable:
    spec, declared = decode_spec(content)
    checksums = tuple(content["crc32"])
    num_blocks = -(-spec.size_bytes // BLOCK_BYTES) if content["initialized"] else 0
    if len(checksums) != num_blocks:
        raise ValueError(f"variable {spec} has {len(checksums)} checksums instead of {num_blocks}")
    return SavedVariable(spec, content["version"], content["initialized"], content["offset"], checksums, declared)
