"""A port that a stopped cluster of the same process has had serves others: what answers there again is waited for."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

import worker_client as ss
from ps_protocol.stopped_clusters import note_stopped
from tests.chaos.ps_processes import PsTask
from tests.chaos.testbed import connected
from tests.conftest import Eventually

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

TIMEOUT_S: Final = 60.0


@pytest.mark.parametrize("transport", ["tcp", "shm", "grpc"])
def test_another_ps_at_the_address_of_a_stopped_cluster_may_be_away_and_come_back(
    tmp_path: Path, transport: str, eventually: Eventually
) -> None:
    with PsTask(tmp_path, "journal") as ps:
        note_stopped([ps.address])
        ps.start()
        with connected([ps.address], transport) as client:
            with client.as_default():
                count = ss.get_variable("count", [], initializer=ss.zeros_initializer())
            count.assign_add(1.0)
            ps.kill()
            added = count.assign_add(1.0, wait=False)
            eventually(lambda: added.done() or client._handles[0].state != "connected")
            ps.start()
            added.result(TIMEOUT_S)
            assert float(count) == 2
