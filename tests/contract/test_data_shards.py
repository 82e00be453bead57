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
from ps_protocol.shared_objects import OBJECT_DTYPE, Act, Json, decode_json, encode_json
from ps_protocol.training.data_shards import END, SHARDS_KIND
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
