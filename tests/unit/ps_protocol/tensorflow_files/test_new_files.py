"""A new file goes to the disk while it is written, so that its end does not wait for all of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from ps_protocol.errors import ResourceExhaustedError
from ps_protocol.tensorflow_files.bundle_writer import new_checkpoint
from ps_protocol.tensorflow_files.checkpoint import open_tensorflow

MIB = 1024**2


def test_the_disk_begins_with_a_large_tensor_before_it_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[int, int]] = []

    def advise(descriptor: int, offset: int, size_bytes: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_DONTNEED
        assert os.fstat(descriptor).st_size >= offset + size_bytes  # what is still in the process cannot be begun
        begun.append((offset, offset + size_bytes))

    monkeypatch.setattr(os, "posix_fadvise", advise)
    large, small = np.arange(5 * MIB, dtype=np.int32), np.arange(3, dtype=np.int32)
    with new_checkpoint(tmp_path / "x") as writer:
        writer.add("a", small)
        writer.add("b", large)
        assert [start for start, _ in begun[1:]] == [end for _, end in begun[:-1]]
        assert begun[0][0] == 0
        assert small.nbytes + large.nbytes - begun[-1][1] < 8 * MIB + small.nbytes
    with open_tensorflow(tmp_path / "x") as checkpoint:
        np.testing.assert_array_equal(checkpoint["a"].read(), small)
        np.testing.assert_array_equal(checkpoint["b"].read(), large)


def test_a_checkpoint_in_the_place_of_another_leaves_that_until_its_data_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with new_checkpoint(tmp_path / "m") as writer:
        writer.add("a", np.ones(3))
    failures: list[int] = []

    def full(descriptor: int) -> None:
        failures.append(descriptor)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(ResourceExhaustedError), new_checkpoint(tmp_path / "m") as writer:
            writer.add("a", np.zeros(3))
    assert len(failures) == 1
    with open_tensorflow(tmp_path / "m") as checkpoint:
        np.testing.assert_array_equal(checkpoint["a"].read(), np.ones(3))
