"""What is staged in a slot, as the bytes of its variable: a header of JSON, then the operands one after the other.

The first eight bytes are the header's length. A slot as it is declared, in which nothing is, has fewer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from ps_protocol.codec.fast.bounded_table import ENTRY_BYTES, BoundedTable
from ps_protocol.codec.tensor_codec import parse_layout
from ps_protocol.dtype_traits import dtype_name
from ps_protocol.operations import Array
from ps_protocol.training.round_operations import Stage, StagedStep
from ps_server.rounds.staging import Slot

_ALIGNMENT: Final = 64
_LENGTH: Final = np.dtype("<u8")


class Header(NamedTuple):
    """What the header of a slot says.

    Attributes:
        slot: What is in it; None if nothing is.
        begin: Where the operands begin.
        steps: As JSON has them.
    """

    slot: Slot | None
    begin: int
    steps: Sequence[Any]


class _Steps(NamedTuple):
    """What headers say of steps, which is the same in each round.

    Attributes:
        text: JSON of it.
        said: The same, read.
        size_bytes: Of the operands.
    """

    text: str
    said: Sequence[Any]
    size_bytes: int


_steps: Final[BoundedTable[_Steps]] = BoundedTable()


def _described(steps: Sequence[StagedStep]) -> _Steps:
    end, said = 0, []
    for step in steps:
        places = []
        for each in step.operands:
            places.append([end, dtype_name(each.dtype), each.shape])
            end += _aligned(each.nbytes)
        said.append([step.name, step.function, step.slots, step.state, step.numbers.tolist(), places])
    text = json.dumps(said, separators=(",", ":"))
    return _Steps(text, json.loads(text), end)


class StagedBytes(NamedTuple):
    """What is to be staged.

    Attributes:
        header: The bytes before the operands.
        size_bytes: Of all.
        operands: In their order.
        read: What the header says.
    """

    header: bytes
    size_bytes: int
    operands: Sequence[Array]
    read: Header

    @classmethod
    def of(cls, stage: Stage) -> StagedBytes:
        """Returns what an operation stages."""
        operands = [each for step in stage.steps for each in step.operands]
        layouts = tuple([(each.dtype, each.shape) for each in operands])
        said_of = [
            (each.name, each.function, each.slots, each.state, each.numbers.tobytes(), len(each.operands))
            for each in stage.steps
        ]
        key = (layouts, *said_of)
        steps = _steps.get(key)
        if steps is None:
            steps = _described(stage.steps)
            _steps.put(key, steps, len(steps.text) + ENTRY_BYTES * len(stage.steps))
        slot = Slot(stage.seat, stage.round % stage.slots, stage.ticket, stage.round)
        said = f'{{"slot":[{slot.seat},{slot.index},{slot.ticket},{slot.round}],"steps":{steps.text}}}'.encode()
        header = np.array(len(said), _LENGTH).tobytes() + said
        begin = _aligned(len(header))
        return cls(header, begin + steps.size_bytes, operands, Header(slot, begin, steps.said))

    def write(self, into: Array) -> None:
        """Writes it into bytes, of which there are ``size_bytes``."""
        into[: len(self.header)] = np.frombuffer(self.header, np.uint8)
        begin = _aligned(len(self.header))
        for each in self.operands:
            _view(into, begin, each.dtype, each.shape)[...] = each
            begin += _aligned(each.nbytes)


_NOTHING: Final = Header(None, 0, ())


def header_of(staged: Array) -> Header:
    """Reads the header of a slot."""
    if staged.size < _LENGTH.itemsize:
        return _NOTHING
    end = _LENGTH.itemsize + int(staged[: _LENGTH.itemsize].view(_LENGTH)[0])
    said = json.loads(staged[_LENGTH.itemsize : end].tobytes())
    return Header(Slot(*said["slot"]), _aligned(end), said["steps"])


def steps_of(staged: Array, header: Header) -> list[StagedStep]:
    """Returns the steps in a slot; their operands are views of it."""
    steps = []
    for name, function, slots, state, numbers, places in header.steps:
        operands = []
        for offset, dtype, shape in places:
            layout = parse_layout(dtype, shape)
            operands.append(_view(staged, header.begin + offset, layout.dtype, layout.shape))
        steps.append(StagedStep(name, function, tuple(slots), state, tuple(operands), np.array(numbers, np.float64)))
    return steps


def _view(staged: Array, begin: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    size_bytes = math.prod(shape) * dtype.itemsize
    return staged[begin : begin + size_bytes].view(dtype).reshape(shape)


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNMENT) * _ALIGNMENT
