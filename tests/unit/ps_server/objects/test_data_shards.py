"""Data shards and their receipts as pure machines."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ps_protocol.errors import AbortedError, FailedPreconditionError, InvalidArgumentError, ShardscopeError
from ps_protocol.shared_objects import Json
from ps_protocol.training.data_shards import END
from ps_server.objects.data_shards import DATA_SHARDS
from ps_server.objects.object_kind import ObjectKind
from ps_server.objects.shard_names import SHARD_NAMES
from ps_server.objects.shard_receipts import SHARD_RECEIPTS


class Machine:
    """An object, and whether a step has changed the state that it was given."""

    def __init__(self, kind: ObjectKind = DATA_SHARDS, **given: Any):
        self._kind = kind
        self.state = kind.empty({"count": 2, "epochs": 2, "shuffle_seed": None, **given})

    def do(self, **event: Any) -> Json | None:
        before = copy.deepcopy(self.state)
        try:
            step = self._kind.step(self.state, event)
        finally:
            assert self.state == before
        if step is None:
            return None
        self.state, answer = step
        return answer

    def take(self, worker: str, *, identity: str = "", store: str = "s", busy: tuple[int, ...] = ()) -> Json | None:
        event = {"by": worker, "id": identity or worker, "store": store, "now": 5.0, "lease": 1.0, "process": "p"}
        return self.do(do="take", busy=list(busy), **event)

    def taken(self, worker: str, **given: Any) -> Json:
        place = self.take(worker, **given)
        assert place is not None
        return place

    def update(self, worker: str, place: Json, begin: int = 0, end: int = END) -> bool:
        named = {name: place[name] for name in ("epoch", "place", "ticket")}
        answer = self.do(do="update", by=worker, **named, **{"from": begin, "to": end})
        assert answer is not None
        return bool(answer["passes"])

    def look(self, **question: Any) -> Json | None:
        return self._kind.look(self.state, question)


def test_each_place_is_given_once_and_the_epochs_end_together() -> None:
    shards = Machine()
    for epoch in range(2):
        one, two = shards.taken("a"), shards.taken("b")
        assert [(each["epoch"], each["place"]) for each in (one, two)] == [(epoch, 0), (epoch, 1)]
        assert shards.take("a", busy=(0,)) is None
        assert shards.look(ask="take", id="a", busy=[0]) is None
        assert shards.update("a", one)
        assert shards.take("a") is None  # no shard of the next epoch before this one is over
        assert shards.update("b", two)
    assert shards.look(ask="take", id="a", busy=[]) == {}
    assert shards.take("a") == shards.take("b") == {"end": True}


def test_what_a_lost_worker_had_goes_to_another_from_where_it_was() -> None:
    shards = Machine()
    place = shards.taken("a")
    assert shards.update("a", place, 0, 5)
    assert shards.do(do="gone", gone=["a"]) == {"returned": 1}
    again = shards.taken("b")
    assert (again["place"], again["position"], again["again"]) == (0, 5, True)
    assert again["ticket"] > place["ticket"]
    with pytest.raises(AbortedError, match=r"a updates shard 0 of epoch 0, which it has lost.*b has it now") as lost:
        shards.update("a", place, 5)
    assert not lost.value.retryable
    assert shards.update("b", again, 5)
    with pytest.raises(AbortedError, match="b has handed it in"):
        shards.update("a", place, 5)
    with pytest.raises(FailedPreconditionError, match="b updates shard 0 of epoch 0, which it has handed in already"):
        shards.update("b", again, 0, 7)


def test_a_piece_or_a_hand_in_that_is_repeated_counts_once() -> None:
    shards = Machine()
    place = shards.taken("a")
    assert shards.update("a", place, 0, 5)
    assert not shards.update("a", place, 0, 5)
    assert shards.update("a", place, 5)
    assert not shards.update("a", place, 5)
    assert shards.state["handed_in"] == {"a": 1}
    with pytest.raises(FailedPreconditionError, match="which it has handed in already"):
        shards.update("a", {**place, "ticket": 77})


def test_a_worker_that_was_started_again_is_given_what_it_had() -> None:
    shards = Machine()
    place = shards.taken("a", identity="first")
    again = shards.taken("a", identity="second")
    assert (again["place"], again["again"]) == (place["place"], True)
    assert shards.taken("a", identity="second")["ticket"] > again["ticket"]  # a reply that never came
    assert shards.taken("a", identity="second", busy=(0,))["place"] == 1


def test_after_a_restore_nobody_works_on_what_was_given_out_before() -> None:
    shards = Machine()
    place = shards.taken("a")
    shards.update("a", place, 0, 5)
    again = shards.taken("b", store="another")
    assert (again["place"], again["position"]) == (0, 5)


def test_what_is_given_back_is_given_again() -> None:
    shards = Machine()
    place = shards.taken("a")
    assert shards.do(do="give_back", place=0, ticket=place["ticket"]) == {"had": True}
    assert shards.do(do="give_back", place=0, ticket=place["ticket"]) == {"had": False}
    with pytest.raises(AbortedError, match="others are to have it"):
        shards.update("a", place)
    assert shards.taken("b")["again"]


def test_after_an_epoch_who_comes_late_has_lost_its_shard() -> None:
    shards = Machine(count=1)
    late = shards.taken("a")
    shards.do(do="gone", gone=["a"])
    place = shards.taken("b")
    assert shards.update("b", place)
    with pytest.raises(AbortedError, match="another worker has handed it in"):
        shards.update("a", late)
    assert not shards.update("b", place)
    with pytest.raises(FailedPreconditionError, match="which nobody has been given"):
        shards.update("a", {**late, "epoch": 1})


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"do": "dance"}, "do is 'dance'"),
        ({"do": "take", "by": ""}, "by is ''"),
        ({"do": "take", "by": "a", "id": "a", "store": "s", "now": -1}, "now is -1"),
        ({"do": "update", "by": "a", "epoch": 0, "place": -1}, "place is -1"),
        ({"do": "update", "by": "a", "epoch": 0, "place": 0, "ticket": 1, "from": 5, "to": 5}, "from 5 to 5"),
        ({"do": "gone", "gone": "a"}, "gone is 'a'"),
    ],
)
def test_what_is_malformed_is_refused(event: Json, message: str) -> None:
    shards = Machine()
    shards.taken("a")
    with pytest.raises(InvalidArgumentError, match=message):
        shards.do(**event)


@pytest.mark.parametrize("given", [{"count": 0}, {"epochs": 0}, {"count": 2**40}, {"shuffle_seed": -1}])
def test_impossible_settings_are_refused(given: Json) -> None:
    with pytest.raises(InvalidArgumentError):
        Machine(**given)


def test_names_are_listed_once() -> None:
    names = Machine(SHARD_NAMES)
    for each in ("b", "a", "b"):
        assert names.do(do="add", name=each) == {}
    assert names.look() == {"names": ["a", "b"]}
    with pytest.raises(InvalidArgumentError, match="do is 'drop'"):
        names.do(do="drop", name="a")


# -- receipts -------------------------------------------------------------------------------------


def test_a_receipt_keeps_an_update_from_counting_twice() -> None:
    receipts = Machine(SHARD_RECEIPTS)
    one, two = ({"epoch": 0, "place": 0, "ticket": ticket} for ticket in (1, 2))
    assert receipts.update("a", one, 0, 5)
    receipts.do(do="fence", by="b", **two)
    with pytest.raises(AbortedError, match=r"a updates shard 0 of epoch 0, which it has lost.*b has had it since"):
        receipts.update("a", one, 5)
    assert not receipts.update("b", two, 0, 5)
    assert receipts.update("b", two, 5)
    assert not receipts.update("b", two, 5)
    assert receipts.look(ask="seen") == {"epoch": 0, "positions": {"0": END}}


def test_other_pieces_than_those_of_the_worker_before_are_refused() -> None:
    receipts = Machine(SHARD_RECEIPTS)
    assert receipts.update("a", {"epoch": 0, "place": 0, "ticket": 1}, 0, 5)
    with pytest.raises(FailedPreconditionError, match="from 0 to 4, but the update of a from 0 to 5 was applied here"):
        receipts.update("b", {"epoch": 0, "place": 0, "ticket": 2}, 0, 4)


def test_receipts_are_dropped_when_told_and_with_their_epoch() -> None:
    receipts = Machine(SHARD_RECEIPTS)
    for place in range(3):
        receipts.update("a", {"epoch": 0, "place": place, "ticket": place})
    receipts.do(do="update", by="a", epoch=0, place=5, ticket=9, dropped=[0, 1], **{"from": 0, "to": END})
    assert sorted(receipts.state["seen"]) == ["2", "5"]
    receipts.update("a", {"epoch": 1, "place": 0, "ticket": 10})
    assert list(receipts.state["seen"]) == ["0"]
    with pytest.raises(AbortedError, match="all of which is handed in"):
        receipts.update("a", {"epoch": 0, "place": 0, "ticket": 3})


@pytest.mark.parametrize(
    "event",
    [
        {"do": "dance"},
        {"do": "fence", "by": "a", "epoch": 0, "place": 0},
        {"do": "update", "by": "a", "epoch": 0, "place": 0, "ticket": 1, "from": 2, "to": 1},
        {"do": "fence", "by": "a", "epoch": 0, "place": 0, "ticket": 1, "dropped": 3},
    ],
)
def test_malformed_receipts_are_refused(event: Json) -> None:
    with pytest.raises(ShardscopeError):
        Machine(SHARD_RECEIPTS).do(**event)
