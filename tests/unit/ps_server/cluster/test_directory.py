from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError, ShapeMismatchError, ShardscopeError
from ps_protocol.operations import PartitionSlice, VariableSpec
from ps_protocol.service_types import Placement, Proposal
from ps_server.cluster.directory import Directory
from tests.unit.ps_server.waiting import PATIENCE_S


def spec(name: str = "w", shape: tuple[int, ...] = (4, 3), dtype: Any = np.float32) -> VariableSpec:
    return VariableSpec(name, np.dtype(dtype), shape)


def part(index: int, whole: tuple[int, ...] = (4, 3), dtype: Any = np.float32) -> VariableSpec:
    return VariableSpec(f"w/part_{index}", np.dtype(dtype), (2, 3), PartitionSlice("w", whole, (2 * index, 0)))


def error_of(directory: Directory, proposed: VariableSpec, ps_task: int = 0) -> ShardscopeError:
    (placement,) = directory.place([Proposal(proposed, ps_task)])
    assert isinstance(placement, ShardscopeError)
    return placement


def test_the_first_proposal_of_a_name_counts() -> None:
    directory = Directory(num_ps=3)
    assert directory.place([Proposal(spec(), 2)]) == [Placement(spec(), 2)]
    assert directory.place([Proposal(spec(), 0)]) == [Placement(spec(), 2)]


def test_many_are_placed_at_once_and_listed_by_name() -> None:
    directory = Directory(num_ps=2)
    placed = directory.place([Proposal(spec("b"), 1), Proposal(spec("a"), 0), Proposal(spec("b"), 0)])
    assert placed == [Placement(spec("b"), 1), Placement(spec("a"), 0), Placement(spec("b"), 1)]
    assert directory.list_placements() == [Placement(spec("a"), 0), Placement(spec("b"), 1)]


@pytest.mark.parametrize(
    ("other", "error_type", "both"),
    [
        (spec(shape=(4, 2)), ShapeMismatchError, ("float32[4, 3]", "float32[4, 2]")),
        (spec(dtype=np.int32), DTypeMismatchError, ("float32[4, 3]", "int32[4, 3]")),
    ],
)
def test_a_spec_that_differs_is_refused(
    other: VariableSpec, error_type: type[ShardscopeError], both: tuple[str, str]
) -> None:
    directory = Directory(num_ps=1)
    directory.place([Proposal(spec(), 0)])
    error = error_of(directory, other)
    assert type(error) is error_type
    assert all(each in error.message for each in both)
    assert error.variable == "w"
    assert directory.list_placements() == [Placement(spec(), 0)]


def test_the_others_of_a_request_are_placed_although_one_is_refused() -> None:
    directory = Directory(num_ps=1)
    first, second, third = directory.place([Proposal(spec("a"), 0), Proposal(spec("b"), 7), Proposal(spec("c"), 0)])
    assert (first, third) == (Placement(spec("a"), 0), Placement(spec("c"), 0))
    assert isinstance(second, InvalidArgumentError)


@pytest.mark.parametrize("ps_task", [2, -1, 2**31])
def test_a_ps_task_that_does_not_exist_is_refused(ps_task: int) -> None:
    directory = Directory(num_ps=2)
    error = error_of(directory, spec(), ps_task)
    assert isinstance(error, InvalidArgumentError)
    assert f"ps task {ps_task}" in error.message
    assert "0 to 1" in error.message
    assert directory.list_placements() == []


def test_an_impossible_spec_is_refused() -> None:
    assert isinstance(error_of(Directory(1), spec(dtype=object)), InvalidArgumentError)


# -- partitioned variables ----------------------------------------------------------------------


def test_parts_of_one_whole_are_placed_each_on_its_own() -> None:
    directory = Directory(num_ps=2)
    assert directory.place([Proposal(part(0), 0), Proposal(part(1), 1)]) == [
        Placement(part(0), 0),
        Placement(part(1), 1),
    ]


def test_a_part_of_a_whole_of_another_shape_is_refused() -> None:
    directory = Directory(num_ps=1)
    directory.place([Proposal(part(0), 0)])
    error = error_of(directory, part(1, whole=(6, 3)))
    assert isinstance(error, ShapeMismatchError)
    assert all(each in error.message for each in ("w/part_1", "w/part_0", "[6, 3]", "[4, 3]"))


def test_a_part_of_another_dtype_is_refused() -> None:
    directory = Directory(num_ps=1)
    directory.place([Proposal(part(0), 0)])
    assert isinstance(error_of(directory, part(1, dtype=np.float64)), DTypeMismatchError)


def test_a_part_at_another_place_is_refused() -> None:
    directory = Directory(num_ps=1)
    directory.place([Proposal(part(0), 0)])
    moved = VariableSpec("w/part_0", np.dtype(np.float32), (2, 3), PartitionSlice("w", (4, 3), (2, 0)))
    assert isinstance(error_of(directory, moved), ShapeMismatchError)


def test_a_variable_is_either_whole_or_in_parts() -> None:
    in_parts, whole = Directory(num_ps=1), Directory(num_ps=1)
    in_parts.place([Proposal(part(0), 0)])
    error = error_of(in_parts, spec("w"))
    assert isinstance(error, ShapeMismatchError)
    assert "already exists in parts, one of them w/part_0" in error.message
    whole.place([Proposal(spec("w"), 0)])
    error = error_of(whole, part(0))
    assert isinstance(error, ShapeMismatchError)
    assert "w already exists in one piece" in error.message


# -- many at once -------------------------------------------------------------------------------


def test_workers_in_different_orders_end_up_with_one_placement() -> None:
    directory, barrier = Directory(num_ps=4), threading.Barrier(6)

    def place(worker: int) -> dict[str, int]:
        names = [f"w{index}" for index in range(50)]
        np.random.default_rng(worker).shuffle(names)
        barrier.wait(PATIENCE_S)
        placed: dict[str, int] = {}
        for name in names:
            (placement,) = directory.place([Proposal(spec(name), worker % 4)])
            assert isinstance(placement, Placement)
            placed[name] = placement.ps_task
        return placed

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(place, range(6)))
    assert all(each == answers[0] for each in answers)
    assert len(directory.list_placements()) == 50
