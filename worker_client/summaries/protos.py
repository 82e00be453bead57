"""The messages of event files. They are tensorboardX's, which is imported when the first of them is needed."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, Final

_MODULES: Final = {
    "Summary": "summary_pb2",
    "SummaryDescription": "summary_pb2",
    "SummaryMetadata": "summary_pb2",
    "HistogramProto": "summary_pb2",
    "Event": "event_pb2",
    "LogMessage": "event_pb2",
    "SessionLog": "event_pb2",
    "TaggedRunMetadata": "event_pb2",
    "GraphDef": "graph_pb2",
    "TensorProto": "tensor_pb2",
}
"""Which of tensorboardX's modules has a message."""


def message_type(name: str) -> Any:
    """Returns the class of a message, as "Summary".

    Raises:
        ImportError: tensorboardX is not installed.
    """
    return getattr(library(f"proto.{_MODULES[name]}"), name)


def library(module: str) -> ModuleType:
    """Returns a module of tensorboardX; ImportError if that is not installed."""
    try:
        return importlib.import_module(f"tensorboardX.{module}")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("tensorboardX"):
            raise
        raise ImportError(
            "summaries and event files need tensorboardX, which is not installed: pip install tensorboardX",
            name="tensorboardX",
        ) from error


def summary_of_value(tag: str, value: float) -> Any:
    """Returns a summary of one number."""
    summary = message_type("Summary")
    return summary(value=[summary.Value(tag=tag, simple_value=value)])


def session_log(status: str, checkpoint_path: str = "") -> Any:
    """Returns a mark of what has happened to a session: "START", "STOP", or "CHECKPOINT" with the path of that."""
    log = message_type("SessionLog")
    return log(status=log.SessionStatus.Value(status), checkpoint_path=checkpoint_path)
