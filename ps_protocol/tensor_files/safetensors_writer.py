"""Writes safetensors: one file, or several with an index, as Hugging Face's libraries write and read them.

Values go through in pieces of some MiB. The files get their names when all are on disk, the index last, so there is a
whole checkpoint or none.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ps_protocol.codec.tensor_codec import bytes_of
from ps_protocol.dtype_traits import dtype_name
from ps_protocol.errors import DataLossError, DTypeMismatchError, InvalidValueError
from ps_protocol.files.safetensors_layout import METADATA_KEY, NAME_OF_DTYPE, values_layout
from ps_protocol.files.synced_files import make_directory
from ps_protocol.operations import VariableSpec
from ps_protocol.tensor_files.new_files import NewFile, check_free, explained, new_file
from ps_protocol.tensor_files.safetensors import INDEX_SUFFIX, SUFFIX, files_of_index
from ps_protocol.tensor_files.stored_tensor import StoredTensor, is_utf8

_MOST_SHARDS: Final = 99_999


def write_safetensors(
    path: Path,
    tensors: Mapping[str, StoredTensor],
    *,
    shard_bytes: int | None = None,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
    done: Callable[[int], None] | None = None,
) -> list[Path]:
    """Writes tensors to a file, or to several if they are too large for one.

    Args:
        path: Of the file, as "model.safetensors"; of several, which are "model-00001-of-00002.safetensors" and so on,
            with the index "model.safetensors.index.json". The directory is made if it is not there.
        tensors: By the names that they are to have.
        shard_bytes: Most bytes of tensors in one file; a tensor that is larger has a file of its own. None for no
            limit.
        metadata: What each file says beside the tensors.
        overwrite: Whether what is there of that name is replaced. After an error it may be gone then.
        done: Called with the bytes of each piece that was written.

    Returns:
        The files that were written, the index last if there is one.

    Raises:
        AlreadyExistsError: There is such a checkpoint.
        DTypeMismatchError: The format has no such elements; nothing was written.
        InvalidValueError: A tensor cannot be called so; or there would be too many files.
        ShardscopeError: A tensor cannot be read, or a file cannot be written; nothing is left of it.
    """
    index = path.with_name(path.name.removesuffix(SUFFIX) + INDEX_SUFFIX)
    specs = [_spec(name, tensor) for name, tensor in tensors.items()]
    shards = _divided(specs, shard_bytes)
    paths = _paths(path, len(shards))
    check_free([path, index], overwrite=overwrite)
    before = _files_before(path, index)
    with contextlib.ExitStack() as discards, explained(path):
        make_directory(path.parent)
        written = []
        for shard, shard_path in zip(shards, paths, strict=True):
            new = NewFile(shard_path)
            discards.callback(new.discard)
            _write(new, shard, tensors, dict(metadata or {}), done)
            written.append(new)
        index.unlink(missing_ok=True)  # it does not describe what comes now
        for new in written:
            if len(shards) > 1:
                discards.callback(new.path.unlink, missing_ok=True)
            new.finish()
        if len(shards) > 1:
            discards.callback(index.unlink, missing_ok=True)
            _write_index(index, shards, paths)
            paths.append(index)
        discards.pop_all()
        for old in before:
            if old not in paths:
                old.unlink(missing_ok=True)
    return paths


def _spec(name: str, tensor: StoredTensor) -> VariableSpec:
    if not name or name.startswith(METADATA_KEY) or not is_utf8(name):
        raise InvalidValueError(
            f"a tensor in a safetensors file cannot be called {name!r}; say in names= what it is to be called, in a "
            f"shell --names",
            variable=name,
        )
    if tensor.dtype.hasobject or dtype_name(tensor.dtype) not in NAME_OF_DTYPE:
        raise DTypeMismatchError(
            f"safetensors files cannot hold {tensor.dtype_name}, the dtype of {name!r}; leave it out by saying which "
            f"names to export",
            variable=name,
        )
    return VariableSpec(name, tensor.dtype, tensor.shape)


def _divided(specs: Sequence[VariableSpec], shard_bytes: int | None) -> list[list[VariableSpec]]:
    """Puts tensors into files in their order, as many as have room in each."""
    shards: list[list[VariableSpec]] = [[]]
    size_bytes = 0
    for spec in specs:
        if shards[-1] and shard_bytes is not None and size_bytes + spec.size_bytes > shard_bytes:
            shards.append([])
            size_bytes = 0
        shards[-1].append(spec)
        size_bytes += spec.size_bytes
    if len(shards) > _MOST_SHARDS:
        raise InvalidValueError(f"these would be {len(shards)} files, more than {_MOST_SHARDS}; give a larger size")
    return shards


def _paths(path: Path, count: int) -> list[Path]:
    if count == 1:
        return [path]
    stem = path.name.removesuffix(SUFFIX)
    return [path.with_name(f"{stem}-{number:05}-of-{count:05}{SUFFIX}") for number in range(1, count + 1)]


def _files_before(path: Path, index: Path) -> list[Path]:
    """Returns the files of the checkpoint that is replaced."""
    files: list[str] = []
    with contextlib.suppress(DataLossError):  # of an index that nobody can read
        files = files_of_index(index) if index.is_file() else []
    stem = path.name.removesuffix(SUFFIX)
    return [path, *[path.with_name(name) for name in files if name.startswith(f"{stem}-")]]


def _write(
    new: NewFile,
    specs: Sequence[VariableSpec],
    tensors: Mapping[str, StoredTensor],
    metadata: dict[str, str],
    done: Callable[[int], None] | None,
) -> None:
    layout = values_layout(specs, metadata)
    new.file.write(layout.header)
    for number in layout.order:
        for piece in tensors[specs[number].name].pieces():
            new.file.write(bytes_of(piece))
            new.begin_writing_out()
            if done is not None:
                done(piece.nbytes)


def _write_index(index: Path, shards: Sequence[Sequence[VariableSpec]], paths: Sequence[Path]) -> None:
    places = {spec.name: path.name for shard, path in zip(shards, paths, strict=True) for spec in shard}
    total = sum([spec.size_bytes for shard in shards for spec in shard])
    content = {"metadata": {"total_size": total}, "weight_map": places}
    with new_file(index) as file:
        file.write(json.dumps(content, indent=2, sort_keys=True).encode() + b"\n")
