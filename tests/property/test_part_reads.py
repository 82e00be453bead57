"""A whole read in parts is what it is in one piece, wherever it is cut and whatever it is read into."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ps_protocol.operations import Array, Read, Result, VariableSpec
from worker_client.connection.fanout import Routed
from worker_client.variables.base import OperationRunner, VariableBase
from worker_client.variables.part_reads import WholeRead, read


class FillingRunner:
    """Answers reads with the parts' values, and puts them where it is told to."""

    def __init__(self, values: dict[str, Array]):
        self._values = values

    def run_all(self, routed: Sequence[Routed]) -> list[Result]:
        return [self._result(cast(Read, each.operation)) for each in routed]

    def _result(self, operation: Read) -> Result:
        value = self._values[operation.name]
        if operation.out is None:
            return Result(1, True, value)
        assert operation.out.flags.c_contiguous
        assert operation.out.shape == value.shape
        operation.out[...] = value
        return Result(1, True, operation.out)


@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    axis=st.integers(0, 2),
    cuts=st.sets(st.integers(1, 5)),
    out_kind=st.sampled_from(["none", "contiguous", "fortran", "strided"]),
)
def test_the_parts_fill_the_whole(shape: list[int], axis: int, cuts: set[int], out_kind: str) -> None:
    axis %= len(shape)
    whole = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    ends = [*sorted(cut for cut in cuts if cut < shape[axis]), shape[axis]]
    slices = [(*(slice(None),) * axis, slice(begin, end)) for begin, end in itertools.pairwise([0, *ends])]
    pieces = [whole[each] for each in slices]
    values = {f"part_{index}": np.ascontiguousarray(piece) for index, piece in enumerate(pieces)}
    runner = cast(OperationRunner, FillingRunner(values))
    parts = [
        VariableBase(VariableSpec(name, value.dtype, value.shape), runner=runner, ps_task=0)
        for name, value in values.items()
    ]
    out = {
        "none": None,
        "contiguous": np.full(shape, np.nan, np.float32),
        "fortran": np.full(shape, np.nan, np.float32, order="F"),
        "strided": np.full([*shape[:-1], shape[-1] * 2], np.nan, np.float32)[..., ::2],
    }[out_kind]
    spec = VariableSpec("whole", whole.dtype, whole.shape)
    (value,) = read(runner, [WholeRead(spec, parts, slices=slices, out=out)])
    np.testing.assert_array_equal(value, whole)
    assert out is None or value is out
