"""Pieces of data shards that gradients of rounds complete, on two ps tasks, with deaths, silence and ends of runs.

At every moment the histogram on ps task 0 says what the shards say: so does a checkpoint of that moment.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ps_protocol.errors import AbortedError, FailedPreconditionError, NotFoundError, ShardscopeError
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import Declare, PsOperation, Read, Reply, Result, VariableSpec
from ps_protocol.optimizer_spec import OnNonfinite, OptimizerSpec, SparseMode
from ps_protocol.shared_objects import OBJECT_DTYPE, Act, Json, Look, decode_json, encode_json
from ps_protocol.training import round_messages as messages
from ps_protocol.training.data_shards import END, SHARDS_KIND, shard_order, shards_name
from ps_protocol.training.round_messages import Answer, Decision, Event, HandIn, Verdict, event_record
from ps_protocol.training.round_operations import (
    GROUP_KIND,
    ROUND_LAYOUTS,
    STAGED_KIND,
    STAMP_KIND,
    Stage,
    StagedStep,
    commit_of,
    group_name,
    staged_name,
    stamp_name,
)
from ps_protocol.training.sync_policy import SyncPolicy
from ps_server.batches.runner import BatchRunner
from ps_server.store.variable_store import VariableStore

UNITS = 2
"""Of a shard: each is a piece of its own."""
GROUP, SHARDS = "count", shards_name("train")
FLOAT = np.dtype(np.float32)
ZEROS = InitializerSpec(ConstantKind(0.0))
SEED = 7
SGD = OptimizerSpec("gradient_descent", (1.0,), SparseMode.LAZY, OnNonfinite.REFUSE)
POLICIES = [
    "bsp(rows=present)",
    "bsp(rows=present, on_missing=fail)",
    "bsp(rows=present, on_missing=wait)",
    "ssp(2, rows=present)",
    "sync(1, total=2, rows=present)",
    "async",
    "async(max_staleness=1)",
]


class Ps:
    """A ps task, and what it was sent and has not refused, as a log has that."""

    def __init__(self, index: int, samples: int, slots: int):
        self.index, self.samples, self.slots = index, samples, slots
        self.applied: list[PsOperation] = []
        self.runner = self._begun()

    def _begun(self) -> BatchRunner:
        runner = BatchRunner(VariableStore(), task=f"ps:{self.index}", clock=lambda: 0.0)
        staged = [staged_name(GROUP, self.index, seat, slot) for seat in range(4) for slot in range(self.slots)]
        for name, kind in [(stamp_name(GROUP, self.index), STAMP_KIND), *[(each, STAGED_KIND) for each in staged]]:
            dtype, shape = ROUND_LAYOUTS[kind]
            runner.run([Declare(VariableSpec(name, dtype, shape, object_kind=kind), ZEROS)], 1.0)
        runner.run([Declare(VariableSpec("counts", FLOAT, (self.samples,)), ZEROS)], 1.0)
        step = VariableSpec("counts/step", np.dtype(np.int64), (), slot_of="counts", optimizer=SGD)
        runner.run([Declare(step, ZEROS)], 1.0)
        return runner

    def run(self, *operations: PsOperation) -> tuple[Reply, ...]:
        replies = self.runner.run(operations, 1.0).replies
        self.applied += [each for each, reply in zip(operations, replies, strict=True) if isinstance(reply, Result)]
        return replies

    def value(self, name: str) -> Any:
        (reply,) = self.runner.run([Read(name)], 1.0).replies
        assert isinstance(reply, Result), reply
        assert reply.tensor is not None
        return reply.tensor.tolist()

    def check_replay(self) -> None:
        """What was not refused makes the same values of all variables, bit for bit, each operation by itself."""
        again = Ps(self.index, self.samples, self.slots)
        for each in self.applied:
            again.run(each)
        for name in self.runner._store.variables.names():
            (one,) = self.runner.run([Read(name)], 1.0).replies
            (two,) = again.runner.run([Read(name)], 1.0).replies
            assert isinstance(one, Result)
            assert isinstance(two, Result)
            assert (one.version, str(one.tensor)) == (two.version, str(two.tensor)), name


@dataclass
class Worker:
    """A process of a worker, and what it knows."""

    name: str
    life: int = 0
    is_joined: bool = False
    answer: Answer = field(default_factory=lambda: Answer("", 0))
    place: Json | None = None
    position: int = 0
    is_staged: bool = False  # on ps task 1
    to_bring: list[int] = field(default_factory=list)  # the ps tasks that it brings decisions yet
    computes_on: int | None = None
    known: list[list[int]] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)

    @property
    def identity(self) -> str:
        return f"{self.name}/{self.life}"


class World:
    """Two ps tasks, some workers, and what they count."""

    def __init__(self, policy: str, num_workers: int, count: int, epochs: int):
        self.policy, self.count, self.epochs = SyncPolicy.parse(policy), count, epochs
        self.tasks = [Ps(index, count * UNITS, self.policy.staging_slots) for index in range(2)]
        self.workers = [Worker(f"worker:{index}") for index in range(num_workers)]
        self.now_s = 0.0
        given = {"count": count, "epochs": epochs, "shuffle_seed": SEED}
        for name, kind, said in ((SHARDS, SHARDS_KIND, given), (group_name(GROUP), GROUP_KIND, {})):
            opening = Act(name, kind, encode_json({"open": said, "by": "worker:0"}))
            self.tasks[0].run(Declare(VariableSpec(name, OBJECT_DTYPE, (), object_kind=kind)), opening)

    # -- objects ------------------------------------------------------------------------------

    def shards(self, event: Json) -> Json | None:
        return said(self.tasks[0].run(Act(SHARDS, SHARDS_KIND, encode_json(event)))[0])

    def group(self, event: Event) -> Answer:
        return Answer.of_record(said(self.tasks[0].run(act(event))[0]))

    def asked(self, name: str, kind: str, question: Json) -> Json:
        (reply,) = self.tasks[0].runner.run([Look(name, kind, encode_json(question))], 1.0).replies
        found = said(reply)
        assert found is not None
        return found

    # -- steps of a worker ----------------------------------------------------------------------

    def go_on(self, worker: Worker, *, repeats: bool = False) -> None:
        """One message of a worker, or two that belong together."""
        self.now_s += 1.0
        try:
            self._go_on(worker, repeats=repeats)
        except AbortedError:  # it has lost the shard
            worker.place, worker.is_staged = None, False
        except (FailedPreconditionError, NotFoundError):  # the run is over, or it was replaced
            worker.is_joined = worker.is_staged = False

    def _go_on(self, worker: Worker, *, repeats: bool) -> None:
        if worker.to_bring:
            self._bring(worker.answer, worker.to_bring.pop(0))
            if not worker.to_bring:
                worker.computes_on = min([task.value(stamp_name(GROUP, task.index))[1] for task in self.tasks])
        elif worker.place is None:
            self._take(worker)
        elif not worker.is_joined:
            joining = messages.Join(worker.name, worker.identity, f"{self.policy}", tasks=2, now_s=self.now_s)
            worker.answer, worker.is_joined, worker.is_staged = self.group(joining), True, False
            worker.to_bring = [0, 1]
        elif worker.answer.base is None:
            worker.answer = self.group(messages.Look(worker.name, worker.identity))
            if worker.answer.is_silent:
                worker.answer = self.group(messages.Back(worker.name, worker.identity, self.now_s))
            worker.to_bring = [1, 0]
        elif not worker.is_staged:
            self._stage(worker)
        else:
            self._hand_in(worker, repeats=repeats)

    def _take(self, worker: Worker) -> None:
        event = {"do": "take", "by": worker.name, "id": worker.identity, "store": "s", "now": 0.0, "lease": 1.0}
        answer = self.shards({**event, "process": "p", "busy": []})
        if answer is None:
            if worker.is_joined:
                worker.answer = self.group(messages.Rest(worker.name, worker.identity, self.now_s))
                worker.to_bring = [0, 1]
        elif "end" not in answer:
            worker.place, worker.position, worker.known = answer, answer["position"], []

    def _steps(self, worker: Worker) -> tuple[StagedStep, ...]:
        assert worker.place is not None
        order = shard_order(self.count, SEED, worker.place["epoch"])
        rows = np.array([int(order[worker.place["place"]]) * UNITS + worker.position])
        return (StagedStep("counts", SGD.function, (), "counts/step", (rows, -np.ones(1, FLOAT)), np.empty(0)),)

    def _staged(self, worker: Worker, ps: int) -> Stage:
        number, slots, answer = worker.answer.next_round, self.policy.staging_slots, worker.answer
        name = staged_name(GROUP, ps, answer.seat, number % slots)
        stamp = stamp_name(GROUP, ps)
        return Stage(name, stamp, answer.seat, answer.ticket, number, answer.since, slots, self._steps(worker))

    def _stage(self, worker: Worker) -> None:
        (reply,) = self.tasks[1].run(self._staged(worker, 1))
        if isinstance(reply, AbortedError):
            worker.answer = self.group(messages.Look(worker.name, worker.identity))
            worker.to_bring = [1, 0]
            return
        said(reply)
        worker.is_staged = True

    def _hand_in(self, worker: Worker, *, repeats: bool) -> None:
        assert worker.place is not None
        end = worker.position + 1 if worker.position + 1 < UNITS else END
        answer = worker.answer
        event: Json = {"do": "update", "by": worker.name, "from": worker.position, "to": end}
        event |= {name: worker.place[name] for name in ("epoch", "place", "ticket")}
        event["round"] = {"group": GROUP, "ticket": answer.ticket, "round": answer.next_round, "known": worker.known}
        hand_in = HandIn(worker.name, worker.identity, answer.next_round, worker.computes_on, self.now_s, shards=SHARDS)
        batch = Act(SHARDS, SHARDS_KIND, encode_json(event)), self._staged(worker, 0), act(hand_in)
        noted, staged, handed = self.tasks[0].run(*batch)
        if repeats:  # the ledger answers what is sent again; the objects bear it, too
            before = self.asked(SHARDS, SHARDS_KIND, {"ask": "progress"})
            self.tasks[0].run(*batch)
            assert self.asked(SHARDS, SHARDS_KIND, {"ask": "progress"}) == before or "pending" not in before
        guard: Json | None = {"passes": True}
        if isinstance(noted, Result) or noted.variable == SHARDS:
            guard = said(noted)
        assert guard is not None
        if guard.get("unsettled"):
            worker.known = self.settle()
            return
        if not guard["passes"]:
            verdict: str | None = "duplicate"
            worker.answer = self.group(messages.Look(worker.name, worker.identity))
        elif isinstance(staged, AbortedError):
            worker.answer = self.group(messages.Look(worker.name, worker.identity))
            worker.to_bring, worker.is_staged = [0, 1], False
            return
        else:
            said(staged)
            worker.answer = Answer.of_record(said(handed))
            verdict = worker.answer.verdict
        worker.verdicts.append(f"{verdict}")
        worker.is_staged, worker.to_bring = False, [1, 0]
        if verdict not in (Verdict.LATE, Verdict.STALE, Verdict.DUPLICATE) or not guard["passes"]:
            worker.position = end
            if end == END:
                worker.place = None

    def _bring(self, answer: Answer, ps: int) -> None:
        for each in answer.decisions:
            reply = self._commit(each, ps)
            if isinstance(reply, ShardscopeError) and not isinstance(reply, AbortedError):
                raise reply

    def _commit(self, decision: Decision, ps: int) -> Reply:
        return self.tasks[ps].run(commit_of(GROUP, self.policy, decision, ps, ("counts", "counts/step")))[0]

    # -- what happens to workers ----------------------------------------------------------------

    def die(self, worker: Worker) -> None:
        fresh = Worker(worker.name, worker.life + 1, verdicts=worker.verdicts)
        self.workers[self.workers.index(worker)] = fresh

    def taken_for_dead(self, worker: Worker, life: int | None = None) -> None:
        identity = worker.identity if life is None else f"{worker.name}/{life}"
        self.shards({"do": "gone", "gone": [identity]})
        self.group(messages.Silent(worker.name, identity, self.now_s))

    def give_up(self, worker: Worker) -> None:
        self.group(messages.GivenUp(worker.name, self.now_s))

    def give_back(self, worker: Worker) -> None:
        if worker.place is not None:
            self.shards({"do": "give_back", "place": worker.place["place"], "ticket": worker.place["ticket"]})
            worker.place, worker.is_staged = None, False

    def finish(self, worker: Worker) -> None:
        if worker.is_joined:
            worker.is_joined = worker.is_staged = False
            with contextlib.suppress(FailedPreconditionError, NotFoundError):
                self.group(messages.Finish(worker.name, worker.identity, self.now_s))

    def settle(self) -> list[list[int]]:
        """What somebody does who waits for shards; returns which gradients are still there."""
        pieces = self.pending()
        under_way = self.asked(group_name(GROUP), GROUP_KIND, {"under_way": True})
        there = [each for each in pieces if each in under_way["pending"] or each in under_way["decided"]]
        dropped = [each for each in pieces if each not in there]
        if dropped:
            self.shards({"do": "dropped", "group": GROUP, "parts": dropped})
        if [each for each in there if each in under_way["decided"]]:
            answer = self.group(messages.Look())
            for ps in (0, 1):
                self._bring(answer, ps)
        return there

    def pending(self) -> list[list[int]]:
        progress = self.asked(SHARDS, SHARDS_KIND, {"ask": "progress"})
        return [each[1:3] for pieces in progress.get("pending", {}).values() for each in pieces]

    # -- what must hold ---------------------------------------------------------------------------

    def said_by_shards(self) -> list[float]:
        """How often each unit counts, by what the shards say."""
        progress = self.asked(SHARDS, SHARDS_KIND, {"ask": "progress"})
        counts = np.full(self.count * UNITS, progress["epoch"])
        if progress["epoch"] < self.epochs:
            order = shard_order(self.count, SEED, progress["epoch"])
            for place in range(progress["next"]):
                out, returned = progress["out"].get(str(place)), progress["returned"].get(str(place))
                done = out[3] if out else returned[1] if returned else UNITS
                counts[int(order[place]) * UNITS :][:done] += 1
        return [float(each) for each in counts]

    def check(self) -> None:
        assert self.tasks[0].value("counts") == self.said_by_shards()
        stamps = [self.tasks[index].value(stamp_name(GROUP, index)) for index in range(2)]
        if stamps[0] == stamps[1]:  # what a save takes
            assert self.tasks[1].value("counts") == self.said_by_shards()

    def end(self) -> None:
        for number in range(400 * self.count * self.epochs):
            if self.asked(SHARDS, SHARDS_KIND, {"ask": "progress"})["epoch"] >= self.epochs:
                break
            for worker in self.workers:
                for life in range(worker.life):
                    self.taken_for_dead(worker, life)
                self.go_on(worker)
            self.settle()
            if number % 20 == 19:  # who waits has waited for long enough
                for each in self.group(messages.Look()).awaited:
                    if each.is_silent:
                        self.group(messages.GivenUp(each.worker, self.now_s))
            self.check()
        for index, task in enumerate(self.tasks):
            self._bring(self.group(messages.Look()), index)
            assert task.value("counts") == [self.epochs] * (self.count * UNITS)
        assert self.pending() == []
        for task in self.tasks:
            task.check_replay()


def act(event: Event) -> Act:
    return Act(group_name(GROUP), GROUP_KIND, encode_json(event_record(event)))


def said(reply: Reply) -> Json | None:
    if isinstance(reply, ShardscopeError):
        raise reply
    return None if reply.tensor is None else decode_json(reply.tensor, "an answer")


ACTIONS = ["go on", "repeat", "die", "silent", "gone", "finish", "give up", "give back", "settle"]
STEPS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 7), st.sampled_from(ACTIONS)), max_size=40)
"""A worker goes on so often, and then this happens to it."""


def carry_out(world: World, action: str, index: int) -> None:
    worker = world.workers[index % len(world.workers)]
    match action:
        case "die":
            world.die(worker)
        case "silent":
            world.taken_for_dead(worker)
        case "gone":
            for life in range(worker.life):
                world.taken_for_dead(worker, life)
        case "finish":
            world.finish(worker)
        case "give up":
            world.give_up(worker)
        case "give back":
            world.give_back(worker)
        case "settle":
            world.settle()
        case _:
            world.go_on(worker, repeats=action == "repeat")
    world.check()


@given(
    steps=STEPS,
    policy=st.sampled_from(POLICIES),
    count=st.integers(1, 3),
    epochs=st.integers(1, 2),
    num_workers=st.integers(1, 3),
)
@settings(max_examples=120)
def test_each_unit_counts_once_and_the_shards_say_what_was_applied(
    steps: list[tuple[int, int, str]], policy: str, count: int, epochs: int, num_workers: int
) -> None:
    world = World(policy, num_workers, count, epochs)
    for index, number, action in steps:
        for _ in range(number):
            carry_out(world, "go on", index)
        carry_out(world, action, index)
    world.end()
