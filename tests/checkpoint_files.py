"""Checkpoints that TensorFlow and PyTorch have written, with what they read from them."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ARCHIVE = Path(__file__).parent / "conformance" / "reference" / "traces" / "checkpoints.tar.xz"
KERAS_ARCHIVE = ARCHIVE.with_name("keras_models.tar.xz")
KERAS_CASES = ("keras-export", "keras-saved_model", "tf_keras-export", "tf_keras-saved_model", "tf_keras-save")
TORCH_ARCHIVE = ARCHIVE.with_name("torch_files.tar.xz")
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
        tensors: Of each name, what is read there: "dtype", "shape" and, unless it cannot read it, "data".
    """

    folder: Path
    path: Path
    tensors: dict[str, dict[str, Any]]


def extracted(name: str, folder: Path, archive_path: Path = ARCHIVE) -> Recorded:
    """Puts the files of a case into a folder."""
    with tarfile.open(archive_path) as archive:
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


def answer_of(python: str, *arguments: str) -> dict[str, dict[str, Any]]:
    """Returns what a script of another environment prints, as JSON."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    search = os.environ.get("TORCH_PYTHONPATH")
    environment |= {} if search is None else {"PYTHONPATH": search}
    done = subprocess.run(
        [python, *arguments], capture_output=True, text=True, timeout=150, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found
