"""What every transport does with batches that hand a data shard in: all of their updates count, or none does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import (
    AbortedError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ShardscopeError,
)
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import (
    Declare,
    Describe,
    PsOperation,
    Read,
    Replace,
    Reply,
    Result,
    Scatter,
    ScatterRule,
    Update,
    UpdateRule,
    VariableSpec,
)
from ps_protocol.shared_objects import OBJECT_DTYPE, Act, Json, Look, decode_json, encode_json
from ps_protocol.training.data_shards import END, SHARDS_KIND
from ps_protocol.training.round_messages import Answer, Event, HandIn, Join, Verdict, event_record
from ps_protocol.training.round_operations import (
    GROUP_KIND,
    ROUND_LAYOUTS,
    STAGED_KIND,
    STAMP_KIND,
    Stage,
    commit_of,
    group_name,
    staged_name,
    stamp_name,
)
from ps_protocol.training.sync_policy import SyncPolicy
from tests.contract.conftest import Conversation, Task, value_of

SHARDS = VariableSpec("shards/train", OBJECT_DTYPE, (), object_kind=SHARDS_KIND)
COUNTS = VariableSpec("counts", np.dtype(np.int64), (4,))
ZEROS = InitializerSpec(ConstantKind(0.0))
SETTINGS: Json = {"count": 2, "epochs": 1, "shuffle_seed": None, "items": None}


def act(event: Json) -> Act:
    return Act(SHARDS.name, SHARDS_KIND, encode_json(event))


def opened(talk: Conversation) -> None:
    talk.run(Declare(SHARDS))
    talk.run(act({"open": SETTINGS, "by": talk.task}))
    talk.run(Declare(COUNTS, ZEROS))


def taken(talk: Conversation) -> Json:
    event = {"id": talk.task, "store": "s", "now": 5.0, "lease": 1.0, "process": "p", "busy": []}
    tensor = talk.run(act({"do": "take", "by": talk.task, **event})).tensor
    assert tensor is not None
    return decode_json(tensor, "an answer")


def hand_in(talk: Conversation, place: Json, begin: int = 0, end: int = END) -> Act:
    named = {name: place[name] for name in ("epoch", "place", "ticket")}
    return act({"do": "update", "by": talk.task, **named, "from": begin, "to": end})


def add(*delta: int) -> Update:
    return Update("counts", UpdateRule.ASSIGN_ADD, np.array(delta, np.int64))


def scatter(*rows: int) -> Scatter:
    return Scatter("counts", ScatterRule.ADD, np.array(rows), np.array(1, np.int64))


def passes(reply: Reply) -> bool:
    assert isinstance(reply, Result)
    assert reply.tensor is not None
    return bool(decode_json(reply.tensor, "an answer")["passes"])


def counts(talk: Conversation) -> Any:
    return value_of(talk, "counts").tolist()


def test_a_hand_in_and_its_updates_are_one_batch(talk: Conversation) -> None:
    opened(talk)
    place = taken(talk)
    batch = talk.batch(hand_in(talk, place), add(1, 1, 0, 0), scatter(3), Read("counts"))
    first, second = talk.send(batch), talk.send(batch)
    assert passes(first.replies[0])
    assert passes(second.replies[0])
    assert counts(talk) == [1, 1, 0, 1]
    read = first.replies[3]
    assert isinstance(read, Result)
    assert read.tensor is not None
    assert read.tensor.tolist() == [1, 1, 0, 1]


def test_a_piece_that_was_applied_is_not_applied_again(talk: Conversation) -> None:
    opened(talk)
    place = taken(talk)
    talk.replies(hand_in(talk, place, 0, 5), add(1, 1, 0, 0))
    guard, update, read = talk.replies(hand_in(talk, place, 0, 5), add(1, 1, 0, 0), Read("counts"))
    assert not passes(guard)
    assert isinstance(update, AbortedError)
    assert isinstance(read, Result)
    assert counts(talk) == [1, 1, 0, 0]


def test_who_has_lost_a_shard_changes_nothing(ps: Task, talk: Conversation) -> None:
    opened(talk)
    place, other = taken(talk), ps.conversation("worker:1")
    talk.run(act({"do": "gone", "gone": ["worker:0"]}))
    again = taken(other)
    replies = talk.replies(hand_in(talk, place), add(1, 1, 0, 0))
    for each in replies:
        assert isinstance(each, AbortedError)
        assert "worker:0 updates shard 0 of epoch 0, which it has lost" in each.message
        assert "worker:1 has it now" in each.message
        assert (each.task, each.retryable) == ("ps:0", False)
    assert passes(other.replies(hand_in(other, again), add(0, 0, 1, 1))[0])
    assert counts(talk) == [0, 0, 1, 1]
    for each in talk.replies(hand_in(talk, place), add(1, 1, 0, 0)):
        assert isinstance(each, AbortedError)
        assert "worker:1 has handed it in" in each.message
    for each in other.replies(hand_in(other, {**again, "ticket": 77}), add(1, 1, 0, 0)):
        assert isinstance(each, FailedPreconditionError)
        assert "which it has handed in already" in each.message
    assert counts(talk) == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (Update("counts", UpdateRule.ASSIGN_ADD, np.zeros(3, np.int64)), ShardscopeError),
        (Scatter("counts", ScatterRule.ADD, np.array([4]), np.array(1, np.int64)), InvalidArgumentError),
        (Update("missing", UpdateRule.ASSIGN_ADD, np.array(1, np.int64)), NotFoundError),
        (Update("empty", UpdateRule.ASSIGN_ADD, np.array(1, np.int64)), FailedPreconditionError),
        (Replace("counts", np.zeros(4, np.int64)), InvalidArgumentError),
    ],
    ids=lambda each: "",
)
def test_if_one_update_is_refused_none_counts_and_the_shard_is_not_handed_in(
    talk: Conversation, operation: PsOperation, error: type[ShardscopeError]
) -> None:
    opened(talk)
    talk.run(Declare(VariableSpec("empty", np.dtype(np.int64), ())))
    place = taken(talk)
    replies = talk.replies(hand_in(talk, place), add(1, 1, 0, 0), operation)
    assert [type(each) for each in replies] == [type(replies[0])] * 3
    assert isinstance(replies[0], error)
    assert counts(talk) == [0, 0, 0, 0]
    assert passes(talk.replies(hand_in(talk, place), add(1, 1, 0, 0))[0])
    assert counts(talk) == [1, 1, 0, 0]


# -- with the gradients of rounds -------------------------------------------------------------------

GROUP = VariableSpec(group_name("sgd"), OBJECT_DTYPE, (), object_kind=GROUP_KIND)
STAMP, STAGED = stamp_name("sgd", 0), staged_name("sgd", 0, 0, 0)


def in_group(event: Event) -> Act:
    return Act(GROUP.name, GROUP_KIND, encode_json(event_record(event)))


def joined(talk: Conversation, policy: str) -> Answer:
    talk.run(Declare(GROUP))
    talk.run(Act(GROUP.name, GROUP_KIND, encode_json({"open": {}, "by": talk.task})))
    for name, kind in ((STAMP, STAMP_KIND), (STAGED, STAGED_KIND)):
        dtype, shape = ROUND_LAYOUTS[kind]
        talk.run(Declare(VariableSpec(name, dtype, shape, object_kind=kind), ZEROS))
    return answer_in(talk.run(in_group(Join(talk.task, "a", policy))))


def answer_in(reply: Reply) -> Answer:
    assert isinstance(reply, Result)
    assert reply.tensor is not None
    return Answer.of_record(decode_json(reply.tensor, "an answer"))


def piece(talk: Conversation, place: Json, number: int = 1, begin: int = 0, end: int = END) -> tuple[Act, Stage, Act]:
    named = {name: place[name] for name in ("epoch", "place", "ticket")}
    event = {"do": "update", "by": talk.task, **named, "from": begin, "to": end}
    guard = act({**event, "round": {"group": "sgd", "ticket": 1, "round": number}})
    stage = Stage(STAGED, STAMP, 0, 1, number, 0, 1, ())
    return guard, stage, in_group(HandIn(talk.task, "a", number, number - 1, shards=SHARDS.name))


def progress(talk: Conversation) -> Json:
    tensor = talk.run(Look(SHARDS.name, SHARDS_KIND, encode_json({"ask": "progress"}))).tensor
    assert tensor is not None
    return decode_json(tensor, "an answer")


def test_a_piece_counts_when_the_round_is_carried_out_that_has_its_gradient(ps: Task, talk: Conversation) -> None:
    opened(talk)
    place = taken(talk)
    joined(talk, "bsp(total=2)")
    batch = talk.batch(*piece(talk, place))
    for _ in range(2):
        replies = talk.send(batch).replies
        assert passes(replies[0])
        assert answer_in(replies[2]).verdict is None
    assert progress(talk)["pending"] == {"0": [["sgd", 1, 1, 0, END]]}
    other = ps.conversation("worker:1")
    other.run(in_group(Join(other.task, "b", "bsp(total=2)")))
    decided = answer_in(other.run(in_group(HandIn(other.task, "b", 1, 0)))).decisions
    assert [each.shards for each in decided] == [(SHARDS.name,)]
    assert not progress(talk)["handed_in"]
    own = decided[0]._replace(parts=decided[0].parts[:1])  # the other one has staged nothing
    commit = commit_of("sgd", SyncPolicy.parse("bsp(total=2)"), own, 0, ())
    for _ in range(2):
        talk.run(commit)
    found = progress(talk)
    assert (found["handed_in"], found["out"]) == ({talk.task: 1}, {})
    assert "pending" not in found


def test_what_the_group_does_not_take_leaves_the_shard_as_it_was(talk: Conversation) -> None:
    opened(talk)
    place = taken(talk)
    joined(talk, "async")
    before, version = progress(talk), talk.run(Describe(SHARDS.name)).version
    stale = in_group(HandIn(talk.task, "a", 1, None, shards=SHARDS.name))
    guard, staged, handed_in = talk.replies(*piece(talk, place)[:2], stale)
    assert isinstance(guard, AbortedError)
    assert "has not taken the gradient; nothing is handed in" in guard.message
    assert isinstance(staged, Result)
    assert answer_in(handed_in).verdict is Verdict.STALE
    other_process = in_group(HandIn(talk.task, "z", 1, 0, shards=SHARDS.name))
    for each in talk.replies(piece(talk, place)[0], other_process):
        assert isinstance(each, FailedPreconditionError)
        assert each.variable == GROUP.name
    guard, staged, handed_in = talk.replies(piece(talk, place)[0], Stage(STAGED, STAMP, 0, 1, 9, 0, 1, ()), stale)
    for each in (guard, staged, handed_in):
        assert isinstance(each, AbortedError)
        assert each.variable == STAMP
    assert (progress(talk), talk.run(Describe(SHARDS.name)).version) == (before, version)
    assert passes(talk.replies(*piece(talk, place))[0])


def test_who_has_lost_a_shard_hands_no_gradient_in(ps: Task, talk: Conversation) -> None:
    opened(talk)
    place, other = taken(talk), ps.conversation("worker:1")
    joined(talk, "async")
    talk.run(act({"do": "gone", "gone": ["worker:0"]}))
    taken(other)
    for each in talk.replies(*piece(talk, place)):
        assert isinstance(each, AbortedError)
        assert each.variable == SHARDS.name
        assert "worker:1 has it now" in each.message
    assert answer_in(talk.run(in_group(HandIn(talk.task, "a", 1, 0)))).committed == 1
    refused = talk.replies(piece(talk, place)[0], add(1, 1, 1, 1), in_group(HandIn(talk.task, "a", 2, 1)))
    assert [type(each) for each in refused] == [InvalidArgumentError] * 3
    assert counts(talk) == [0, 0, 0, 0]
