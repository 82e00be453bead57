"""The manifest of a snapshot: what is in its files, and their checksums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ps_protocol.files.json_fields import Fields, ManifestError
from ps_protocol.files.spec_json import decode_checked, decode_spec, encode_checked, encode_spec
from ps_protocol.operations import VariableSpec

__all__ = ["FileSummary", "Manifest", "ManifestError", "StoredValue", "decode_manifest", "encode_manifest"]

FORMAT_VERSION: Final = 1


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
    return encode_checked(content)


def decode_manifest(data: bytes) -> Manifest:
    """Returns the manifest that the file's bytes hold.

    Raises:
        ManifestError: They were changed, or a newer version wrote them.
    """
    content = decode_checked(data)
    version = content.whole("format_version")
    if version != FORMAT_VERSION:
        raise ManifestError(
            f"it has the format {version}, but this version reads {FORMAT_VERSION}: run the version that wrote it"
        )
    values = content.object("values")
    return Manifest(
        position=content.whole("position"),
        taken_at_s=content.number("taken_at_s"),
        variables=tuple([_decode_variable(each) for each in content.objects("variables")]),
        values_bytes=values.whole("size_bytes"),
        values_header=_decode_summary(values.object("header")),
        ledger=_decode_summary(content.object("ledger")),
    )


def _encode_summary(summary: FileSummary) -> dict[str, int]:
    return {"size_bytes": summary.size_bytes, "crc32": summary.crc32}


def _encode_variable(variable: StoredValue) -> dict[str, Any]:
    return {
        **encode_spec(variable.spec, variable.declared),
        "version": variable.version,
        "initialized": variable.initialized,
        "offset": variable.offset,
        "crc32": variable.crc32,
    }


def _decode_summary(content: Fields) -> FileSummary:
    return FileSummary(content.whole("size_bytes"), content.whole("crc32"))


def _decode_variable(content: Fields) -> StoredValue:
    spec, declared = decode_spec(content)
    return StoredValue(
        spec=spec,
        version=content.whole("version"),
        initialized=content.flag("initialized"),
        offset=content.whole("offset"),
        crc32=content.whole("crc32"),
        declared=declared,
    )
