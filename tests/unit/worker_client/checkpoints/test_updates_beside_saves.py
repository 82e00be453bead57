"""Updates go on beside a save whose disk is slow, and the memory for second values is bounded."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.codec.tensor_codec import Buffer
from ps_protocol.errors import FailedPreconditionError
from ps_protocol.files.synced_files import SyncedWriter
from ps_server.checkpoints.pace import PIECE_BYTES
from ps_server.memory.byte_budget import readable_bytes
from ps_server.memory.spare_arrays import SpareArrays
from tests.conftest import Eventually
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from worker_client.connection.settings import Settings

TIMEOUT_S = 60.0
SIZE_BYTES = PIECE_BYTES  # so that a value is written by one call
ELEMENTS = SIZE_BYTES // 4
NUMBER = 32
LIMIT_BYTES = NUMBER * SIZE_BYTES // 16
ONES = np.ones(ELEMENTS, np.float32)


class SlowDisk:
    """Writes as many values as it has leave for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self._leave = threading.Semaphore(0)
        self.is_asked = threading.Event()
        write = SyncedWriter.write

        def write_later(writer: SyncedWriter, data: Buffer, crc: int = 0) -> int:
            if memoryview(data).nbytes == SIZE_BYTES:
                self.is_asked.set()
                assert self._leave.acquire(timeout=TIMEOUT_S)
            return write(writer, data, crc)

        monkeypatch.setattr(SyncedWriter, "write", write_later)

    def allow(self, values: int) -> None:
        self._leave.release(values)


@pytest.fixture
def cluster() -> Iterator[SmallCluster]:
    """One ps task that keeps no spare arrays, which would be counted as well."""
    with SmallCluster(1) as cluster:
        spares = cluster.tasks[0].state.parts.store.spares
        spares.__init__(0)  # type: ignore[misc]
        assert isinstance(spares, SpareArrays)
        yield cluster


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def declared(client: ss.Client) -> list[ss.Variable]:
    with client.as_default():
        made = [
            ss.get_variable(f"v{index:02}", [ELEMENTS], initializer=ss.ones_initializer()) for index in range(NUMBER)
        ]
    return [each for each in made if isinstance(each, ss.Variable)]


def test_second_values_are_bounded_while_all_variables_are_updated(
    tmp_path: Path,
    cluster: SmallCluster,
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Eventually,
    resources: ExitStack,
) -> None:
    saver, client, other = cluster.client(0), cluster.client(1), cluster.client(2)
    tracemalloc.start()
    resources.callback(tracemalloc.stop)
    variables, done = declared(client), list[str]()
    with other.as_default():
        scalar = ss.get_variable("scalar", [], initializer=ss.zeros_initializer())

    def update_all(times: int) -> None:
        for _ in range(times):
            for each in reversed(variables):
                each.assign_add(ONES)
                done.append(each.name)

    def wait_for(number: int) -> None:
        eventually(lambda: len(done) == number, timeout_s=TIMEOUT_S, message=f"{number} updates are done")

    update_all(1)
    done.clear()
    disk, second_values = SlowDisk(monkeypatch), cluster.tasks[0].state.parts.store.second_values
    before_bytes = tracemalloc.get_traced_memory()[0]
    saving = pool.submit(partial(saver.save, tmp_path, name="x"))
    assert disk.is_asked.wait(TIMEOUT_S)
    tracemalloc.reset_peak()
    updating = pool.submit(update_all, 2)
    # As many as there is room for, while nothing is written.
    wait_for(LIMIT_BYTES // SIZE_BYTES)
    first = f"v{NUMBER - 1 - len(done)}"
    eventually(lambda: second_values.wanted() == first, timeout_s=TIMEOUT_S, message="the next one waits")
    for written in range(1, 5):  # what is wanted comes first, but for what was begun before
        scalar.assign_add(1.0)
        disk.allow(1)
        wait_for(LIMIT_BYTES // SIZE_BYTES + written - 1)
    assert second_values.taken_bytes <= LIMIT_BYTES
    disk.allow(NUMBER)
    saving.result(TIMEOUT_S)
    updating.result(TIMEOUT_S)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    # Beside second values, one that is just being made, and what the clients and the file system's buffer take.
    assert LIMIT_BYTES <= peak_bytes - before_bytes <= LIMIT_BYTES + 4 * SIZE_BYTES + 2 * 1024**2
    assert scalar.read_value() == 4.0
    assert [float(each.read_value()[0]) for each in variables] == [4.0] * NUMBER
    ss.checkpoint.verify(tmp_path / "x")
    saver.restore(tmp_path / "x")
    with cluster.client(3).as_default():
        found = [ss.get_variable(f"v{index:02}", [ELEMENTS]).read_value()[-1] for index in range(NUMBER)]
        assert found == [2.0] * NUMBER


def test_a_save_that_keeps_updates_waiting_is_given_up(
    tmp_path: Path,
    cluster: SmallCluster,
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saver = cluster.client()
    client = cluster.client(1, settings=Settings(operation_timeout_s=4.0))  # the save is given up after half of it
    variables = declared(client)
    disk = SlowDisk(monkeypatch)
    saving = pool.submit(partial(saver.save, tmp_path, name="x"))
    assert disk.is_asked.wait(TIMEOUT_S)
    client.assign_add_all([(each, ONES) for each in variables])
    disk.allow(NUMBER)
    with pytest.raises(FailedPreconditionError, match=r"save was given up.* --copy-limit.* a faster disk") as caught:
        saving.result(TIMEOUT_S)
    assert f"({readable_bytes(NUMBER * SIZE_BYTES)} are enough for all variables)" in caught.value.message
    assert caught.value.task == "ps:0"
    assert list(tmp_path.iterdir()) == []
    assert [float(each.read_value()[0]) for each in variables] == [2.0] * NUMBER
    disk.allow(NUMBER)
    saver.save(tmp_path, name="x")
    ss.checkpoint.verify(tmp_path / "x")
