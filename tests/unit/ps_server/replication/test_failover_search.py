"""Every schedule of a replicated task with a few faults, of any length: it answers as it should, and always heals."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from ps_server.replication.backup_link import BackupLink
from ps_server.replication.register import Register, Verdict, Wish
from ps_server.replication.replica import Replica
from tests.unit.ps_server.replication.failover_process import FOLLOWER, LINK, REPLICA
from tests.unit.ps_server.replication.failover_search import BrokenPromiseError, Search, whole_pair
from tests.unit.ps_server.replication.failover_world import World


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
            ("tick", "talk for 2 of 3, breaks", "backup:1 dies", "ps:1 is told to end", "ps:1 decides"),
            id="hands over to a backup that has died, and was heard of in the same moment",
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


def schedule_that_breaks(max_faults: int, *, has_disks: bool = False) -> list[str]:
    world = World(has_disks=has_disks)
    with pytest.raises(BrokenPromiseError) as error:
        Search(world, max_faults=max_faults).explore(whole_pair(world))
    return str(error.value).splitlines()


def test_a_primary_that_would_answer_without_a_lease_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ps_server.replication.replica.holds_lease", lambda _now_s, view: view.epoch > 0)
    assert schedule_that_breaks(1)[-1] == "=> both processes answer"


def test_a_primary_that_hands_over_to_a_backup_that_is_gone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BackupLink, "has_heard_since", lambda _self, time_s: time_s < float("inf"))
    world = World()
    search = Search(world, max_faults=0)
    key = whole_pair(world)
    search.cause[key] = (None, "start")
    with pytest.raises(BrokenPromiseError, match="the task does not heal"):
        search.follow(key, DIED_JUST_NOW)


def test_a_backup_that_never_asks_to_take_over_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    look: Any = Replica._look
    monkeypatch.setattr(Replica, "_ask_to_take_over", look)
    assert "does not" in schedule_that_breaks(1)[-1]


def test_a_process_that_takes_any_state_on_its_disk_for_the_newest_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(replica: Any, wish: Wish | None, candidate: UUID | None = None) -> Any:
        if wish is not Wish.RETURN:
            return real_ask(replica, wish, candidate)
        known = real_ask(replica, None)
        return known and Verdict(Register(known.register.epoch + 1, replica._process), granted=True)

    real_ask: Any = Replica._ask
    monkeypatch.setattr(Replica, "_ask", ask)
    assert schedule_that_breaks(2, has_disks=True)[-1].startswith("=> ")


def test_a_process_that_returns_without_a_new_epoch_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has asked for before it died may be carried out late."""

    def ask(replica: Any, wish: Wish | None, candidate: UUID | None = None) -> Any:
        verdict = real_ask(replica, None if wish is Wish.RETURN else wish, candidate)
        is_named = verdict and verdict.register and replica._process in verdict.register.members
        return Verdict(verdict.register, granted=True) if wish is Wish.RETURN and is_named else verdict

    real_ask: Any = Replica._ask
    monkeypatch.setattr(Replica, "_ask", ask)
    assert schedule_that_breaks(2, has_disks=True)[-1].startswith("=> ")
