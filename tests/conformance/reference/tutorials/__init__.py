"""Whole training programs in the form that tutorials and repositories have them, and what they note.

``recorded`` runs one with any module that has TensorFlow 1's names. To record all again (needs tensorflow), from the
root of the repository:

    python -m tests.conformance.reference.tutorials tests/conformance/reference/traces/tutorials.json

Initial values are constants and nothing is drawn, so that all numbers can be compared; where TensorFlow would let two
operations of one run race, the program runs them one after the other.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.conformance.reference.tutorials import loops, models, more_models, papers, checkpoints, checkpoint_loops, more_checkpoints, more_checkpoint_loops  # noqa: F401 - which add their programs
from tests.conformance.reference.tutorials.values import PROGRAMS

NOT_COMPARED = {"cond_context", "global_step_read_op_cache", "ready_for_local_init_op", "ready_op", "savers", "update_ops"}
"""Collections in which TensorFlow has objects of its own, or operations that are made otherwise here."""


def recorded(tf: Any, name: str) -> dict[str, Any]:
    """Returns what a program notes, and which variables and collections its graph has at the end."""
    notes = []
    tf.reset_default_graph()
    with tf.Graph().as_default() as graph:
        PROGRAMS[name](tf, lambda *values: notes.append([plain(each) for each in values]))
        keys = sorted(str(key) for key in graph.get_all_collection_keys() if not str(key).startswith("__"))
        collections = {
            key: [getattr(each, "name", type(each).__name__) for each in graph.get_collection(key)]
            for key in keys
            if key not in NOT_COMPARED and graph.get_collection(key)
        }
        variables = [
            [each.name, each.dtype.base_dtype.name, each.shape.as_list()]
            for each in [*tf.global_variables(), *tf.local_variables()]
        ]
    return {"program": name, "notes": notes, "collections": collections, "variables": variables}


def plain(value: Any) -> Any:
    """Returns a value in the form of JSON: arrays with their dtype, floats with seven digits."""
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        return [str(array.dtype) if array.dtype.kind in "biuf" else "text", _numbers(array.tolist())]
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return _numbers(value)


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    if isinstance(value, bytes):
        return value.decode("latin1")
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.7g}")
    return value if value is None or isinstance(value, bool | int | float | str) else type(value).__name__
