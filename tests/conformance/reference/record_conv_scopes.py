"""Runs ``examples/tf1/conv_scopes.py`` with TensorFlow, its import changed, and writes down the losses that it prints.

    python record_conv_scopes.py traces/conv_scopes.json
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

EXAMPLES = Path(__file__).parents[3] / "examples"
STEPS = 20
FLAGS = ("--constant_start", "--data_dir=digits", f"--train_steps={STEPS}", f"--lines={STEPS}")


def losses_of(printed: str) -> list[float]:
    """Returns the loss of each step, from what the program prints."""
    return [float(each) for each in re.findall(r"batch loss (\S+)", printed)]


def main(target: Path) -> None:
    program = (EXAMPLES / "tf1" / "conv_scopes.py").read_text(encoding="utf-8")
    ours = "import worker_client.compat.v1 as tf\n"
    assert program.count(ours) == 1
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "tf1"
        folder.mkdir()
        (folder / "program.py").write_text(program.replace(ours, "import tensorflow.compat.v1 as tf\n"), encoding="utf-8")
        (folder / "image_data.py").symlink_to(EXAMPLES / "tf1" / "image_data.py")
        command = [sys.executable, str(folder / "program.py"), *FLAGS]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    losses = losses_of(printed)
    assert len(losses) == STEPS
    target.write_text(json.dumps(losses) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
