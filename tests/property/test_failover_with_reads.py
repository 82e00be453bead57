"""Every schedule of two faults of a pair whose backup is read: what is seen there is not lost.

Apart from the other searches, since these take longest, and far from the end of the run, where nothing goes on beside
them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.unit.ps_server.replication.failover_search import Search, whole_pair
from tests.unit.ps_server.replication.failover_world import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Without thousands of lines in the log of each test."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(
    ("has_disks", "ticks_per_lease"),
    [
        pytest.param(False, 4.0, id="memory-4.0"),
        pytest.param(False, 5.0, id="memory-5.0"),
        pytest.param(True, 4.0, id="disks-4.0"),
        pytest.param(True, 5.0, id="disks-5.0", marks=pytest.mark.soak),
    ],
)
def test_what_is_seen_at_a_backup_is_not_lost(ticks_per_lease: float, has_disks: bool) -> None:
    search = Search(World(ticks_per_lease, reads=True, has_disks=has_disks), max_faults=2)
    search.explore(whole_pair(search.world))
    for place in ("ps:1", "backup:1"):
        assert search.seen[f"{place} is read"]
