"""Records what the programs note with TensorFlow; see the package."""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow.compat.v1 as tf  # noqa: E402 - reads the environment

from tests.conformance.reference import tutorials  # noqa: E402

tf.disable_v2_behavior()
tf.enable_resource_variables()  # of which no step reads what it has begun to change
lines = [json.dumps(tutorials.recorded(tf, name)) for name in tutorials.PROGRAMS]
Path(sys.argv[1]).write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
