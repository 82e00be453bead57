"""TensorFlow's own Saver: ``tensorflow_saver BYTES VARIABLES FOLDER``, all in one process. Needs tensorflow.

Prints as JSON how long a save takes until it returns, and until its files are on disk as well, which TensorFlow leaves
to the system; and how long a restore takes. A first save and restore are not counted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads both when it is imported
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import tensorflow as tf

v1: Any = tf.compat.v1


def main() -> None:
    """Measures once."""
    elements, count, folder = int(sys.argv[1]) // 4 // int(sys.argv[2]), int(sys.argv[2]), Path(sys.argv[3])
    v1.disable_eager_execution()
    for number in range(count):
        v1.get_variable(f"value_{number}", [elements], initializer=v1.ones_initializer())
    saver, path = v1.train.Saver(), str(folder / "tensorflow")
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        for _ in range(2):
            saved_s = _seconds(lambda: saver.save(session, path, write_meta_graph=False))
            synced_s = _seconds(lambda: _sync(folder))
            restored_s = _seconds(lambda: saver.restore(session, path))
    print(json.dumps({"save": saved_s, "save_and_sync": saved_s + synced_s, "restore": restored_s}))


def _sync(folder: Path) -> None:
    for file in folder.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())


def _seconds(call: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    call()
    return time.perf_counter() - started_s


if __name__ == "__main__":
    main()
