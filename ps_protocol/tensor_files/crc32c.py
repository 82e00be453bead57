"""CRC-32C, with which files of checkpoints are checked."""

from __future__ import annotations

from typing import Any

import google_crc32c
import numpy as np

from ps_protocol.codec.tensor_codec import Buffer


def extended(crc: int, data: Buffer | np.ndarray[Any, Any]) -> int:
    """Returns the CRC-32C of what ``crc`` is of, followed by ``data``; 0 is that of nothing.

    Args:
        crc: Not masked.
        data: Contiguous.
    """
    if not len(data):
        return crc
    # The library takes no buffers that can be changed, but arrays.
    found: int = google_crc32c.extend(crc, data if isinstance(data, bytes) else np.frombuffer(data, np.uint8))
    return found
