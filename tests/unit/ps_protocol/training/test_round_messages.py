"""Events and answers of rounds as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.training.round_messages import (
    EVENTS,
    Answer,
    Awaited,
    Decision,
    HandIn,
    Join,
    Look,
    Outcome,
    Part,
    Verdict,
    decode_event,
    encode_event,
)


def test_every_event_is_read_as_it_was_written() -> None:
    for name, cls in EVENTS.items():
        values = {"policy": "bsp", "round": 3, "computed_on": 2}
        given: dict[str, Any] = {key: value for key, value in values.items() if key in cls.__slots__}
        if cls not in (Look, EVENTS["given_up"]):
            given |= {"worker": "worker:1", "incarnation": "a"}
        event = cls(**given)
        content = encode_event(event)
        assert json.loads(content)["event"] == name
        assert decode_event(content) == event


def test_an_answer_is_read_as_it_was_written_and_leaves_out_what_it_does_not_say() -> None:
    answer = Answer(
        "ssp(1)",
        4,
        base=3,
        verdict=Verdict.APPLIED,
        outcomes=(Outcome(4, Verdict.APPLIED, 4, 1, 1),),
        decisions=(Decision(4, (Part(0, 1, 4), Part(1, 2, 4))),),
        awaited=(Awaited("worker:1", True, 12.5),),
    )
    assert Answer.decode(answer.encode()) == answer
    assert Answer("bsp", 0).encode() == b'{"committed":0,"policy":"bsp"}'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"nothing", "is no event of the rounds of a group"),
        (b"[]", "is no event"),
        (b"[" * 100_000, "is no event"),
        (b"\xff", "is no event"),
        (b'{"event":"given_up","now_s":NaN}', "nan is not finite"),
        (b'{"event":"given_up","now_s":1e999}', "inf is not finite"),
        (b'{"event":"given_up","now_s":1' + b"0" * 400 + b"}", "too large"),
        (b'{"event":"leave"}', "this version knows join, hand_in, finish"),
        (b'{"event":"look","colour":1}', "Look has no field 'colour'"),
        (b'{"event":"hand_in","worker":"worker:1","incarnation":"a","round":1}', "needs the field 'computed_on'"),
        (b'{"event":"finish","worker":7,"incarnation":"a"}', "7 is not of the type str"),
        (b'{"event":"finish","worker":"worker:1","incarnation":"a","now_s":true}', "True is not of the type float"),
    ],
)
def test_what_is_no_event_is_refused_by_what_is_wrong_with_it(content: bytes, said: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        decode_event(content)
    assert said in caught.value.message


def test_what_is_no_answer_is_refused() -> None:
    for content in (b"", b"{}", b'{"committed":0,"policy":"bsp","verdict":"lost"}', b'{"committed":0.5,"policy":"b"}'):
        with pytest.raises(InvalidArgumentError, match="answer about the rounds"):
            Answer.decode(content)


def test_a_time_is_a_number_with_or_without_a_fraction() -> None:
    assert decode_event(b'{"event":"given_up","now_s":3}') == decode_event(b'{"event":"given_up","now_s":3.0}')
    assert isinstance(decode_event(encode_event(HandIn("w", "a", 1, 0, 3.5))), HandIn)
    assert isinstance(decode_event(encode_event(Join("w", "a", "bsp"))), Join)
