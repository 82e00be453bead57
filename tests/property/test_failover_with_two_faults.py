"""Every schedule of two faults of a replicated task: it answers as it should, and always heals.

With one fault, and with what the code must not do: ``tests/unit/ps_server/replication/test_failover_search.py``.
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


def test_a_whole_pair_survives_every_two_faults() -> None:
    world = World()
    search = Search(world, max_faults=2)
    search.explore(whole_pair(world))
    # The schedules do what they are for.
    for place in ("ps:1", "backup:1"):
        for fault in (
            *("stands still", "dies", "is told to end", "is cut off from the store"),
            *("decides nothing", "decides, the call is lost", "decides, the call is late"),
            "decides, the call answer is lost",
        ):
            assert search.seen[f"{place} {fault}"], fault
    for fault in ("backup:1 is promoted", "the two are parted", "talk for 1 of 3, breaks", "reported"):
        assert search.seen[fault], fault
    assert len(search.cause) > 5_000


def test_a_whole_pair_survives_every_two_faults_at_the_narrowest_margins() -> None:
    """The primary uses its part of the lease to the end, and its backup asks one tick after the whole."""
    world = World(ticks_per_lease=2.5)
    Search(world, max_faults=2).explore(whole_pair(world))


def test_a_pair_survives_an_operator_who_gives_up_its_state() -> None:
    """Whether it is lost or not, there are never two processes that answer."""
    world = World()
    search = Search(world, max_faults=2, accepts_loss=True)
    search.explore(whole_pair(world))
    assert search.seen["ps:1 is promoted with loss"]
    assert search.seen["backup:1 is promoted with loss"]


@pytest.mark.parametrize("ticks_per_lease", [2.0, 2.5])
def test_a_pair_with_disks_survives_every_two_faults(ticks_per_lease: float) -> None:
    """Both may die at once: nothing is lost as long as one disk is left that the register names."""
    world = World(ticks_per_lease, has_disks=True)
    search = Search(world, max_faults=2)
    search.explore(whole_pair(world))
    assert search.seen["both die"]
    for place in ("ps:1", "backup:1"):
        assert search.seen[f"{place} dies, and its disk is lost"]
    assert search.seen["ps:1 dies, and its last update is not on its disk"]
    assert search.seen["reported"], "both disks may be lost"
