"""Finds the files of a checkpoint from what a user gives: a prefix, a file, or a directory."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ps_protocol.errors import NotFoundError
from ps_protocol.tensor_files.checkpoint_file import local_path
from ps_protocol.tensorflow_files.bundle import index_path
from ps_protocol.tensorflow_files.state_file import STATE_FILE_NAME, read_state

_INDEX: Final = ".index"
_SHARD: Final = re.compile(r"\.data-\d{5}-of-\d{5}$")
_VARIABLES: Final = Path("variables") / "variables"
"""The prefix of the variables in the directory of a SavedModel."""

_OF_VERSION_1: Final = "?" * 5 + "-of-" + "?" * 5
_FILE_OF_VERSION_1: Final = re.compile(r"(.*-)\d{5}-of-(\d{5})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class FoundCheckpoint:
    """Where a checkpoint is.

    Attributes:
        prefix: Of version 2, the path of its files without ".index"; None of version 1.
        files: Of version 1, all of them.
    """

    prefix: str | None
    files: tuple[Path, ...] = ()


def find_checkpoint(path: str | os.PathLike[str]) -> FoundCheckpoint:
    """Finds a checkpoint.

    Args:
        path: A prefix, as ``Saver.save`` returns it; a directory with a file "checkpoint", for the newest in it, or
            that of a SavedModel; an index; a file of version 1, or a pattern of several.

    Raises:
        NotFoundError: It is none of these; says what was looked for.
        DataLossError: The file "checkpoint" is no such file.
        InvalidValueError: It names no newest checkpoint.
        UnimplementedError: It is the URL of another file system.
    """
    text = local_path(path)
    given = Path(text)
    if index_path(text).is_file():
        return FoundCheckpoint(text)
    if given.is_dir():
        return _in_directory(given)
    if text.endswith(_INDEX) and given.is_file():
        return FoundCheckpoint(text.removesuffix(_INDEX))
    if _SHARD.search(text) and index_path(_SHARD.sub("", text)).is_file():
        return FoundCheckpoint(_SHARD.sub("", text))
    if _SHARD.search(text) is None and given.is_file():
        return FoundCheckpoint(None, (given,))
    matching = _files_of_version_1(text)
    if matching:
        return FoundCheckpoint(None, matching)
    raise NotFoundError(_what_is_missing(text, given))


def _in_directory(directory: Path) -> FoundCheckpoint:
    state = read_state(directory)
    if state is not None:
        newest = state.model_checkpoint_path
        here = f"{directory}/{newest.rpartition('/')[2]}"  # where it is if the directory was moved
        for prefix in (newest, here):
            if index_path(prefix).is_file():
                return FoundCheckpoint(prefix)
            if not Path(prefix).is_dir() and (Path(prefix).is_file() or _files_of_version_1(prefix)):
                return find_checkpoint(prefix)
        what = f"says that the newest checkpoint is {newest}, but it is neither there nor in this directory"
        raise NotFoundError(f"{directory / STATE_FILE_NAME} {what}")
    for place in (directory / _VARIABLES, directory / _VARIABLES.name):
        if index_path(place).is_file():
            return FoundCheckpoint(f"{place}")
    looked_for = f"a file {STATE_FILE_NAME!r} that names the newest one, nor {index_path(_VARIABLES)} of a SavedModel"
    there = sorted([each.name.removesuffix(_INDEX) for each in directory.glob(f"*{_INDEX}")])
    hint = f"; it has {', '.join(there[:5])}: give one of these, as {directory / there[0]}" if there else ""
    raise NotFoundError(f"the directory {directory} has no checkpoint: there is neither {looked_for}{hint}")


def _files_of_version_1(text: str) -> tuple[Path, ...]:
    if "?" in text or "*" in text:
        found = sorted([Path(each) for each in glob.glob(text) if Path(each).is_file()])  # noqa: PTH207 - any depth
    else:
        found = sorted(Path(text).parent.glob(f"{glob.escape(Path(text).name)}-{_OF_VERSION_1}"))
    known: set[tuple[str, ...]] = set()
    for path in found:
        shard = _FILE_OF_VERSION_1.fullmatch(path.name)
        if shard is not None and shard.groups() in known:
            continue
        known.add(shard.groups() if shard is not None else ())
        others = [] if shard is None else [f"{shard[1]}{number:05d}-of-{shard[2]}" for number in range(int(shard[2]))]
        for other in map(path.with_name, others):
            if not other.is_file():
                raise NotFoundError(f"{other} is missing, though {path} is there: the checkpoint is not whole")
    return tuple(found)


def _what_is_missing(text: str, given: Path) -> str:
    shards = sorted(given.parent.glob(f"{glob.escape(given.name)}.data-*")) if given.parent.is_dir() else []
    if shards:
        what = f"though {shards[0].name} is there: the checkpoint was not written to its end"
        return f"{index_path(given)} is missing, {what}"
    place = "" if given.parent.is_dir() else f", and there is no directory {given.parent}"
    return f"there is no checkpoint {text}: neither {text}{_INDEX} nor a file or directory of that name is there{place}"
