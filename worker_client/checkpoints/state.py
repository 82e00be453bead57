"""Which checkpoints a directory has, and which is the newest: TensorFlow 1's functions."""

from __future__ import annotations

import glob
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from ps_protocol.checkpoints.locations import open_store
from ps_protocol.checkpoints.store import CheckpointStore
from ps_protocol.checkpoints.urls import absolute
from ps_protocol.errors import InvalidArgumentError, InvalidValueError, ShardscopeError
from ps_protocol.tensor_files.checkpoint_file import local_path
from ps_protocol.tensorflow_files.state_file import (
    STATE_FILE_NAME,
    CheckpointState,
    new_state,
    read_state,
    write_state,
)
from worker_client.checkpoints.opening import is_shardscope

_LOG: Final = logging.getLogger("tensorflow")  # that of `tf.logging`

_VERSION_2: Final = 2
_SHARDS: Final = ".data-?????-of-?????"
_OF_SHARDED: Final = re.compile(r"-[\d?]+-of-\d+$")


def get_checkpoint_state(
    checkpoint_dir: str | os.PathLike[str], latest_filename: str | None = None
) -> CheckpointState | None:
    """Returns what the file "checkpoint" of a directory says, with paths that lead there from here.

    Args:
        checkpoint_dir: The directory.
        latest_filename: Of the file, if it has another name.

    Returns:
        None if there is no such file, or it cannot be read, of which the log has a warning.

    Raises:
        ValueError: It does not say which checkpoint is the newest.
    """
    try:
        return read_state(checkpoint_dir, latest_filename)
    except InvalidValueError:
        raise
    except ShardscopeError as error:
        _LOG.warning("%s: Checkpoint ignored", error)
        return None


def latest_checkpoint(checkpoint_dir: str | os.PathLike[str], latest_filename: str | None = None) -> str | None:
    """Returns the prefix of the newest checkpoint in a directory, None if there is none.

    Args:
        checkpoint_dir: As for ``get_checkpoint_state``, which says what it raises.
        latest_filename: As for ``get_checkpoint_state``.
    """
    state = get_checkpoint_state(checkpoint_dir, latest_filename)
    if state is None:
        return None
    if checkpoint_exists(state.model_checkpoint_path):
        return state.model_checkpoint_path
    _LOG.error("Couldn't match files for checkpoint %s", state.model_checkpoint_path)
    return None


def checkpoint_exists(checkpoint_prefix: str) -> bool:
    """Whether there is a checkpoint of version 2 or 1, or one of Shardscope's.

    Args:
        checkpoint_prefix: What ``Saver.save`` returned; may be a pattern.
    """
    return bool(_files_of(checkpoint_prefix))


def get_checkpoint_mtimes(checkpoint_prefixes: Iterable[str]) -> list[float]:
    """Returns when checkpoints were written, in seconds since 1970; those that are not there are left out.

    Args:
        checkpoint_prefixes: As for ``checkpoint_exists``.
    """
    found = [_files_of(prefix) for prefix in checkpoint_prefixes]
    return [Path(paths[0]).stat().st_mtime for paths in found if paths]


def generate_checkpoint_state_proto(
    save_dir: str | os.PathLike[str],
    model_checkpoint_path: str,
    all_model_checkpoint_paths: Sequence[str] | None = None,
    all_model_checkpoint_timestamps: Sequence[float] | None = None,
    last_preserved_timestamp: float | None = None,
) -> CheckpointState:
    """Returns what the file "checkpoint" of a directory should say.

    Args:
        save_dir: The directory. If it is relative, paths in the file are relative to it.
        model_checkpoint_path: The prefix of the newest checkpoint.
        all_model_checkpoint_paths: Those of all, the oldest first.
        all_model_checkpoint_timestamps: When each was written, in seconds since 1970.
        last_preserved_timestamp: When the last one was written that is kept for ever.

    Raises:
        ValueError: There are not as many timestamps as paths.
    """
    return new_state(
        save_dir,
        model_checkpoint_path,
        all_model_checkpoint_paths,
        all_model_checkpoint_timestamps,
        last_preserved_timestamp,
    )


