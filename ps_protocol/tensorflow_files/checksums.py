"""CRC-32C as TensorFlow's files have it: masked, for what it covers may hold checksums itself."""

from __future__ import annotations

from typing import Final

_MASK_DELTA: Final = 0xA282EAD8


def masked(crc: int) -> int:
    """Returns what stands in a file for a CRC-32C (``crc32c.h`` of LevelDB, section Mask)."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def unmasked(stored: int) -> int:
    """Returns the CRC-32C that stands in a file as ``stored``."""
    rotated = (stored - _MASK_DELTA) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF
