from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from ps_protocol.operations import Array, VariableSpec
from worker_client.variables.base import OperationRunner
from worker_client.variables.updates import VariableUpdates


@dataclass
class FakeRunner:
    """Has so much memory to share."""

    memory: Array | None
    asked: list[tuple[int | None, int]] = field(default_factory=list)

    def new_buffer(self, ps_task: int | None, size_bytes: int) -> Array | None:
        self.asked.append((ps_task, size_bytes))
        return self.memory


def _variable(runner: FakeRunner, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> VariableUpdates:
    spec = VariableSpec("v", np.dtype(dtype), shape)
    return VariableUpdates(spec, runner=cast("OperationRunner", runner), ps_task=2)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.complex128, ml_dtypes.bfloat16, "S3", np.bool_])
def test_the_buffer_is_the_memory_that_is_shared(dtype: Any) -> None:
    shape = (100_000, 3)
    runner = FakeRunner(np.zeros(300_000 * np.dtype(dtype).itemsize, np.uint8))
    assert runner.memory is not None
    buffer = _variable(runner, shape, dtype).push_buffer()
    assert (buffer.shape, buffer.dtype) == (shape, np.dtype(dtype))
    assert np.shares_memory(buffer, runner.memory)
    assert buffer.flags.c_contiguous
    assert buffer.flags.writeable
    assert runner.asked == [(2, runner.memory.nbytes)]


def test_without_shared_memory_it_is_an_ordinary_array() -> None:
    buffer = _variable(FakeRunner(None), (100_000,)).push_buffer()
    assert buffer.shape == (100_000,)
    assert buffer.flags.owndata


@pytest.mark.parametrize("shape", [(), (0,), (16_383,)])
def test_what_is_small_needs_none(shape: tuple[int, ...]) -> None:
    runner = FakeRunner(np.zeros(1, np.uint8))
    assert _variable(runner, shape).push_buffer().shape == shape
    assert runner.asked == []
