"""What every transport does with what happens to a shared object, and with who asks it something and waits."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    ShardscopeError,
    UnavailableError,
)
from ps_protocol.operations import Declare, Describe, PsOperation, Read, Result, VariableSpec, Verdict
from ps_protocol.shared_objects import MAX_OBJECT_BYTES, OBJECT_DTYPE, Act, Json, Look, decode_json, encode_json
from tests.conftest import Eventually
from tests.contract.conftest import MEMORY_LIMIT_BYTES, TIMEOUT_S, Conversation, Task, value_of
from worker_client.transport.sockets import trust

MEETING = VariableSpec("meeting", OBJECT_DTYPE, (), object_kind="barrier")
WEIGHTS = VariableSpec("w", np.dtype(np.float32), (2,))
LONG_S = 20.0
"""Longer than a test waits for anything."""


def act(event: Json, name: str = "meeting", kind: str = "barrier") -> Act:
    return Act(name, kind, encode_json(event))


def arrival(by: str, count: int = 2, call: int = 1) -> Act:
    return act({"do": "arrive", "by": by, "id": f"id of {by}", "call": call, "count": count, "store": "s"})


def look(by: str, wait_s: float = 0.0, meeting: int = 1) -> Look:
    question = {"by": by, "id": f"id of {by}", "call": 1, "meeting": meeting}
    return Look("meeting", "barrier", encode_json(question), wait_s)


def opened(talk: Conversation) -> None:
    talk.run(Declare(MEETING))
    talk.run(act({"open": {}, "by": talk.task}))


def content(result: Result) -> Json:
    assert result.tensor is not None
    assert result.tensor.dtype == np.uint8
    return decode_json(result.tensor, "an answer")


def test_an_event_changes_the_state_and_is_answered(talk: Conversation) -> None:
    opened(talk)
    first = talk.run(arrival("worker:0"))
    assert (first.version, first.initialized, first.verdict) == (2, True, Verdict.APPLIED)
    assert content(first) == {"meeting": 1}
    assert decode_json(value_of(talk, "meeting").item(), "it")["state"]["arrived"] == {
        "worker:0": ["id of worker:0", 1]
    }


def test_an_event_that_changes_nothing_does_not_count(talk: Conversation) -> None:
    opened(talk)
    talk.run(arrival("worker:0"))
    again = talk.run(arrival("worker:0"))
    assert (again.version, content(again)) == (2, {"meeting": 1})
    assert talk.run(act({"open": {}, "by": "worker:1"})).version == 2


def test_a_batch_sent_twice_counts_once(talk: Conversation) -> None:
    opened(talk)
    batch = talk.batch(arrival("worker:0"))
    first, second = talk.send(batch), talk.send(batch)
    assert str(first) == str(second)
    assert talk.run(Describe("meeting")).version == 2


def test_a_look_without_an_answer_says_not_yet(talk: Conversation) -> None:
    opened(talk)
    talk.run(arrival("worker:0"))
    result = talk.run(look("worker:0"))
    assert (result.verdict, result.tensor, result.version) == (Verdict.NOT_YET, None, 2)


def test_a_look_waits_for_its_answer(ps: Task, talk: Conversation, eventually: Eventually) -> None:
    opened(talk)
    talk.run(arrival("worker:0"))
    other = ps.conversation("worker:1")
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[Result] = pool.submit(talk.run, look("worker:0", LONG_S))
        eventually(lambda: ps.core.num_waiting == 1)
        other.run(arrival("worker:1"))
        assert content(waiting.result(TIMEOUT_S)) == {"met": True}
    assert ps.core.num_waiting == 0


def test_a_wait_ends_after_its_time(talk: Conversation) -> None:
    opened(talk)
    talk.run(arrival("worker:0"))
    assert talk.run(look("worker:0", 0.05)).verdict is Verdict.NOT_YET


def test_too_many_waits_are_answered_at_once(ps: Task, talk: Conversation, eventually: Eventually) -> None:
    opened(talk)
    talk.run(arrival("worker:0"))
    others = [ps.conversation(f"worker:{index}") for index in range(1, 5)]
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(each.run, look("worker:0", LONG_S)) for each in others[:4]]
        eventually(lambda: ps.core.num_waiting == 4)
        assert talk.run(look("worker:0", LONG_S)).verdict is Verdict.NOT_YET
        talk.run(arrival("worker:1"))
        assert [content(each.result(TIMEOUT_S)) for each in waiting] == [{"met": True}] * 4


def test_a_drain_ends_waits(ps: Task, talk: Conversation, eventually: Eventually) -> None:
    opened(talk)
    talk.run(arrival("worker:0"))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(talk.run, look("worker:0", LONG_S))
        eventually(lambda: ps.core.num_waiting == 1)
        ps.core.drain("the test wants it", timeout_s=TIMEOUT_S)
        assert waiting.result(TIMEOUT_S).verdict is Verdict.NOT_YET
    with pytest.raises(UnavailableError):
        talk.run(look("worker:0", LONG_S))


def test_a_wait_ends_with_its_connection(ps: Task, talk: Conversation, eventually: Eventually) -> None:
    if ps.transport == "core":
        pytest.skip("there is no connection")
    opened(talk)
    talk.run(arrival("worker:0"))
    left = threading.Thread(target=_swallowing, args=(talk, look("worker:0", LONG_S)))
    left.start()
    eventually(lambda: ps.core.num_waiting == 1)
    _cut(talk)
    eventually(lambda: ps.core.num_waiting == 0)
    left.join(TIMEOUT_S)
    assert not left.is_alive()


@pytest.mark.parametrize(
    ("before", "behind"),
    [((), ()), ((), (Describe("meeting"),)), ((arrival("worker:0"),), (Describe("meeting"),))],
    ids=["alone", "with reads", "behind a change"],
)
def test_a_connection_on_which_a_client_waits_is_not_doubted(
    ps: Task,
    talk: Conversation,
    monkeypatch: pytest.MonkeyPatch,
    before: Sequence[PsOperation],
    behind: Sequence[PsOperation],
) -> None:
    if ps.transport not in ("tcp", "unix", "socket", "shm"):
        pytest.skip("only sockets are doubted")
    monkeypatch.setattr(trust, "SILENCE_S", 0.05)
    opened(talk)
    talk.run(arrival("worker:0"))
    transport: Any = talk.endpoint.transport
    reply = talk.replies(*before, look("worker:0", 0.6), *behind)[len(before)]
    assert isinstance(reply, Result)
    assert reply.verdict is Verdict.NOT_YET
    assert not transport._trust.is_doubted
    assert transport._trust.patience_s == 0.05


def test_behind_a_look_nothing_is_read_until_it_has_an_answer(talk: Conversation) -> None:
    opened(talk)
    talk.run(arrival("worker:0"))
    replies = talk.replies(look("worker:0", 0.0), Describe("meeting"))
    assert [each.verdict for each in replies if isinstance(each, Result)] == [Verdict.NOT_YET, Verdict.NOT_YET]
    talk.run(arrival("worker:1"))
    replies = talk.replies(look("worker:0", LONG_S), Describe("meeting"))
    assert [each.verdict for each in replies if isinstance(each, Result)] == [Verdict.APPLIED, Verdict.APPLIED]


@pytest.mark.parametrize(
    ("operation", "error", "message"),
    [
        (arrival("worker:0"), FailedPreconditionError, "barrier meeting: it has not been opened"),
        (act({"open": {}, "by": "worker:0"}, "w"), InvalidArgumentError, r"variable w is no barrier, but float32\[2\]"),
        (act({"open": {}, "by": "worker:0"}, "other"), NotFoundError, "variable other does not exist"),
        (act({"open": {}, "by": "worker:0"}, kind="dance"), InvalidArgumentError, "meeting is no dance, but barrier"),
        (act({"open": {}, "by": ""}), InvalidArgumentError, "barrier meeting: by is ''; it should be a text"),
        (act({"open": 3, "by": "worker:0"}), InvalidArgumentError, "are no JSON object"),
        (Act("meeting", "barrier", np.frombuffer(b"{", np.uint8)), InvalidArgumentError, "the event is not JSON"),
        (Act("meeting", "barrier", np.frombuffer(b"[1]", np.uint8)), InvalidArgumentError, "is no JSON object"),
        (Act("meeting", "barrier", np.zeros(3)), InvalidArgumentError, "uint8|not JSON"),
        (
            Act("meeting", "barrier", np.full(MAX_OBJECT_BYTES + 1, 32, np.uint8)),
            InvalidArgumentError,
            "the event has 1,048,577 bytes",
        ),
        (Look("meeting", "barrier", encode_json({})), FailedPreconditionError, "has not been initialised"),
        (Look("w", "barrier", encode_json({})), InvalidArgumentError, r"variable w is no barrier"),
    ],
    ids=lambda each: "",
)
def test_what_cannot_be_is_refused(
    talk: Conversation, operation: Act | Look, error: type[ShardscopeError], message: str
) -> None:
    talk.run(Declare(MEETING))
    talk.run(Declare(WEIGHTS))
    with pytest.raises(error, match=message):
        talk.run(operation)
    assert not talk.run(Describe("meeting")).initialized


def test_the_kind_of_an_object_is_fixed(talk: Conversation) -> None:
    opened(talk)
    assert talk.run(Describe("meeting")).spec is not None
    with pytest.raises(InvalidArgumentError, match="already exists as a barrier, but is declared here as a dance"):
        talk.run(Declare(replace(MEETING, object_kind="dance")))
    with pytest.raises(InvalidArgumentError, match="cannot hold the state of a barrier"):
        talk.run(Declare(replace(WEIGHTS, name="other", object_kind="barrier")))
    talk.run(Declare(replace(MEETING, name="ball", object_kind="dance")))
    with pytest.raises(InvalidArgumentError, match="ball is a dance, which this ps does not know"):
        talk.run(act({"open": {}, "by": "worker:0"}, "ball", "dance"))


def test_memory_is_counted(ps: Task, talk: Conversation) -> None:
    opened(talk)
    size_bytes = value_of(talk, "meeting").nbytes
    (info,) = ps.core.list_variables(timeout_s=TIMEOUT_S)
    assert (info.size_bytes, info.spec.object_kind) == (size_bytes, "barrier")
    assert ps.core.variable_bytes == size_bytes
    rest_bytes = MEMORY_LIMIT_BYTES - size_bytes
    talk.run(Declare(VariableSpec("rest", np.dtype(np.uint8), (rest_bytes,))))
    with pytest.raises(ResourceExhaustedError, match="variable meeting"):
        talk.run(arrival("worker:0"))
    assert talk.run(Describe("meeting")).version == 1
    assert value_of(talk, "meeting").nbytes == size_bytes


def test_a_state_can_be_read(talk: Conversation) -> None:
    opened(talk)
    assert talk.run(Read("meeting")).spec is None
    assert decode_json(value_of(talk, "meeting").item(), "it")["by"] == "worker:0"


def _swallowing(talk: Conversation, operation: Look) -> None:
    with contextlib.suppress(ShardscopeError):
        talk.run(operation)


def _cut(talk: Conversation) -> None:
    """Ends the connections of a client, those on which it waits included."""
    transport: Any = talk.endpoint.transport
    for each in getattr(transport, "_connections", ()):
        each._stream.abort()
    talk.endpoint.close()
