"""Small programs of accumulators, queues, queue runners, the global step and synchronous training, and what they note.

``recorded`` runs one with any module that has TensorFlow 1's names. To record all again (needs tensorflow), from the
root of the repository; each is recorded in two processes, whose records have to be equal:

    python -m tests.conformance.reference.sync_training tests/conformance/reference/traces/sync_training.jsonl

What the records say is in ``sync_training.md``. Every program is run by one thread, in a graph of its own: where
TensorFlow would let workers race, the program runs one operation after the other, and what waits for ever is run with a
time limit. Of an error the class, the operation and the message are noted, without places in files.
"""

from __future__ import annotations

from typing import Any

from tests.conformance.reference.sync_training import (  # noqa: F401 - which add their programs
    accumulator_errors,
    dense_accumulators,
    global_steps,
    queue_errors,
    queue_runners,
    queues,
    sparse_accumulators,
    sync_calls,
    sync_graphs,
    sync_hooks,
    sync_models,
    sync_rounds,
)
from tests.conformance.reference.sync_training.notes import PROGRAMS, Notes

__all__ = ["PROGRAMS", "recorded"]


def recorded(tf: Any, name: str) -> dict[str, Any]:
    """Returns what a program notes with one implementation of TensorFlow 1's names."""
    tf.reset_default_graph()
    with tf.Graph().as_default() as graph:
        notes = Notes(tf, graph)
        try:
            PROGRAMS[name](tf, notes)
        finally:
            notes.close()
    return {"program": name, "notes": notes.noted}
