"""What a ps holds after many clients were killed at work, more than it keeps in mind: no more than its bounds say."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
import psutil
import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.memory.segment_mapping import IS_SUPPORTED
from ps_protocol.operations import Array, Batch, Read, Result
from ps_server.batches.update_ledger import LedgerLimits
from ps_server.core.parameter_server import ParameterServer
from ps_server.core.state import MemoryState
from ps_server.log.state_parts import StateParts
from ps_server.process.server import PsServer
from tests.chaos import dying_clients
from tests.conftest import Eventually

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.slow,
    pytest.mark.skipif(not IS_SUPPORTED, reason="this system has no memfds"),
]

ROOT = Path(__file__).parents[2]
NUM_CLIENTS = 96
MAX_CLIENTS = 40
MAX_CONCURRENT = 8
TIMEOUT_S = 30.0
SOME_DESCRIPTORS = 16


@dataclass(frozen=True)
class Holdings:
    """What a ps has of its clients."""

    threads: int
    descriptors: int
    segments: int
    mappings: int
    staged_bytes: int


class Ps:
    """A ps task in this process, whose insides can be looked at; its clients are other processes."""

    def __init__(self) -> None:
        limits = LedgerLimits(clients=MAX_CLIENTS, idle_after_s=0.2)
        cluster_spec = ClusterSpec({"ps": ["localhost:1"]})
        state = MemoryState(StateParts(cluster_spec, 0, ledger_limits=limits))
        self.core = ParameterServer(cluster_spec=cluster_spec, task_index=0, state=state)
        self.server = PsServer(
            self.core, host="127.0.0.1", port=0, max_concurrent=MAX_CONCURRENT, control_threads=MAX_CONCURRENT
        )
        self.address = f"127.0.0.1:{self.server.start()}"

    def holdings(self) -> Holdings:
        gc.collect()
        assert self.server.segments is not None
        return Holdings(
            threads=threading.active_count(),
            descriptors=psutil.Process().num_fds(),
            segments=self.server.segments.num_segments,
            mappings=Path("/proc/self/maps").read_text(encoding="utf-8").count("memfd:shardscope"),
            staged_bytes=self.server.staging.used_bytes,
        )

    def value(self, name: str) -> Array:
        observer = uuid4()
        self.core.hello(observer, "observer:0", timeout_s=TIMEOUT_S)
        batch = Batch(observer, self.core.store_incarnation, 0, (Read(name),))
        (result,) = self.core.exchange(batch, timeout_s=TIMEOUT_S).replies
        self.core.goodbye(observer, timeout_s=TIMEOUT_S)
        assert isinstance(result, Result)
        assert result.tensor is not None
        return result.tensor

    def close(self) -> None:
        assert self.server.stop("the test is over", timeout_s=TIMEOUT_S)


@pytest.fixture
def ps() -> Iterator[Ps]:
    # The records that pytest keeps for its report hold on to errors, and so to the memory that these were about.
    logging.disable(logging.CRITICAL)
    try:
        with closing(Ps()) as ps:
            yield ps
    finally:
        logging.disable(logging.NOTSET)


def kill_clients(ps: Ps, number: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.chaos.dying_clients", ps.address, str(number)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert ended.stdout == f"{number} clients were killed\n", ended.stderr[-3000:]


@pytest.mark.timeout(500)
def test_of_clients_that_were_killed_a_ps_keeps_no_more_than_its_bounds(ps: Ps, eventually: Eventually) -> None:
    before = ps.holdings()

    kill_clients(ps, NUM_CLIENTS)

    eventually(lambda: ps.holdings().segments == 0, timeout_s=TIMEOUT_S, message="no segment can be referred to")
    eventually(lambda: ps.holdings().mappings <= before.mappings, timeout_s=TIMEOUT_S, message="all is unmapped")
    eventually(lambda: ps.holdings().staged_bytes == 0, timeout_s=TIMEOUT_S, message="no tensor is on its way")
    most = before.descriptors + SOME_DESCRIPTORS
    eventually(lambda: ps.holdings().descriptors <= most, timeout_s=TIMEOUT_S, message=f"at most {most} descriptors")
    assert ps.holdings().threads <= before.threads + 4 * MAX_CONCURRENT  # three pools for gRPC, one for sockets
    assert ps.core.status(timeout_s=TIMEOUT_S).num_clients <= MAX_CLIENTS
    assert ps.value(dying_clients.ACKNOWLEDGED) == NUM_CLIENTS
    np.testing.assert_array_equal(ps.value(dying_clients.LARGE), NUM_CLIENTS)
