"""A tensor in a checkpoint, an array that is read when it is asked for, all or some rows; and a mapping of many."""

from __future__ import annotations

import math
import mmap
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, ClassVar, Final, Protocol, Self

import numpy as np

from ps_protocol.errors import (
    DataLossError,
    InvalidArgumentError,
    InvalidValueError,
    NotFoundError,
    ShardscopeError,
    UnimplementedError,
)
from ps_protocol.operations import Array
from ps_protocol.out_arrays import misfit
from ps_protocol.tensor_files.covering import cover_once, inside

_LARGE_BYTES: Final = 4 * 1024**2
"""From this size on NumPy asks for huge pages."""

_ROOM_BYTES: Final = 4 * 1024**2
"""Most bytes that are read aside at a time, of parts whose rows are not whole rows of what is read."""

_MOST_NAMED: Final = 5

_PIECE_BYTES: Final = 16 * 1024**2
"""What is read at a time of a tensor that is copied elsewhere."""


class Values(Protocol):
    """Values of one part of a tensor, in a file."""

    def check_size(self) -> None:
        """Raises DataLossError if the file is too short for them: before room for them is made."""

    def verify(self) -> None:
        """Raises DataLossError unless they are what their checksum says."""

    def read_into(self, target: Array, first_row: int) -> None:
        """Fills an array with rows of the part, all of them or some.

        Args:
            target: Contiguous, shape [rows, ...] as the part's, or all of a scalar.
            first_row: Of the part.

        Raises:
            DataLossError: The file is damaged.
        """


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a tensor.

    Attributes:
        starts: Of each dimension, the first index in the tensor.
        shape: Of the part.
        values: What is there.
    """

    starts: tuple[int, ...]
    shape: tuple[int, ...]
    values: Values


class StoredTensor:
    """A tensor of a checkpoint. NumPy takes it for an array, and then reads it. Safe from many threads.

    Each ``numpy.asarray(tensor)``, ``tensor[...]`` and ``read`` reads the file anew; nothing is kept.

    Attributes:
        name: In the checkpoint.
        shape: Of the whole tensor, also of one that was saved in parts.
        dtype: Of the arrays; of strings ``object``, with bytes as elements.
        dtype_name: The name of the dtype in the file, as "float32", "string" or "qint8".
        parts: Where the parts begin and which shapes they have; one for a tensor that was saved as a whole.
        is_whole: Whether the parts have each element once. A program that saved only some parts of a variable has left
            out others; what is in those that are there can be read.
        problem: Why it cannot be read; None if nothing is known.
        has_value: Whether it is of a variable that had a value when it was saved; if not, ``problem`` says so.
        slot_of: Of a slot that an optimizer keeps beside a variable, that variable's name; empty of others, and where
            files do not say it.

    Args:
        name: See the attributes.
        dtype: See the attributes.
        shape: See the attributes.
        parts: See the attributes.
        dtype_name: See the attributes; that of NumPy if not given.
        problem: See the attributes.
        has_value: See the attributes.
        slot_of: See the attributes.
        where: Which files it is in, for messages.
    """

    def __init__(
        self,
        name: str,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        parts: Sequence[Part],
        *,
        dtype_name: str = "",
        problem: ShardscopeError | None = None,
        has_value: bool = True,
        slot_of: str = "",
        where: str = "the checkpoint",
    ):
        self.name = name
        self.shape = shape
        self.dtype = dtype
        self.dtype_name = dtype_name or dtype.name
        self.parts = tuple(parts)
        self.problem = problem
        self.has_value = has_value
        self.slot_of = slot_of
        self._where = where
        self.is_whole = cover_once(shape, [part.starts for part in parts], [part.shape for part in parts])

    @property
    def ndim(self) -> int:
        """How many dimensions it has."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the array; of strings those of the references to them."""
        return self.size * self.dtype.itemsize

    def read(self, rows: slice | None = None, out: Array | None = None) -> Array:
        """Reads the tensor, or rows of it.

        Args:
            rows: Which; all if not given. Only the parts of the file that have them are read, and before the first time
                all of what they are in, to check it.
            out: Where to; of the right shape and dtype. A fresh array if not given.

        Returns:
            ``out``, or the fresh array.

        Raises:
            DataLossError: A file is damaged, or ends too early. Then what is in ``out`` is of no use.
            InvalidValueError: The tensor has no rows, or ``rows`` goes backwards.
            InvalidArgumentError: ``out`` does not fit.
            NotFoundError: A file of the checkpoint is missing, or a part of the tensor was not saved.
            UnimplementedError: It is a tensor of variants, or of something else that only other programs can read.
            FailedPreconditionError: It had no value when it was saved, or not all of its parts are there.
        """
        start, stop, step = self._rows(rows)
        shape = (max(0, stop - start), *self.shape[1:]) if self.shape else ()
        if step != 1:
            return self._given_back(self.read(slice(start, stop))[::step], out)
        if out is not None:
            self._check_out(out, shape)
        return self._read((start, *[0] * (self.ndim - 1))[: self.ndim], shape, out)

    def read_block(self, starts: Sequence[int], shape: Sequence[int], out: Array | None = None) -> Array:
        """Reads a block of the tensor: of each dimension a range; raises as ``read`` does.

        Args:
            starts: Of each dimension, the first index.
            shape: Of the block, which has to be inside the tensor.
            out: As of ``read``.
        """
        is_inside = len(starts) == len(shape) == self.ndim and not [
            start
            for start, size, whole in zip(starts, shape, self.shape, strict=True)
            if not 0 <= start <= start + size <= whole
        ]
        if not is_inside:
            raise InvalidValueError(
                f"a block of shape {list(shape)} at {list(starts)} is not in a tensor of shape {list(self.shape)}, "
                f"which {self.name!r} is",
                variable=self.name,
            )
        if out is not None:
            self._check_out(out, tuple(shape))
        return self._read(tuple(starts), tuple(shape), out)

    def check_size(self) -> None:
        """Makes sure that its files are there and long enough, without reading them.

        Raises:
            DataLossError: A file ends too early.
            NotFoundError: A file of the checkpoint is missing.
        """
        for part in self.parts:
            part.values.check_size()

    def verify(self) -> None:
        """Reads all of it in little memory, and compares it with its checksum; of what cannot be read only the size.

        Raises:
            DataLossError: A file is damaged, or ends too early.
            NotFoundError: A file of the checkpoint is missing.
        """
        for part in self.parts:
            part.values.check_size()
            if self.problem is None:
                part.values.verify()

    @property
    def rows_of_a_piece(self) -> int:
        """How many rows ``pieces`` reads at a time: what some MiB have, but at least one. Text comes whole."""
        return _rows_of_a_piece(self.shape, self.dtype)

    def pieces(self, rows: int | None = None) -> Iterator[Array]:
        """Reads all of it, some rows at a time: arrays whose bytes, in C order, follow each other.

        Numbers are read into the same memory again: a piece is of use until the next is asked for.

        Args:
            rows: How many at a time; ``rows_of_a_piece`` if not given.

        Raises:
            DataLossError: A file is damaged, or ends too early; else as ``read``.
        """
        step = rows or self.rows_of_a_piece
        if not self.shape or len(self) <= step:
            yield self.read()
            return
        self._check_readable()
        self.check_size()
        room = None if self.dtype.hasobject else self._fresh_array((step, *self.shape[1:]))
        for start in range(0, len(self), step):
            yield self.read(slice(start, start + step), None if room is None else room[: len(self) - start])

    def pieces_of(self, part: Part) -> Iterator[Array]:
        """Reads one of its parts as ``pieces`` reads all of it."""
        self._check_readable()
        part.values.check_size()
        step = _rows_of_a_piece(part.shape, self.dtype)
        rows = part.shape[0] if part.shape else 1
        room = _fresh_array((min(step, rows), *part.shape[1:]) if part.shape else (), self.dtype)
        for start in range(0, rows, step):
            target = room[: rows - start] if part.shape else room
            if target.size:
                part.values.read_into(target, start)
            yield target

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError(f"{self.name!r} is in a file: an array of it is always a copy")
        found = self.read()
        return found if dtype is None else found.astype(dtype, copy=False)

    def __getitem__(self, index: Any) -> Any:
        """Reads what an index means, as of an array: rows that are not asked for are not read."""
        first, *others = index if isinstance(index, tuple) and index else (index,)
        if not self.shape:
            return self.read()[index]
        if isinstance(first, slice):
            start, stop, step = first.indices(self.shape[0])
            if step == 1:
                return self.read(slice(start, max(start, stop)))[(slice(None), *others)]
        elif isinstance(first, int | np.integer) and not isinstance(first, bool | np.bool):
            row = int(first) + (self.shape[0] if first < 0 else 0)
            if not 0 <= row < self.shape[0]:
                raise IndexError(f"{self.name!r} has {self.shape[0]} rows, and none of number {first}")
            return self.read(slice(row, row + 1))[(0, *others)]
        return self.read()[index]

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"{self.name!r} is a scalar, which has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(len(self)))

    def __repr__(self) -> str:
        parts = f", in {len(self.parts)} parts" if len(self.parts) > 1 else ""
        return f"<{self.name!r} in a checkpoint: {self.dtype_name} {list(self.shape)}{parts}>"

    def _check_readable(self) -> None:
        if self.problem is not None:
            raise type(self.problem)(self.problem.message, variable=self.name)

    def _rows(self, rows: slice | None) -> tuple[int, int, int]:
        if rows is None:
            return 0, self.shape[0] if self.shape else 1, 1
        if not self.shape:
            raise InvalidValueError(f"{self.name!r} is a scalar, which has no rows", variable=self.name)
        start, stop, step = rows.indices(self.shape[0])
        if step < 1:
            raise InvalidValueError(
                f"rows of {self.name!r} are read forwards, not with a step of {step}", variable=self.name
            )
        return start, max(start, stop), step

    def _given_back(self, found: Array, out: Array | None) -> Array:
        if out is None:
            return found
        self._check_out(out, found.shape)
        out[...] = found
        return out

    def _check_out(self, out: Array, shape: tuple[int, ...]) -> None:
        if not isinstance(out, np.ndarray):
            what = f"{self.name}: `out` is no NumPy array but {type(out).__name__}"
            raise InvalidArgumentError(what, variable=self.name)
        wrong = misfit(out, self.dtype, shape, in_order=False)
        if wrong is not None:
            kind, text = wrong
            raise kind(f"{self.name}: `out` {text}", variable=self.name)

    def _read(self, starts: tuple[int, ...], shape: tuple[int, ...], out: Array | None) -> Array:
        self._check_readable()
        wanted = self._wanted(starts, shape)
        for part, _, _ in wanted:
            part.values.check_size()
        target = self._fresh_array(shape) if out is None else out
        for part, low, high in wanted:
            self._read_part(part, target, starts, low, high)
        return target

    def _wanted(
        self, starts: tuple[int, ...], shape: tuple[int, ...]
    ) -> list[tuple[Part, tuple[int, ...], tuple[int, ...]]]:
        """Returns the parts that have elements of a block, with where in the tensor these begin and end."""
        if self.is_whole and len(self.parts) == 1:  # as most tensors
            end = tuple([start + size for start, size in zip(starts, shape, strict=True)])
            return [] if 0 in shape else [(self.parts[0], starts, end)]
        numbers, low, high = inside(starts, shape, *self._places)
        if not self.is_whole:
            self._check_has(starts, shape, low, high)
        found = zip(numbers, low.tolist(), high.tolist(), strict=True)
        return [(self.parts[number], tuple(first), tuple(last)) for number, first, last in found]

    @cached_property
    def _places(self) -> tuple[Array, Array]:
        starts, shapes = [part.starts for part in self.parts], [part.shape for part in self.parts]
        size = len(self.parts), len(self.shape)
        return np.array(starts, np.int64).reshape(size), np.array(shapes, np.int64).reshape(size)

    def _check_has(self, starts: tuple[int, ...], shape: tuple[int, ...], low: Array, high: Array) -> None:
        shapes = (high - low).tolist()
        if cover_once(shape, (low - np.array(starts, np.int64)).tolist(), shapes):
            return
        there = ", ".join([f"{list(part.shape)} at {list(part.starts)}" for part in self.parts[:_MOST_NAMED]])
        there += ", ..." if len(self.parts) > _MOST_NAMED else ""
        what = f"{self._where} has of {self.name!r} {list(self.shape)} only parts: {there}. They"
        if sum(map(math.prod, shapes)) < math.prod(shape):
            raise NotFoundError(
                f"{what} do not have all that is read, {list(shape)} at {list(starts)}", variable=self.name
            )
        raise DataLossError(f"{what} overlap in what is read, {list(shape)} at {list(starts)}", variable=self.name)

    def _fresh_array(self, shape: tuple[int, ...]) -> Array:
        try:
            return _fresh_array(shape, self.dtype)
        except ValueError as error:  # of more dimensions than NumPy knows, or huge ones of which one is 0
            what = f"{self.name!r} has the shape {list(self.shape)}, which NumPy's arrays cannot have"
            raise UnimplementedError(what, variable=self.name) from error

    def _read_part(
        self, part: Part, target: Array, starts: tuple[int, ...], low: tuple[int, ...], high: tuple[int, ...]
    ) -> None:
        """Reads what a part has of a block that begins at ``starts``: the elements from ``low`` to ``high``."""
        if not self.shape:
            _fill(part.values, target, 0)
            return
        first, last = low[0] - starts[0], high[0] - starts[0]
        if part.shape[1:] == target.shape[1:] and part.starts[1:] == starts[1:]:
            _fill(part.values, target[first:last], low[0] - part.starts[0])
            return
        columns = _ranges(starts, low, high)[1:]
        own_columns = _ranges(part.starts, low, high)[1:]
        row_bytes = math.prod(part.shape[1:]) * self.dtype.itemsize
        step = max(1, _ROOM_BYTES // row_bytes)
        for row in range(first, last, step):
            count = min(step, last - row)
            room = np.empty((count, *part.shape[1:]), self.dtype)
            part.values.read_into(room, starts[0] + row - part.starts[0])
            target[(slice(row, row + count), *columns)] = room[(slice(None), *own_columns)]


def _ranges(starts: tuple[int, ...], low: tuple[int, ...], high: tuple[int, ...]) -> list[slice]:
    """Returns which elements of a block that begins at ``starts`` are those from ``low`` to ``high``."""
    return [slice(first - start, last - start) for start, first, last in zip(starts, low, high, strict=True)]


class _Text:
    """Text that stands in a file as bytes or characters of one length, as objects.

    Args:
        values: What is in the file.
        dtype: Of that.
        decoded: Returns the text that such an array stands for.
    """

    def __init__(self, values: Values, dtype: np.dtype[Any], decoded: Callable[[Array], Array]):
        self._values = values
        self._dtype = dtype
        self._decoded = decoded

    def check_size(self) -> None:
        self._values.check_size()

    def verify(self) -> None:
        self._values.verify()

    def read_into(self, target: Array, first_row: int) -> None:
        room = np.empty(target.shape, self._dtype)
        self._values.read_into(room, first_row)
        target[...] = self._decoded(room)


def row_offset(rows: Array, first_row: int) -> int:
    """Returns at which byte of an array a row begins, from some of its rows."""
    return first_row * (rows.nbytes // len(rows)) if first_row else 0


def encoded_text(array: Array) -> Array:
    """Returns text as an array of objects, which are bytes."""
    as_bytes = array if array.dtype.kind == "S" else np.char.encode(array, "utf-8")
    return as_bytes.astype(object)


def text_part(part: Part, dtype: np.dtype[Any], decoded: Callable[[Array], Array] = encoded_text) -> Part:
    """Returns a part whose elements are objects, bytes, instead of text of one length.

    Args:
        part: What stands in a file.
        dtype: Of that, of kind "S" or "U".
        decoded: Returns the text that an array of it stands for.
    """
    return Part(part.starts, part.shape, _Text(part.values, dtype, decoded))


class StoredTensors(Mapping[str, StoredTensor]):
    """An open checkpoint of any form: its tensors by name. Safe from many threads until it is closed.

    Attributes:
        form: What the form is called, as "safetensors".
        path: Where it is, as it was given.
    """

    form: ClassVar[str]
    path: str

    def keys_of(self, full_name: str) -> Sequence[str]:  # noqa: ARG002 - only objects have another name than their key
        """Returns the keys of all variables that have a full name which is no key."""
        return ()

    @abstractmethod
    def close(self) -> None:
        """Closes the files; a second time does nothing. Nothing may be reading them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self.form} checkpoint {self.path}>"


def _rows_of_a_piece(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    if not shape or dtype.hasobject:
        return max([1, *shape[:1]])
    return max(1, _PIECE_BYTES // max(1, math.prod(shape[1:]) * dtype.itemsize))


def _fresh_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Returns an array to be filled.

    One that is large is memory of its own, in pages of the usual size that are all there at once: NumPy asks for huge
    pages, one fault for each, which on a virtual machine can take three times as long as reading the file.
    """
    size_bytes = math.prod(shape) * dtype.itemsize
    if size_bytes < _LARGE_BYTES or dtype.hasobject:
        return np.empty(shape, dtype)
    try:
        memory = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
    except OSError as error:
        raise MemoryError(f"there is no memory for {size_bytes} bytes") from error
    return np.frombuffer(memory, np.uint8).view(dtype).reshape(shape)


def _fill(values: Values, target: Array, first_row: int) -> None:
    if target.flags.c_contiguous:
        values.read_into(target, first_row)
        return
    room = np.empty(target.shape, target.dtype)
    values.read_into(room, first_row)
    target[...] = room


def is_utf8(name: str) -> bool:
    """Whether a name is text; bytes of TensorFlow's files that are not are surrogates in one."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
