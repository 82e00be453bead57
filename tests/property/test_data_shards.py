"""Data shards under schedules with deaths, silence and repeated events: each unit counts once, on each ps task."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ps_protocol.errors import AbortedError
from ps_protocol.shared_objects import Json, json_text
from ps_protocol.training.data_shards import END, shard_order
from ps_server.objects.data_shards import DATA_SHARDS
from ps_server.objects.object_kind import ObjectKind
from ps_server.objects.shard_receipts import SHARD_RECEIPTS

UNITS = 3
"""Of a shard: each is a piece of its own."""


class Machine:
    """An object, and whether a step has changed the state that it was given."""

    def __init__(self, kind: ObjectKind, given: Json):
        self._kind = kind
        self.state = kind.empty(given)

    def do(self, event: Json) -> Json | None:
        before = copy.deepcopy(self.state)
        try:
            step = self._kind.step(self.state, event)
        finally:
            assert self.state == before
        if step is None:
            return None
        self.state, answer = step
        return answer


@dataclass
class Worker:
    """A process of a worker, and what it knows."""

    name: str
    life: int = 0
    place: Json | None = None
    position: int = 0
    staged: Json | None = None  # the event that the other ps task has, and ps task 0 has not
    dropped: list[int] = field(default_factory=list)  # receipts that it need not keep, of an epoch
    dropped_of: int = 0

    @property
    def identity(self) -> str:
        return f"{self.name}/{self.life}"


class World:
    """Ps task 0, another one, some workers, and what is counted on both."""

    def __init__(self, num_workers: int, count: int, epochs: int):
        given = {"count": count, "epochs": epochs, "shuffle_seed": 7}
        self.count, self.epochs = count, epochs
        self.shards, self.receipts = Machine(DATA_SHARDS, given), Machine(SHARD_RECEIPTS, given)
        self.workers = [Worker(f"worker:{index}") for index in range(num_workers)]
        self.counted: tuple[Counter[Any], Counter[Any]] = (Counter(), Counter())

    def take(self, worker: Worker) -> bool:
        """Returns whether there was something to do."""
        busy = [] if worker.place is None else [worker.place["place"]]
        event = {"do": "take", "by": worker.name, "id": worker.identity, "store": "s", "now": 0.0, "lease": 1.0}
        answer = self.shards.do({**event, "process": "p", "busy": busy})
        if answer is None or "end" in answer:
            return False
        if answer["again"]:
            self.receipts.do({"do": "fence", "by": worker.name, **{k: answer[k] for k in ("epoch", "place", "ticket")}})
        worker.place, worker.position, worker.staged = answer, answer["position"], None
        return True

    def go_on(self, worker: Worker, *, repeats: bool) -> None:
        """The next step of a worker: it takes a shard, updates one ps task, or the other."""
        if worker.place is None:
            self.take(worker)
            return
        try:
            if worker.staged is None:
                end = worker.position + 1 if worker.position + 1 < UNITS else END
                event: Json = {"do": "update", "by": worker.name, "from": worker.position, "to": end}
                event |= {name: worker.place[name] for name in ("epoch", "place", "ticket")}
                dropped = worker.dropped if worker.dropped_of == event["epoch"] else []
                self._update(1, self.receipts, {**event, "dropped": dropped}, repeats)
                worker.staged, worker.dropped = event, []
            else:
                event = worker.staged
                self._update(0, self.shards, event, repeats)
                worker.staged, worker.position = None, event["to"]
                if event["to"] == END:
                    if not worker.place["again"]:
                        worker.dropped, worker.dropped_of = [event["place"]], event["epoch"]
                    worker.place = None
        except AbortedError:  # it has lost the shard
            worker.place = worker.staged = None

    def _update(self, ps_task: int, machine: Machine, event: Json, repeats: bool) -> None:
        for _ in range(1 + repeats):  # the ledger answers what is repeated; the objects bear it, too
            answer = machine.do(event)
            assert answer is not None
            if answer["passes"]:
                self.counted[ps_task][event["epoch"], event["place"], event["from"]] += 1

    def die(self, worker: Worker) -> None:
        worker.life += 1
        worker.place = worker.staged = None
        worker.dropped = []

    def taken_for_dead(self, worker: Worker) -> None:
        self.shards.do({"do": "gone", "gone": [worker.identity]})

    def check(self) -> None:
        for counted in self.counted:
            assert max(counted.values(), default=0) <= 1
        for unit in self.counted[0]:  # ps task 0 is last
            assert self.counted[1][unit] == 1
        assert len(json_text(self.shards.state)) < 700 + 200 * len(self.workers) + 40 * self.count

    def finish(self) -> None:
        for worker in self.workers:  # what was held by earlier lives is given to others
            for life in range(worker.life):
                self.shards.do({"do": "gone", "gone": [f"{worker.name}/{life}"]})
        for _ in range(100 * self.count * self.epochs):
            if self.shards.state["epoch"] >= self.epochs:
                break
            for worker in self.workers:
                self.go_on(worker, repeats=False)
                self.check()
        assert self.shards.state["epoch"] == self.epochs
        assert not self.shards.state["out"]
        wanted = {
            (epoch, place, unit) for epoch in range(self.epochs) for place in range(self.count) for unit in range(UNITS)
        }
        for counted in self.counted:
            assert counted == dict.fromkeys(wanted, 1)
        assert sum(self.shards.state["handed_in"].values()) == self.count * self.epochs


STEPS = st.lists(
    st.tuples(st.sampled_from(["go on"] * 6 + ["repeat", "die", "silent"]), st.integers(0, 2)), max_size=120
)


@given(steps=STEPS, count=st.integers(1, 4), epochs=st.integers(1, 3), num_workers=st.integers(1, 3))
@settings(max_examples=150)
def test_each_unit_counts_once(steps: list[tuple[str, int]], count: int, epochs: int, num_workers: int) -> None:
    world = World(num_workers, count, epochs)
    for action, index in steps:
        worker = world.workers[index % num_workers]
        match action:
            case "die":
                world.die(worker)
            case "silent":
                world.taken_for_dead(worker)
            case _:
                world.go_on(worker, repeats=action == "repeat")
        world.check()
    world.finish()


@pytest.mark.parametrize("broken", ["no receipts", "no positions"])
def test_the_model_finds_what_is_broken(broken: str) -> None:
    world = World(2, 2, 1)
    one = world.workers[0]
    world.go_on(one, repeats=False)
    world.go_on(one, repeats=False)  # ps task 1 has its first piece, ps task 0 does not
    assert one.place is not None
    key = str(one.place["place"])
    if broken == "no receipts":
        world.receipts.state = {**world.receipts.state, "seen": {}}
    else:
        world.go_on(one, repeats=False)
        held = world.shards.state["out"][key]
        world.shards.state["out"][key] = [*held[:3], 0, *held[4:]]
    world.taken_for_dead(one)
    with pytest.raises(Exception):  # noqa: B017, PT011 - an assertion, or the refusal of what cannot be
        world.finish()


@given(count=st.integers(1, 300), seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 2**31))
def test_an_order_has_each_shard_once(count: int, seed: int, epoch: int) -> None:
    order = shard_order(count, seed, epoch)
    assert sorted(order.tolist()) == list(range(count))
    assert (shard_order(count, seed, epoch) == order).all()


def test_orders_are_the_same_everywhere_and_differ_by_epoch_and_seed() -> None:
    assert shard_order(8, None, 3).tolist() == list(range(8))
    orders = [shard_order(8, seed, epoch).tolist() for seed, epoch in ((5, 0), (5, 1), (6, 0))]
    assert orders == ORDERS


ORDERS = [[0, 7, 5, 3, 1, 4, 2, 6], [5, 3, 7, 0, 4, 1, 6, 2], [7, 4, 5, 3, 2, 6, 1, 0]]
