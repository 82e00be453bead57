"""Records SavedModels that Keras 3 and tf_keras write with TensorFlow (needs tensorflow, keras and tf_keras).

    python record_keras_models.py traces/keras_models.tar.xz

Which Keras ``tf.keras`` is, is settled when a process starts, so that it starts one for each. Of a SavedModel only the
variables are kept. The archive is as that of ``record_checkpoints.py``, and beside that ``expected.json`` has of each
variable of the model the full name and the elements, as the model itself gives them.
"""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

FLAVOURS = {"keras": "0", "tf_keras": "1"}


def record(folder: Path) -> None:
    """Trains a small model for one step, and saves it in each way that this Keras has."""
    import numpy as np
    import tensorflow as tf

    tf.keras.utils.set_random_seed(1)
    given = tf.keras.Input((3,))
    body = tf.keras.layers.Dense(4, activation="relu", name="body")(given)
    norm = tf.keras.layers.BatchNormalization(name="norm")(body)
    model = tf.keras.Model(given, tf.keras.layers.Dense(2, name="head")(norm))
    model.compile("adam", "mse")
    model.fit(np.ones((4, 3), np.float32), np.zeros((4, 2), np.float32), verbose=0)
    ways = {"export": model.export, "saved_model": lambda path: tf.saved_model.save(model, path)}
    if os.environ["TF_USE_LEGACY_KERAS"] == "1":
        ways["save"] = model.save
    variables = {
        getattr(each, "path", each.name.removesuffix(":0")): np.asarray(each).tobytes().hex() for each in model.variables
    }
    for way, save in ways.items():
        save(str(folder / way / "model"))
        for each in (folder / way).rglob("*"):
            if each.is_file() and each.parent.name != "variables":
                each.unlink()
        answer = {"open": "model", "tensors": {}, "variables": variables}
        (folder / way / "expected.json").write_text(json.dumps(answer), encoding="utf-8")


def main(path: str) -> None:
    """Writes the archive."""
    with lzma.open(path, "wb", preset=9) as compressed, tempfile.TemporaryDirectory() as root:
        for flavour, is_legacy in FLAVOURS.items():
            folder = Path(root, flavour)
            folder.mkdir()
            environment = {**os.environ, "TF_USE_LEGACY_KERAS": is_legacy, "TF_CPP_MIN_LOG_LEVEL": "3"}
            subprocess.run([sys.executable, __file__, "--into", str(folder)], env=environment, check=True)
        with tarfile.open(fileobj=compressed, mode="w") as archive:
            for each in sorted(Path(root).rglob("*")):
                if each.is_file():
                    way = each.relative_to(root)
                    member = archive.gettarinfo(str(each), "-".join([way.parts[0], str(Path(*way.parts[1:]))]))
                    member.uid = member.gid = member.mtime = 0
                    member.uname = member.gname = ""
                    with each.open("rb") as file:
                        archive.addfile(member, file)


if __name__ == "__main__":
    if sys.argv[1] == "--into":
        record(Path(sys.argv[2]))
    else:
        main(sys.argv[1])
