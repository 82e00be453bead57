"""Every schedule of a replicated task with a fault, of any length: it answers as it should, and always heals."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from ps_server.replication.follower import Follower
from ps_server.replication.register import Register, Verdict, Wish
from ps_server.replication.replica import Replica
from tests.unit.ps_server.replication.failover_process import FOLLOWER, LINK, READ_LEASE, REPLICA
from tests.unit.ps_server.replication.failover_search import BrokenPromiseError, Search, whole_pair
from tests.unit.ps_server.replication.failover_world import World


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Without thousands of lines in the log of each test."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("ticks_per_lease", [4.0, 5.0])
@pytest.mark.parametrize("has_disks", [False, True], ids=["memory", "disks"])
def test_a_backup_that_is_read_has_every_acknowledged_update_and_what_is_seen_there_is_not_lost(
    ticks_per_lease: float, has_disks: bool
) -> None:
    """With one fault; ``tests/property/test_failover_with_reads.py`` has two."""
    search = Search(World(ticks_per_lease, reads=True, has_disks=has_disks), max_faults=1)
    search.explore(whole_pair(search.world))
    for place in ("ps:1", "backup:1"):
        assert search.seen[f"{place} is read"]


@pytest.mark.parametrize("has_disks", [False, True])
def test_a_task_that_begins_survives_every_fault(has_disks: bool) -> None:
    search = Search(World(has_disks=has_disks), max_faults=1)
    search.explore()
    assert search.seen["ps:1 dies"]


ROUND = ("tick", "talk", "ps:1 decides", "backup:1 decides", "clients")
DIED_JUST_NOW = ("tick", "backup:1 dies", "talk", "ps:1 is told to end", "ps:1 decides")


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(DIED_JUST_NOW, id="hands over to a backup that has died just now"),
        pytest.param(
            (*ROUND[:2], "ps:1 is told to end", *ROUND[2:], *ROUND[:3], "backup:1 dies", *ROUND[3:], *ROUND * 2),
            id="has handed over to a backup that dies before it has begun",
        ),
        pytest.param(
            ("tick", "talk for 2 of 3, breaks", "backup:1 dies", "ps:1 is told to end", "ps:1 decides"),
            id="hands over to a backup that has died, and was heard of in the same moment",
        ),
        pytest.param(
            (
                *("tick", "backup:1 is promoted", *ROUND[1:], *ROUND[:3], "backup:1 decides, the call is late"),
                *("clients", "tick", "ps:1 dies"),
            ),
            id="was handed the place, and is followed by another one before it has gone on alone",
        ),
        pytest.param(
            ("ps:1 dies", "ps:1 is started", *ROUND * 5, "tick", "talk", "ps:1 stands still", *ROUND[2:], *ROUND * 2),
            id="a follower is let go of before it was the backup",
        ),
        pytest.param(
            (*ROUND[:1], "backup:1 is promoted", *ROUND[1:], *ROUND[:2], "backup:1 is told to end", "ps:1 decides"),
            id="the backup is wanted in the place, and told to end then",
        ),
    ],
)
def test_a_schedule_after_which_a_pair_did_not_heal_once(labels: tuple[str, ...]) -> None:
    world = World()
    search = Search(world, max_faults=0)
    key = whole_pair(world)
    search.cause[key] = (None, "start")
    search.follow(key, labels)


@pytest.mark.parametrize("has_disks", [False, True])
def test_a_state_that_is_put_back_is_the_same_state(has_disks: bool) -> None:
    world = World(has_disks=has_disks)
    search = Search(world, max_faults=1)
    search.explore(whole_pair(world))
    for state, _phase in list(search.cause):
        world.load(state)
        assert world.save() == state


def test_the_model_knows_every_field() -> None:
    """A new field must be put back with a state, or be among those that do not change or do not matter."""
    process = World().pair[0]
    for part, kinds in ((process.replica, REPLICA), (process.follower, FOLLOWER), (process.link, LINK)):
        assert vars(part).keys() == {name for names in kinds.values() for name in names}, type(part).__name__
    assert vars(process.follower.read_lease).keys() == {"_lease_s", *READ_LEASE}


def schedule_that_breaks(max_faults: int, world: World | None = None) -> list[str]:
    world = world or World()
    with pytest.raises(BrokenPromiseError) as error:
        Search(world, max_faults=max_faults).explore(whole_pair(world))
    return str(error.value).splitlines()


def test_a_primary_that_would_answer_without_a_lease_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ps_server.replication.replica.is_within_lease", lambda *_of_the_lease: True)
    assert schedule_that_breaks(1)[-1] == "=> both processes answer"


def test_a_primary_that_ends_before_another_one_has_begun_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    hand_over: Any = Replica._hand_over

    def hand_over_and_end(replica: Replica) -> bool:
        again = bool(hand_over(replica))
        if replica._holds_back:
            replica._end("it has handed over")
        return again

    monkeypatch.setattr(Replica, "_hand_over", hand_over_and_end)
    schedule = schedule_that_breaks(2)
    assert "the task does not heal" in schedule[-1]


def test_a_backup_that_never_asks_to_take_over_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    look: Any = Replica._look
    monkeypatch.setattr(Replica, "_ask_to_take_over", look)
    assert "does not" in schedule_that_breaks(1)[-1]


LEFT_BY_ITS_BACKUP = ("tick", "backup:1 is told to end", "talk", "ps:1 decides", "backup:1 decides nothing", "clients")
READ_TOO_LONG = "=> backup:1 is read without an update that was acknowledged"


def test_a_backup_that_is_read_for_too_long_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ps_server.replication.read_lease.READ_PART", 2.0)
    assert schedule_that_breaks(1, World(4.0, reads=True))[-1] == READ_TOO_LONG


def test_a_backup_that_is_read_though_it_has_said_that_it_leaves_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    check: Any = Follower.check_may_read

    def check_lease_alone(follower: Follower) -> None:
        was_leaving, follower.is_leaving = follower.is_leaving, False
        try:
            check(follower)
        finally:
            follower.is_leaving = was_leaving

    monkeypatch.setattr(Follower, "check_may_read", check_lease_alone)
    world = World(4.0, reads=True)
    search = Search(world, max_faults=0)
    key = whole_pair(world)
    search.cause[key] = (None, "start")
    with pytest.raises(BrokenPromiseError, match=READ_TOO_LONG):
        search.follow(key, (*ROUND * 4, *LEFT_BY_ITS_BACKUP))


def test_a_process_that_takes_any_state_on_its_disk_for_the_newest_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(replica: Any, wish: Wish | None, candidate: UUID | None = None) -> Any:
        if wish is not Wish.RETURN:
            return real_ask(replica, wish, candidate)
        known = real_ask(replica, None)
        return known and Verdict(Register(known.register.epoch + 1, replica._process), granted=True)

    real_ask: Any = Replica._ask
    monkeypatch.setattr(Replica, "_ask", ask)
    assert schedule_that_breaks(2, World(has_disks=True))[-1].startswith("=> ")