def update_checkpoint_state(
    save_dir: str | os.PathLike[str],
    model_checkpoint_path: str,
    all_model_checkpoint_paths: Sequence[str] | None = None,
    latest_filename: str | None = None,
    all_model_checkpoint_timestamps: Sequence[float] | None = None,
    last_preserved_timestamp: float | None = None,
) -> None:
    """Writes the file "checkpoint" of a directory, whole or not at all.

    Args:
        save_dir: As for ``generate_checkpoint_state_proto``.
        model_checkpoint_path: As for ``generate_checkpoint_state_proto``.
        all_model_checkpoint_paths: As for ``generate_checkpoint_state_proto``.
        latest_filename: Of the file, if it is to have another name.
        all_model_checkpoint_timestamps: As for ``generate_checkpoint_state_proto``.
        last_preserved_timestamp: As for ``generate_checkpoint_state_proto``.

    Raises:
        RuntimeError: The checkpoint has the name of the file.
        ValueError: There are not as many timestamps as paths.
        NotFoundError: There is no such directory.
        PermissionDeniedError: This user may not write there.
    """
    state = generate_checkpoint_state_proto(
        save_dir,
        model_checkpoint_path,
        all_model_checkpoint_paths,
        all_model_checkpoint_timestamps,
        last_preserved_timestamp,
    )
    write_state(save_dir, state, latest_filename)


def note_newest(prefix: Path) -> Callable[[], None]:
    """Returns what says in the file "checkpoint" of a directory that a checkpoint is its newest, once it is there.

    Others that the file names stay in it. Paths are relative to the directory, which may be moved then.

    Args:
        prefix: Of the checkpoint.

    Raises:
        InvalidArgumentError: It would have the name of the file.
        DataLossError: There is such a file that says something else.
        ShardscopeError: It cannot be read; later, that it cannot be written.
    """
    folder = prefix.parent
    if prefix.name == STATE_FILE_NAME:
        raise InvalidArgumentError(
            f"{prefix} is called as the file that says which checkpoint of a directory is the newest; give it another "
            f"name, as {folder / 'model.ckpt'}"
        )
    state = read_state(folder)
    paths, times = ([], []) if state is None else (state.all_model_checkpoint_paths, _times_of(state))
    kept = [number for number, path in enumerate(paths) if os.path.abspath(path) != os.path.abspath(prefix)]  # noqa: PTH100

    def note() -> None:
        there = [_from(folder, paths[number]) for number in kept]
        written_s = [*[times[number] for number in kept], time.time()] if times else []
        write_state(folder, CheckpointState(prefix.name, [*there, prefix.name], written_s, _preserved_s(state)))

    return note


def _times_of(state: CheckpointState) -> list[float]:
    times, paths = state.all_model_checkpoint_timestamps, state.all_model_checkpoint_paths
    return times if len(times) == len(paths) else []


def _preserved_s(state: CheckpointState | None) -> float:
    return 0.0 if state is None else state.last_preserved_timestamp


def _from(folder: Path, path: str) -> str:
    return os.path.relpath(path, folder) if Path(path).is_relative_to(folder) else path


def remove_checkpoint(
    checkpoint_prefix: str, checkpoint_format_version: int = _VERSION_2, meta_graph_suffix: str = "meta"
) -> None:
    """Deletes the files of a checkpoint; those that are not there are not missed.

    Args:
        checkpoint_prefix: What ``Saver.save`` returned.
        checkpoint_format_version: 2, or 1.
        meta_graph_suffix: How the name of the file with the graph ends.
    """
    if is_shardscope(checkpoint_prefix):
        store, name = _place_of(checkpoint_prefix)
        store.remove(name)
    path = local_path(checkpoint_prefix)
    sharded = _OF_SHARDED.search(path)
    base = glob.escape(path if sharded is None else path[: sharded.start()])  # "run[1]" must not stand for "run1"
    whole = base if sharded is None else f"{base}{sharded[0]}"
    patterns = [f"{base}.{glob.escape(meta_graph_suffix)}"]
    patterns += [f"{whole}.index", f"{whole}{_SHARDS}"] if checkpoint_format_version == _VERSION_2 else [whole]
    for pattern in patterns:
        for each in _matching(pattern):
            Path(each).unlink(missing_ok=True)


def is_pinned(checkpoint_prefix: str) -> bool:
    """Whether it is a checkpoint of Shardscope's that ``ss.checkpoint.pin`` has pinned."""
    if not is_shardscope(checkpoint_prefix):
        return False
    store, name = _place_of(checkpoint_prefix)
    return store.is_pinned(name)


def _place_of(checkpoint_prefix: str) -> tuple[CheckpointStore, str]:
    folder, name = os.path.split(absolute(checkpoint_prefix))
    return open_store(folder), name


def _files_of(prefix: str) -> list[str]:
    """Returns the index of a checkpoint, or its files if it is of version 1; those that match, if it is a pattern."""
    path = local_path(prefix)
    plain = [each for each in (f"{path}.index", path) if os.path.lexists(each)]  # though it may be called "run[1]"
    return plain or _matching(f"{path}.index") or _matching(path)


def _matching(pattern: str) -> list[str]:
    return sorted(glob.glob(pattern))  # noqa: PTH207 - patterns may be absolute
