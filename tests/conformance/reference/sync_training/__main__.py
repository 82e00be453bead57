"""Records what the programs note with TensorFlow; see the package."""

import json
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def print_lines() -> None:
    """Prints the records of all programs, a line for each."""
    import tensorflow.compat.v1 as tf  # noqa: PLC0415 - reads the environment

    from tests.conformance.reference import sync_training  # noqa: PLC0415

    tf.disable_v2_behavior()
    tf.disable_resource_variables()
    for name in sync_training.PROGRAMS:
        sys.stdout.write(json.dumps(sync_training.recorded(tf, name)) + "\n")
        sys.stdout.flush()


def in_another_process() -> str:
    """Returns the records of all programs, as another process records them."""
    command = [sys.executable, "-m", "tests.conformance.reference.sync_training", "--print"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if sys.argv[1] == "--print":
    print_lines()
else:
    found, again = in_another_process(), in_another_process()
    pairs = zip(found.splitlines(), again.splitlines(), strict=True)
    if differ := [json.loads(one)["program"] for one, other in pairs if one != other]:
        sys.exit(f"not the same in two processes: {', '.join(differ)}")
    Path(sys.argv[1]).write_text(found, encoding="utf-8")
