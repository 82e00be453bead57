"""Writes event files, which TensorBoard shows."""

from __future__ import annotations

import itertools
import os
import time
import warnings
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Self

from ps_protocol.forks import new_lock
from ps_protocol.tensor_files.checkpoint_file import local_path
from worker_client.graph.default_graph import get_default_graph
from worker_client.summaries.graphs import graph_message
from worker_client.summaries.protos import library, message_type

_numbers: Final = itertools.count()


class FileWriter:
    """Writes events to one file of a directory, which TensorBoard shows. Thread-safe.

    Events are written as they come, and reach the disk after ``flush_secs`` at the latest when more follow, with
    ``flush`` and with ``close``. What is on the way when the program ends without ``close`` is written as well.

    Args:
        logdir: The directory, made if it is not there.
        graph: Written first.
        max_queue: Ignored: nothing is queued.
        flush_secs: See above, in seconds.
        graph_def: The older name of ``graph``.
        filename_suffix: End of the file's name.
        session: Must be None.

    Raises:
        ImportError: tensorboardX is not installed.
        NotImplementedError: A session is given.
        UnimplementedError: The directory is the URL of another file system.
    """

    def __init__(
        self,
        logdir: str | os.PathLike[str],
        graph: Any = None,
        max_queue: int = 10,
        flush_secs: float = 120,
        graph_def: Any = None,
        filename_suffix: str | None = None,
        session: Any = None,
    ):
        del max_queue
        if session is not None:
            raise NotImplementedError(
                "FileWriter(session=...): operations that write summaries are not here; leave it out, run merge_all() "
                "and give its value to add_summary"
            )
        self._logdir = os.fspath(logdir)
        self._folder = Path(local_path(logdir))
        self._flush_s = flush_secs
        self._suffix = filename_suffix or ""
        self._lock = new_lock()  # guards: _events, _flushed_s, _seen_tags, _run_tags; writes to the file under it
        self._seen_tags: set[str] = set()
        self._run_tags: set[str] = set()
        self._closed = False
        self._flushed_s = time.monotonic()
        self._open()
        if graph is not None or graph_def is not None:
            self.add_graph(graph, graph_def=graph_def)

    def get_logdir(self) -> str:
        """Returns the directory."""
        return self._logdir

    def add_summary(self, summary: Any, global_step: Any = None) -> None:
        """Writes a summary.

        Args:
            summary: A ``Summary``, or its bytes, as a summary operation gives them.
            global_step: At which step.
        """
        message = message_type("Summary")
        written = message.FromString(summary if isinstance(summary, bytes) else summary.SerializeToString())
        with self._lock:  # TensorBoard needs the metadata of a tag only once
            for value in written.value:
                if value.HasField("metadata") and value.tag in self._seen_tags:
                    value.ClearField("metadata")
                elif value.HasField("metadata"):
                    self._seen_tags.add(value.tag)
        self._add(message_type("Event")(summary=written), global_step)

    def add_session_log(self, session_log: Any, global_step: Any = None) -> None:
        """Writes a ``SessionLog``, which marks the start or the end of a session."""
        self._add(message_type("Event")(session_log=session_log), global_step)

    def add_graph(self, graph: Any, global_step: Any = None, graph_def: Any = None) -> None:
        """Writes a graph: its operations, their types, inputs and devices.

        Args:
            graph: The graph.
            global_step: At which step.
            graph_def: The older name of ``graph``.

        Raises:
            ValueError: Both are given.
            TypeError: It is no graph.
        """
        if graph is not None and graph_def is not None:
            raise ValueError("Please pass only graph, or graph_def (deprecated), but not both.")
        message = graph_message(graph if graph_def is None else graph_def)
        self._add(message_type("Event")(graph_def=message.SerializeToString()), global_step)

    def add_run_metadata(self, run_metadata: Any, tag: str, global_step: Any = None) -> None:
        """Takes what TensorFlow would tell of a run. There is nothing in it here, and so nothing is written.

        Raises:
            ValueError: The tag was used before.
        """
        del run_metadata, global_step
        with self._lock:
            if tag in self._run_tags:
                raise ValueError("The provided tag was already used for this event type")
            self._run_tags.add(tag)

    def add_event(self, event: Any) -> None:
        """Writes an ``Event``."""
        if self._is_open():
            with self._lock:
                self._events.write_event(event)
                now_s = time.monotonic()
                if now_s - self._flushed_s >= self._flush_s:
                    self._flushed_s = now_s
                    self._events.flush()

    def flush(self) -> None:
        """Writes to disk what is on the way there."""
        if self._is_open():
            with self._lock:
                self._events.flush()

    def close(self) -> None:
        """Writes what is on the way, and closes the file. May be repeated."""
        with self._lock:
            self._closed = True
            self._finalizer()

    def reopen(self) -> None:
        """Goes on in another file of the directory, if it was closed."""
        if self._closed:
            self._open()
            self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        # Two files that are opened within one second must not have one name.
        suffix = f".{os.getpid()}.{next(_numbers)}{self._suffix}"
        self._events = library("event_file_writer").EventsWriter(str(self._folder / "events"), suffix)
        self._events.flush()
        self._finalizer = weakref.finalize(self, self._events.close)

    def _is_open(self) -> bool:
        if self._closed:
            warnings.warn(
                "Attempting to use a closed FileWriter. The operation will be a noop unless the FileWriter is "
                "explicitly reopened.",
                stacklevel=4,
            )
        return not self._closed

    def _add(self, event: Any, step: Any) -> None:
        event.wall_time = time.time()
        if step is not None:
            event.step = int(step)
        self.add_event(event)


class FileWriterCache:
    """One ``FileWriter`` for each directory. Thread-safe."""

    _lock = new_lock()  # guards: _writers
    _writers: ClassVar[dict[str, FileWriter]] = {}

    @classmethod
    def get(cls, logdir: str | os.PathLike[str]) -> FileWriter:
        """Returns the writer of a directory; a new one begins with the default graph."""
        key = os.fspath(logdir)
        with cls._lock:
            if key not in cls._writers:
                cls._writers[key] = FileWriter(key, graph=get_default_graph())
            return cls._writers[key]

    @classmethod
    def clear(cls) -> None:
        """Closes and forgets all of them."""
        with cls._lock:
            for writer in cls._writers.values():
                writer.close()
            cls._writers.clear()
