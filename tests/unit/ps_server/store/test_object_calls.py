"""What a ps remembers of an object in the form of its kind: only as long as the object is what was read."""

from __future__ import annotations

import numpy as np
import pytest

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array, Declare, Update, UpdateRule, VariableSpec
from ps_protocol.shared_objects import OBJECT_DTYPE, Act, Json, Look, decode_json, encode_json
from ps_server.objects.object_kind import ObjectKind, Step
from ps_server.store.object_calls import ObjectCalls
from ps_server.store.variable_store import VariableStore

NAME = "total"


class Total:
    """A kind whose state is a number; notes how often one was read."""

    def __init__(self) -> None:
        self.num_read = 0
        self.kind = ObjectKind(empty=lambda _: 0, step=self._step, look=self._look, read=self._read, write=self._write)

    def _read(self, said: Json) -> int:
        self.num_read += 1
        return int(said["number"])

    @staticmethod
    def _write(state: int) -> Json:
        return {"number": state}

    @staticmethod
    def _step(state: int, event: Json) -> Step:
        if event["add"] < 0:
            raise InvalidArgumentError("it only grows")
        return state + event["add"], {"is": state + event["add"]}

    @staticmethod
    def _look(state: int, _question: Json) -> Json | None:
        return {"is": state}


class Ps:
    """A store with a total."""

    def __init__(self) -> None:
        self.total = Total()
        self.store = VariableStore()
        self.calls = ObjectCalls(self.store.variables, self.store.spares, {"total": self.total.kind})
        self.store.declare(Declare(VariableSpec(NAME, OBJECT_DTYPE, (), object_kind="total")), 1.0)
        self.act({"open": {}, "by": "worker:0"})

    def act(self, event: Json) -> Json:
        tensor = self.calls.act(Act(NAME, "total", encode_json(event))).tensor
        assert tensor is not None
        return decode_json(tensor, "the answer")

    def look(self) -> Json:
        tensor = self.calls.look(Look(NAME, "total", encode_json({}))).tensor
        assert tensor is not None
        return decode_json(tensor, "the answer")

    @property
    def value(self) -> Array:
        return self.store.variables.find(NAME).initialized_value()


def test_a_state_is_read_once() -> None:
    ps = Ps()
    for number in range(1, 5):
        assert ps.act({"add": 1}) == {"is": number}
        assert ps.look() == {"is": number}
    assert ps.total.num_read == 1
    assert decode_json(ps.value.reshape(1).view(np.uint8), "it")["state"] == {"number": 4}


def test_what_was_refused_is_not_remembered() -> None:
    ps = Ps()
    ps.act({"add": 2})
    with pytest.raises(InvalidArgumentError, match="it only grows"):
        ps.act({"add": -1})
    assert ps.look() == {"is": 2}


def test_a_value_that_was_assigned_is_read() -> None:
    ps = Ps()
    ps.act({"add": 2})
    before = ps.value.copy()
    ps.act({"add": 3})
    ps.store.update(Update(NAME, UpdateRule.ASSIGN, before))
    assert ps.look() == {"is": 2}
    assert ps.act({"add": 1}) == {"is": 3}


def test_a_value_that_is_no_state_is_refused_though_one_is_remembered() -> None:
    ps = Ps()
    ps.act({"add": 2})
    ps.store.update(Update(NAME, UpdateRule.ASSIGN, np.full((), b"7" * ps.value.itemsize, ps.value.dtype)))
    with pytest.raises(InvalidArgumentError, match="what it holds is"):
        ps.act({"add": 1})
