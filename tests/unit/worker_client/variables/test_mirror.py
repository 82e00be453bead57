"""Copies that are kept up to date: what a pull asks for, and what it makes of failures."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast
from uuid import UUID, uuid4

import numpy as np
import pytest

from ps_protocol.errors import FailedPreconditionError, UnavailableError
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import Array, Read, Reply, Result, VariableSpec
from worker_client.connection.fanout import Fanout, Routed
from worker_client.graph.definition import VariableDefinition
from worker_client.variables.base import OperationRunner
from worker_client.variables.mirror import Mirror
from worker_client.variables.variable import Variable


class FakeFanout:
    """Holds values and versions, and answers reads as a ps does; fills no array itself.

    Attributes:
        values: By name, with their version; None for a variable that is not initialised.
        asked: The versions named by the reads of each pull.
        failure: Raised by the next exchange after the arrays were filled in part.
    """

    def __init__(self) -> None:
        self.values: dict[str, tuple[int, Array] | None] = {}
        self.asked: list[list[int | None]] = []
        self.failure: Exception | None = None
        self.incarnation = uuid4()

    def store(self, ps_task: int | None) -> UUID:
        return self.incarnation

    def exchange_all(self, routed: Sequence[Routed]) -> list[Reply]:
        reads = [cast(Read, each.operation) for each in routed]
        self.asked.append([read.unless_version for read in reads])
        if self.failure is not None:
            for read in reads:
                if read.out is not None:
                    read.out.fill(-1)
            raise self.failure
        return [self._reply(read) for read in reads]

    def _reply(self, read: Read) -> Reply:
        found = self.values[read.name]
        if found is None:
            return FailedPreconditionError(f"{read.name} is not initialised")
        version, value = found
        return Result(version, True, None if read.unless_version == version else value)


@pytest.fixture
def fanout() -> FakeFanout:
    return FakeFanout()


def made(fanout: FakeFanout, *names: str) -> Mirror:
    variables = [
        Variable(
            cast(VariableDefinition, SimpleNamespace(trainable=True)),
            VariableSpec(name, np.dtype(np.float32), (2,)),
            initializer=InitializerSpec(ConstantKind(2)),
            runner=cast(OperationRunner, fanout),
            ps_task=0,
            device="/job:ps/task:0",
        )
        for name in names
    ]
    return Mirror(cast(Fanout, fanout), variables)


def of(version: int) -> tuple[int, Array]:
    return version, np.full(2, version, np.float32)


def names(variables: Sequence[object]) -> list[str]:
    return [cast(Variable, each).spec.name for each in variables]


def test_only_the_versions_that_are_missing_are_asked_for(fanout: FakeFanout) -> None:
    fanout.values = {"a": of(3), "b": of(4)}
    mirror = made(fanout, "a", "b")
    assert names(mirror.pull()) == ["a", "b"]
    fanout.values["b"] = of(5)
    assert names(mirror.pull()) == ["b"]
    assert mirror.pull() == []
    assert fanout.asked == [[None, None], [3, 4], [3, 5]]
    assert [value.tolist() for value in mirror.values] == [[3, 3], [5, 5]]


def test_the_same_variable_may_be_kept_twice(fanout: FakeFanout) -> None:
    fanout.values = {"a": of(3)}
    mirror = made(fanout, "a", "a")
    assert names(mirror.pull()) == ["a", "a"]
    assert mirror.values[0] is not mirror.values[1]


def test_one_that_fails_leaves_the_others_up_to_date_and_they_are_reported_later(fanout: FakeFanout) -> None:
    fanout.values = {"a": of(3), "b": None}
    mirror = made(fanout, "a", "b")
    with pytest.raises(FailedPreconditionError, match="b is not initialised"):
        mirror.pull()
    assert mirror.values[0].tolist() == [3, 3]
    fanout.values["b"] = of(0)
    assert names(mirror.pull()) == ["a", "b"]
    assert fanout.asked[1] == [3, None]


def test_after_a_failed_exchange_all_is_read_again(fanout: FakeFanout) -> None:
    """The arrays may have been written in part: no version may vouch for them."""
    fanout.values = {"a": of(3), "b": of(4)}
    mirror = made(fanout, "a", "b")
    mirror.pull()
    fanout.failure = UnavailableError("gone")
    with pytest.raises(UnavailableError):
        mirror.pull()
    assert mirror.values[0].tolist() == [-1, -1]
    fanout.failure = None
    assert names(mirror.pull()) == ["a", "b"]
    assert fanout.asked[-1] == [None, None]
    assert [value.tolist() for value in mirror.values] == [[3, 3], [4, 4]]


def test_versions_of_another_store_vouch_for_nothing(fanout: FakeFanout) -> None:
    fanout.values = {"a": of(3)}
    mirror = made(fanout, "a")
    mirror.pull()
    fanout.incarnation = uuid4()
    assert names(mirror.pull()) == ["a"]
    assert fanout.asked == [[None], [None]]


def test_behind_updates_all_is_read_and_the_next_pull_reports_it(fanout: FakeFanout) -> None:
    fanout.values = {"a": of(3), "b": of(4)}
    mirror = made(fanout, "a", "b")
    mirror.pull()
    fanout.values = {"a": of(5), "b": None}
    reads = mirror.begin_behind(cast(Fanout, fanout))
    with pytest.raises(FailedPreconditionError, match="b is not initialised"):
        mirror.end_behind(fanout.exchange_all(reads))
    assert [value.tolist() for value in mirror.values] == [[5, 5], [4, 4]]
    fanout.values["b"] = of(6)
    assert names(mirror.pull()) == ["a", "b"]
    assert fanout.asked == [[None, None], [None, None], [5, None]]


def test_behind_updates_no_array_changes_before_all_has_come(fanout: FakeFanout) -> None:
    """The updates may be views of the arrays, and be sent after the first replies, or once more."""
    fanout.values = {"a": of(3), "b": of(4)}
    mirror = made(fanout, "a", "b")
    mirror.pull()
    reads = mirror.begin_behind(cast(Fanout, fanout))
    beside = [cast(Read, each.operation).out for each in reads]
    assert not [out for out, value in zip(beside, mirror.values, strict=True) if np.shares_memory(out, value)]
    again = mirror.begin_behind(cast(Fanout, fanout))
    assert all(cast(Read, each.operation).out is out for each, out in zip(again, beside, strict=True))  # kept
    fanout.values = {"a": of(5), "b": of(6)}
    replies = fanout.exchange_all(reads)
    assert [value.tolist() for value in mirror.values] == [[3, 3], [4, 4]]
    mirror.end_behind(replies)
    assert [value.tolist() for value in mirror.values] == [[5, 5], [6, 6]]


def test_a_pull_behind_updates_that_fail_vouches_for_nothing(fanout: FakeFanout) -> None:
    fanout.values = {"a": of(3)}
    mirror = made(fanout, "a")
    mirror.pull()
    fanout.failure = UnavailableError("gone")
    with pytest.raises(UnavailableError):
        fanout.exchange_all(mirror.begin_behind(cast(Fanout, fanout)))
    fanout.failure = None
    assert names(mirror.pull()) == ["a"]
    assert fanout.asked[-1] == [None]
