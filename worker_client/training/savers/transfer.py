"""Moves the values of variables between the ps tasks and a checkpoint, few of them at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np

from ps_protocol.errors import InvalidArgumentError, NotFoundError
from ps_protocol.files.safetensors_layout import alignment
from ps_protocol.memory.regions import INLINE_LIMIT_BYTES
from ps_protocol.operations import Array, PsOperation, Read, Replace, Update, UpdateRule, VariableSpec
from ps_protocol.tensor_files import ahead
from ps_protocol.tensor_files.covering import cover_once, inside
from worker_client.connection.fanout import Routed, succeeded
from worker_client.deferred.variable import DeferredVariable
from worker_client.graph.computation import VariableHome
from worker_client.training.savers.formats import CheckpointFormat, OpenCheckpoint, StoredSpec
from worker_client.training.savers.saved_variables import SavedVariable
from worker_client.values.dtypes import DType
from worker_client.values.out_arrays import tensor_of
from worker_client.values.text import graph_dtype, is_text, stored, taken

BATCH_BYTES: Final = 16 * 1024**2
"""What is asked of a ps task, or sent to it, in one exchange; a larger value goes alone."""

_MOST_NAMED: Final = 10
_ALIGNMENT: Final = 64

_Batch: TypeAlias = list[tuple[int | None, SavedVariable]]
"""What is moved together, each with its ps task."""


def save_variables(
    home: VariableHome,
    saved: Sequence[SavedVariable],
    path: str,
    checkpoint_format: CheckpointFormat,
    *,
    sharded: bool = False,
    batch_bytes: int = BATCH_BYTES,
) -> None:
    """Writes the present values of variables. The checkpoint is there, whole, when this returns; else not at all.

    Values are read in batches, one exchange for each ps task, the next while those before are written. Each is of one
    moment, but not all of the same: other workers may train on meanwhile.

    Args:
        home: Where the variables live.
        saved: Which, and under which names.
        path: Of the checkpoint.
        checkpoint_format: In which form.
        sharded: Whether each ps task gets a file of its own.
        batch_bytes: What is asked of a ps task at a time.

    Raises:
        InvalidArgumentError: Of a partitioned variable not all parts are to be saved, so that nobody could read it.
        FailedPreconditionError: A variable has no value.
        ShardscopeError: A ps task did not answer, or a file could not be written.
    """
    _check_all_parts(saved)
    home.place([each.variable for each in saved])
    shards = {task: number if sharded else 0 for number, task in enumerate(_by_task(home, saved))}
    specs = [VariableSpec(each.key, each.variable.spec.dtype, each.variable.spec.shape, each.place) for each in saved]
    with checkpoint_format.create(path, len(shards) if sharded else 1, specs) as checkpoint:

        def write(batch: _Batch, values: list[Array]) -> None:
            values.reverse()
            for task, each in batch:
                checkpoint.add(shards[task], each.key, each.place, values.pop())

        batches = [batch for alike in _larger_first(saved) for batch in _batches(_by_task(home, alike), batch_bytes)]
        ahead.move(batches, fetch=lambda batch: _values(home, batch), put=write, size_bytes=_size_bytes)


def restore_variables(
    home: VariableHome,
    saved: Sequence[SavedVariable],
    path: str,
    checkpoint_format: CheckpointFormat,
    *,
    reshape: bool = False,
    batch_bytes: int = BATCH_BYTES,
) -> None:
    """Gives variables the values that a checkpoint has. Nothing is changed before all is there and fits.

    Values are sent in batches, one exchange for each ps task; the next are read from the files meanwhile.

    Args:
        home: Where the variables live.
        saved: Which, and under which names.
        path: Of the checkpoint.
        checkpoint_format: In which form.
        reshape: Whether a tensor of another shape with as many elements fits.
        batch_bytes: What is sent to a ps task at a time.

    Raises:
        NotFoundError: A name is not in the checkpoint, or there is no checkpoint.
        InvalidArgumentError: A shape or a dtype is another one.
        DataLossError: A file is damaged.
        ShardscopeError: A ps task did not answer.
    """
    with checkpoint_format.open(path) as checkpoint:
        check_fits(checkpoint, saved, path, reshape=reshape)
        home.place([each.variable for each in saved])
        batches = list(_batches(_by_task(home, saved), batch_bytes))
        for key in dict.fromkeys([each.key for batch in batches[1:] for _, each in batch]):
            checkpoint.verify(key)  # what is sent first is read before anything is changed
        rooms = _Rooms(home)

        def read(batch: _Batch) -> list[Routed]:
            return [
                Routed(task, assignment(each.variable, _read(checkpoint, each, room, reshape=reshape)))
                for (task, each), room in zip(batch, rooms.of(batch), strict=True)
            ]

        def send(_: _Batch, routed: list[Routed]) -> None:
            for reply in home.exchange(routed):
                succeeded(reply)

        ahead.move(batches, fetch=read, put=send, size_bytes=_size_bytes)


class _Rooms:
    """Memory for values that are read from files: shared with a ps task that is on this host, else this process's own.

    Both are used again and again, by turns, since to touch fresh memory takes longer than to read a file into it. One
    thread at a time, which has used up what it was given the time before the last.
    """

    def __init__(self, home: VariableHome):
        self._home = home
        self._own = _no_rooms()

    def of(self, batch: _Batch) -> list[Array]:
        """Returns memory for each value of a batch, as bytes, aligned for any dtype."""
        needed: dict[int | None, int] = {}
        for task, each in batch:
            needed[task] = needed.get(task, 0) + _room_bytes(each)
        shared = {
            task: None if task is None or size_bytes < INLINE_LIMIT_BYTES else self._home.new_buffer(task, size_bytes)
            for task, size_bytes in needed.items()
        }
        own = self._own_room(sum([size_bytes for task, size_bytes in needed.items() if shared[task] is None]))
        found: list[Array] = []
        for task, each in batch:
            left, size_bytes = shared[task], _room_bytes(each)
            if left is None:
                room, own = own[:size_bytes], own[size_bytes:]
            else:
                room, shared[task] = left[:size_bytes], left[size_bytes:]
            found.append(room)
        return found

    def _own_room(self, size_bytes: int) -> Array:
        if size_bytes > ahead.MOST_BYTES // 2:  # of which no two have room, and nothing is kept beside it
            self._own = _no_rooms()
            return np.empty(size_bytes, np.uint8)
        room = self._own.popleft()
        if len(room) < size_bytes:
            room = np.empty(size_bytes, np.uint8)
        self._own.append(room)
        return room


def _no_rooms() -> deque[Array]:
    return deque([np.empty(0, np.uint8)] * 2)


def _room_bytes(each: SavedVariable) -> int:
    return each.variable.spec.size_bytes + -each.variable.spec.size_bytes % _ALIGNMENT


def assignment(variable: DeferredVariable, value: Array) -> PsOperation:
    """Returns what tells a ps to give a variable a value of its shape, or of any if its shape is left open."""
    if is_text(value.dtype):
        return Replace(variable.spec.name, stored(value))
    if not variable.shape.is_fully_defined():
        return Replace(variable.spec.name, value)
    return Update(variable.spec.name, UpdateRule.ASSIGN, value)


def check_fits(checkpoint: OpenCheckpoint, saved: Sequence[SavedVariable], path: str, *, reshape: bool = False) -> None:
    """Raises an error as of ``restore_variables`` unless all variables can be restored; reads no values."""
    missing = [each.key for each in saved if checkpoint.find(each.key) is None]
    if missing:
        named = ", ".join(dict.fromkeys(missing[:_MOST_NAMED]))
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        raise NotFoundError(f"Key {named}{more} not found in checkpoint {path}", variable=missing[0])
    for each in saved:
        spec = checkpoint.find(each.key)
        assert spec is not None
        dtype = graph_dtype(each.variable.spec.dtype)
        if graph_dtype(spec.dtype) != dtype:
            raise InvalidArgumentError(
                f"tensor_name = {each.key}; expected dtype {DType(dtype).name} does not equal original dtype "
                f"{DType(graph_dtype(spec.dtype)).name} in {path}",
                variable=each.variable.spec.name,
            )
        _check_shape(each, spec.shape, path, reshape=reshape)
        if spec.parts is not None:
            _check_is_there(each, spec, spec.parts, path)


def _check_all_parts(saved: Sequence[SavedVariable]) -> None:
    parts: dict[str, list[SavedVariable]] = {}
    for each in saved:
        if each.place is not None:
            parts.setdefault(each.key, []).append(each)
    for key, found in parts.items():
        starts = [each.place.offset for each in found if each.place is not None]
        if not cover_once(found[0].full_shape, starts, [each.variable.spec.shape for each in found]):
            names = ", ".join([each.variable.spec.name for each in found])
            raise InvalidArgumentError(
                f"{key} cannot be saved with only these of its parts: {names}; save all of them, or give a mapping "
                f"with a name for each, which saves it as a tensor of its own",
                variable=key,
            )


def _check_shape(each: SavedVariable, stored_shape: tuple[int, ...], path: str, *, reshape: bool) -> None:
    if stored_shape == each.full_shape:
        return
    if each.place is None:
        if reshape and np.prod(stored_shape, dtype=np.int64) == np.prod(each.full_shape, dtype=np.int64):
            return
        if each.variable.shape.is_compatible_with(stored_shape) and not each.variable.shape.is_fully_defined():
            return
    raise InvalidArgumentError(
        f"Assign requires shapes of both tensors to match: variable {each.variable.spec.name} has the shape "
        f"{list(each.full_shape)}{'' if each.place is None else ' as a whole'}, {each.key} in {path} has "
        f"{list(stored_shape)}",
        variable=each.variable.spec.name,
    )


def _check_is_there(
    each: SavedVariable, spec: StoredSpec, parts: Sequence[tuple[Sequence[int], Sequence[int]]], path: str
) -> None:
    """Raises InvalidArgumentError unless a tensor of which not all parts were saved has those of a variable."""
    offset = (0,) * len(spec.shape) if each.place is None else each.place.offset
    shape = spec.shape if each.place is None else each.variable.spec.shape
    begins, sizes = [np.array(each, np.int64).reshape(len(parts), len(offset)) for each in zip(*parts, strict=True)]
    _, low, high = inside(offset, shape, begins, sizes)
    if not cover_once(shape, (low - np.array(offset, np.int64)).tolist(), (high - low).tolist()):
        there = ", ".join([f"{list(size)} at {list(start)}" for start, size in parts[:_MOST_NAMED]])
        raise InvalidArgumentError(
            f"{path} has of {each.key} {list(spec.shape)} only parts, {there}; variable {each.variable.spec.name} "
            f"needs {list(shape)} at {list(offset)}. Restore what is there, or another checkpoint",
            variable=each.variable.spec.name,
        )


def _read(checkpoint: OpenCheckpoint, each: SavedVariable, room: Array, *, reshape: bool) -> Array:
    value = checkpoint.read(each.key, each.place, each.variable.spec.shape, room)
    return value.reshape(each.variable.spec.shape) if reshape else value


def _values(home: VariableHome, batch: _Batch) -> list[Array]:
    reads = [
        Routed(task, Read(each.variable.spec.name, view=True), each.variable.spec.size_bytes, needs_value=True)
        for task, each in batch
    ]
    return [taken(tensor_of(succeeded(reply))) for reply in home.exchange(reads)]


def _larger_first(saved: Sequence[SavedVariable]) -> list[list[SavedVariable]]:
    """Returns variables by the size of their elements: so each value is aligned behind the one before in a file."""
    found: dict[int, list[SavedVariable]] = {}
    for each in saved:
        found.setdefault(alignment(each.variable.spec.dtype), []).append(each)
    return [found[size_bytes] for size_bytes in sorted(found, reverse=True)]


def _by_task(home: VariableHome, saved: Sequence[SavedVariable]) -> dict[int | None, list[SavedVariable]]:
    """Returns variables by their ps task, in the order of the tasks; those of this process last."""
    found: dict[int | None, list[SavedVariable]] = {}
    for each in saved:
        found.setdefault(home.route(each.variable), []).append(each)
    return dict(sorted(found.items(), key=lambda item: (item[0] is None, item[0] or 0)))


def _batches(by_task: dict[int | None, list[SavedVariable]], batch_bytes: int) -> Iterator[_Batch]:
    """Yields what is moved together: of each task as many variables as have so many bytes, but at least one.

    A batch for which two of its size would not have room in memory is left before it has its share of all tasks; the
    next begins with those.
    """
    waiting = deque([(task, list(reversed(variables))) for task, variables in by_task.items()])
    while waiting:
        batch: _Batch = []
        room = ahead.MOST_BYTES // 2
        for _ in range(len(waiting)):
            task, variables = waiting[0]
            if batch and variables[-1].variable.spec.size_bytes > room:
                break
            size_bytes = 0
            while variables and (
                not size_bytes or size_bytes + variables[-1].variable.spec.size_bytes <= min(batch_bytes, room)
            ):
                size_bytes += max(1, variables[-1].variable.spec.size_bytes)
                batch.append((task, variables.pop()))
            room -= size_bytes
            waiting.popleft()
            if variables:
                waiting.append((task, variables))
        yield batch


def _size_bytes(batch: _Batch) -> int:
    return sum([each.variable.spec.size_bytes for _, each in batch])
