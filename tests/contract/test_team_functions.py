"""What every transport does with a call of a function that a team has written itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest

from ps_protocol.errors import InvalidArgumentError, NotFoundError, ShardscopeError
from ps_protocol.initializer_spec import InitializerSpec, ValueKind
from ps_protocol.operations import Apply, Array, Declare, Describe, Reduce, Result, VariableSpec
from ps_server.process.function_module import known_functions
from tests.contract.conftest import TRANSPORTS, Conversation, Task, value_of

FLOAT = np.dtype(np.float32)
VALUE = np.arange(6, dtype=FLOAT).reshape(3, 2)
NOTHING = np.empty(0)


@pytest.fixture(params=TRANSPORTS)
def talk(request: pytest.FixtureRequest) -> Iterator[Conversation]:
    """A client of a ps with the functions of ``tests.team_rules``, and a variable and a slot there."""
    with contextlib.ExitStack() as resources:
        talk = Task(request.param, 0, resources, known_functions("tests.team_rules")).conversation()
        for name, value in (("w", VALUE), ("w/slot", 10 * VALUE)):
            talk.run(Declare(VariableSpec(name, FLOAT, (3, 2)), InitializerSpec(ValueKind(value))))
        yield talk


def call(function: str, *operands: Array) -> Apply:
    return Apply("w", function, ("w/slot",), "", operands, NOTHING)


def test_a_value_and_its_slots_change_together(talk: Conversation) -> None:
    assert talk.run(call("swapped", np.array(0.5))) == Result(1, True)
    np.testing.assert_array_equal(value_of(talk, "w"), 5 * VALUE)
    np.testing.assert_array_equal(value_of(talk, "w/slot"), VALUE)
    assert talk.run(Describe("w/slot")).version == 1


def test_arguments_are_arrays_and_numbers(talk: Conversation) -> None:
    talk.run(call("added", VALUE))
    talk.run(call("added", np.array(1)))
    np.testing.assert_array_equal(value_of(talk, "w"), 2 * VALUE + 1)
    talk.run(call("read_only", VALUE))


def test_it_counts_once_however_often_it_is_sent(talk: Conversation) -> None:
    batch = talk.batch(call("added", np.array(1)))
    assert talk.send(batch) == talk.send(batch)
    np.testing.assert_array_equal(value_of(talk, "w"), VALUE + 1)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("raises", r"'raises' has raised TypeError: .*team_rules\.py, line \d+"),
        ("no_pair", "'no_pair' has returned something that is no pair"),
        ("another_shape", r"'another_shape' has returned float32\[1, 2\] for w \(float32\[3, 2\]\)"),
        ("another_dtype", r"'another_dtype' has returned float64\[3, 2\] for w "),
        ("too_few_slots", "'too_few_slots' has returned 0 slots instead of 1"),
        ("a_slot_of_another_shape", r"has returned float32\[1, 2\] for w/slot"),
    ],
)
def test_what_a_function_does_wrong_changes_nothing(talk: Conversation, function: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"variable w .*{message}.*nothing was changed") as refused:
        talk.run(call(function))
    assert (refused.value.variable, refused.value.task) == ("w", "ps:0")
    assert [talk.run(Describe(name)).version for name in ("w", "w/slot")] == [0, 0]
    np.testing.assert_array_equal(value_of(talk, "w"), VALUE)


def test_a_function_that_is_not_there_is_named(talk: Conversation) -> None:
    with pytest.raises(NotFoundError, match=r"variable w: .*no function 'frobnicate'.*swapped.*--functions module"):
        talk.run(call("frobnicate"))


def test_numbers_apart_from_arrays_are_those_of_optimizers(talk: Conversation) -> None:
    with pytest.raises(InvalidArgumentError, match=r"variable w .*'added'.*no numbers"):
        talk.run(Apply("w", "added", (), "", (VALUE,), np.ones(1)))


def reduced(talk: Conversation, function: str, *operands: Array) -> Array:
    tensor = talk.run(Reduce("w", function, operands, NOTHING)).tensor
    assert tensor is not None
    return tensor


def test_reductions(talk: Conversation) -> None:
    assert reduced(talk, "quantile", np.array(0.5)) == 2.5
    rows = reduced(talk, "rows", np.array([2, 0]))
    np.testing.assert_array_equal(rows, VALUE[[2, 0]])
    assert reduced(talk, "sum") == 15


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("broken", "'broken' has raised IndexError"),
        ("words", "'words' has returned str.*it should return numbers"),
        ("huge", r"'huge' has returned float64\[1048576\] of 8,388,608 bytes"),
        ("swapped", "no function 'swapped'"),
    ],
)
def test_reductions_are_refused_by_name(talk: Conversation, function: str, message: str) -> None:
    with pytest.raises(ShardscopeError, match=message) as refused:
        reduced(talk, function)
    assert refused.value.variable == "w"
