"""Checkpoints that TensorFlow has written, with what it reads from them."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ARCHIVE = Path(__file__).parent / "conformance" / "reference" / "traces" / "checkpoints.tar.xz"
CASES = (
    *("adam", "sharded", "version_1", "version_1_sharded", "dtypes", "sliced", "many_names", "tensor_lists"),
    *("objects", "saved_model", "version_1_dtypes", "objects_in_shards"),
)


@dataclass(frozen=True)
class Recorded:
    """A checkpoint.

    Attributes:
        folder: Where its files are.
        path: What to open.
        tensors: Of each name, what TensorFlow reads: "dtype", "shape" and, unless it cannot read it, "data".
    """

    folder: Path
    path: Path
    tensors: dict[str, dict[str, Any]]


def extracted(name: str, folder: Path) -> Recorded:
    """Puts the files of a case into a folder."""
    with tarfile.open(ARCHIVE) as archive:
        members = [each for each in archive.getmembers() if each.name.startswith(f"{name}/")]
        archive.extractall(folder, members, filter="data")
    found = json.loads((folder / name / "expected.json").read_text(encoding="utf-8"))
    return Recorded(folder / name, folder / name / found["open"], found["tensors"])


def is_as_recorded(array: np.ndarray[Any, Any], data: Any) -> bool:
    """Whether an array has the elements that were recorded, bit for bit."""
    if isinstance(data, list):
        return [each.hex() for each in array.ravel().tolist()] == data
    if isinstance(data, dict):
        return bool(array.tobytes()[-16:].hex() == data["last"])
    return bool(array.tobytes().hex() == data)
