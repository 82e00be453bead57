"""``tf.summary``: operations that make summaries, and event files for TensorBoard, which tensorboardX writes."""

from __future__ import annotations

from typing import Any

from worker_client.summaries.file_writer import FileWriter, FileWriterCache
from worker_client.summaries.ops import histogram, image, merge, merge_all, scalar, text
from worker_client.summaries.protos import message_type
from worker_client.values.left_out import getattr_of

_MESSAGES = ("Event", "SessionLog", "Summary", "SummaryDescription", "TaggedRunMetadata")

__all__ = [
    "FileWriter",
    "FileWriterCache",
    "histogram",
    "image",
    "merge",
    "merge_all",
    "scalar",
    "text",
]
__all__ += list(_MESSAGES)

_missing = getattr_of("summary")


def __getattr__(name: str) -> Any:  # messages, whose library is imported when the first of them is asked for
    return message_type(name) if name in _MESSAGES else _missing(name)
