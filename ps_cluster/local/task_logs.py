"""Files that keep what each task of a launch has printed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Self

from ps_protocol.task_id import TaskId


class TaskLogs:
    """One file for each task, "ps-0.log", "worker-1.log", written as the lines come. Thread-safe.

    Files of an earlier launch are written over. Entering the context raises OSError if the directory or a
    file cannot be made.

    Args:
        directory: Made if it is missing; None keeps nothing.
        tasks: The tasks that there are.
        on_failure: Called once for a task whose file can no longer be written, with what to tell the user.
    """

    def __init__(self, directory: Path | None, tasks: Sequence[TaskId], on_failure: Callable[[str], None]):
        self._directory = directory
        self._tasks = tasks
        self._on_failure = on_failure
        self._lock = threading.Lock()  # guards: _files
        self._files: dict[TaskId, IO[str]] = {}

    def __enter__(self) -> Self:
        if self._directory is None:
            return self
        self._directory.mkdir(parents=True, exist_ok=True)
        try:
            for task in self._tasks:
                path = self._directory / f"{task.job}-{task.index}.log"
                self._files[task] = path.open("w", encoding="utf-8", buffering=1)
        except OSError:
            self._close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._close()

    def write(self, task: TaskId, text: str) -> None:
        """Adds a line to a task's file."""
        with self._lock:
            file = self._files.get(task)
            if file is None:
                return
            try:
                file.write(f"{text}\n")
            except OSError as error:
                del self._files[task]
                with contextlib.suppress(OSError):  # it tries once more to write what it has
                    file.close()
                failure = f"the log of {task} ends here: {error}"
            else:
                return
        self._on_failure(failure)

    def _close(self) -> None:
        with self._lock:
            files, self._files = self._files, {}
        for file in files.values():
            file.close()
