"""Records what TensorFlow makes of the programs of ``network_programs`` (needs tensorflow and tf_keras).

    TF_USE_LEGACY_KERAS=1 python record_networks.py traces/networks.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import tensorflow.compat.v1 as tf

from network_programs import PROGRAMS
from network_results import gradients, recorded


def main(path: str) -> None:
    """Records the answers of TensorFlow."""
    tf.disable_v2_behavior()
    records = []
    for program in PROGRAMS:
        record = recorded(tf, program)
        has_value = isinstance(record.get("runs"), list)
        found = gradients(tf, program) if has_value else None
        records.append(record if found is None else {**record, "gradients": found})
    Path(path).write_text("[\n" + ",\n".join(map(json.dumps, records)) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
