"""The file "checkpoint", which says which checkpoints of a directory there are and which is the newest.

Paths in it are relative to its directory, or absolute (``checkpoint_management.py`` of TensorFlow).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from google.protobuf import text_format

from ps_protocol.errors import DataLossError, InvalidValueError, PermissionDeniedError, UnknownError
from ps_protocol.tensor_files.checkpoint_file import local_path
from ps_protocol.tensor_files.new_files import explained, new_file
from ps_protocol.tensorflow_files import checkpoint_pb2

STATE_FILE_NAME: Final = "checkpoint"


@dataclass(slots=True)
class CheckpointState:
    """What the file says; the names are TensorFlow's.

    Attributes:
        model_checkpoint_path: The prefix of the newest checkpoint.
        all_model_checkpoint_paths: Those of all that are not deleted, the oldest first.
        all_model_checkpoint_timestamps: When each was written, in seconds since 1970; empty if that is not known.
        last_preserved_timestamp: When the last one was written that is kept for ever; 0 if none was.
    """

    model_checkpoint_path: str
    all_model_checkpoint_paths: list[str] = field(default_factory=list)
    all_model_checkpoint_timestamps: list[float] = field(default_factory=list)
    last_preserved_timestamp: float = 0.0

    def __str__(self) -> str:
        return text_format.MessageToString(
            checkpoint_pb2.CheckpointState(
                model_checkpoint_path=self.model_checkpoint_path,
                all_model_checkpoint_paths=self.all_model_checkpoint_paths,
                all_model_checkpoint_timestamps=self.all_model_checkpoint_timestamps,
                last_preserved_timestamp=self.last_preserved_timestamp,
            ),
            as_utf8=True,
        )


def read_state(directory: str | os.PathLike[str], name: str | None = None) -> CheckpointState | None:
    """Returns what the file in a directory says, with paths that lead there from here; None if there is no file.

    Args:
        directory: Of the checkpoints.
        name: Of the file; "checkpoint" if not given.

    Raises:
        DataLossError: It is not such a file.
        InvalidValueError: It names no newest checkpoint.
        PermissionDeniedError: It may not be read.
        UnimplementedError: The directory is the URL of another file system.
        UnknownError: It cannot be read.
    """
    folder = os.fspath(directory)
    path = Path(local_path(folder), name or STATE_FILE_NAME)
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise PermissionDeniedError(f"{path} may not be read by this user") from error
    except OSError as error:
        raise UnknownError(f"{path} cannot be read: {error.strerror}") from error
    message = checkpoint_pb2.CheckpointState()
    try:
        text_format.Merge(text.decode(), message)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise DataLossError(f"{path} does not say which checkpoints there are: {error}") from error
    if not message.model_checkpoint_path:
        raise InvalidValueError(f"Invalid checkpoint state loaded from {folder}: it names no newest checkpoint")
    return CheckpointState(
        os.path.join(folder, message.model_checkpoint_path),  # noqa: PTH118 - as TensorFlow, "./a" stays what it is
        [os.path.join(folder, each) for each in message.all_model_checkpoint_paths],  # noqa: PTH118
        list(message.all_model_checkpoint_timestamps),
        message.last_preserved_timestamp,
    )


def new_state(
    directory: str | os.PathLike[str],
    newest: str,
    all_paths: Sequence[str] | None = None,
    timestamps: Sequence[float] | None = None,
    last_preserved_timestamp: float | None = None,
) -> CheckpointState:
    """Returns what the file of a directory should say, as TensorFlow's ``generate_checkpoint_state_proto``.

    Args:
        directory: Of the checkpoints. If it is relative, so are the paths in the file: relative to it.
        newest: The prefix of the newest checkpoint, which leads there from here.
        all_paths: Those of all, the oldest first; the newest is put behind them if it is not the last.
        timestamps: When each was written, in seconds since 1970.
        last_preserved_timestamp: See ``CheckpointState``.

    Raises:
        ValueError: There are not as many timestamps as paths.
    """
    paths = list(all_paths or ())
    if not paths or paths[-1] != newest:
        paths.append(newest)
    if timestamps and len(timestamps) != len(paths):
        raise ValueError(
            "Checkpoint timestamps, if provided, must match checkpoint paths "
            f"(got paths {paths} and timestamps {list(timestamps)})"
        )
    folder = os.fspath(directory)
    if not Path(folder).is_absolute():
        newest, *paths = [
            each if Path(each).is_absolute() else os.path.relpath(each, folder) for each in (newest, *paths)
        ]
    return CheckpointState(newest, paths, list(timestamps or ()), last_preserved_timestamp or 0.0)


def write_state(directory: str | os.PathLike[str], state: CheckpointState, name: str | None = None) -> None:
    """Puts a file that says this in the place of the one in a directory, whole or not at all.

    Raises:
        RuntimeError: The checkpoint would have the name of the file.
        NotFoundError: There is no such directory.
        PermissionDeniedError: This user may not write there.
        ResourceExhaustedError: The disk is full; the file before is still there, as after any error.
        UnknownError: It cannot be written.
    """
    path = Path(local_path(directory), name or STATE_FILE_NAME)
    if f"{path}" == state.model_checkpoint_path:
        raise RuntimeError(
            f"Save path '{path}' conflicts with path used for checkpoint state.  Please use a different save path."
        )
    with explained(path), new_file(path) as file:
        file.write(f"{state}".encode())
