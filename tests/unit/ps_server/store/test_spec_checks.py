from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError, ShapeMismatchError
from ps_protocol.operations import PartitionSlice, VariableSpec
from ps_protocol.optimizer_constraints import ConstraintSpec
from ps_protocol.optimizer_schedules import ScheduleSpec
from ps_protocol.optimizer_spec import MOVING_AVERAGE, OptimizerSpec, SparseMode
from ps_server.store.spec_checks import MAX_NAME_LENGTH, check_agreement, check_spec

FLOAT = np.dtype(np.float32)
PART = VariableSpec("w/part_0", FLOAT, (2, 3), PartitionSlice("w", (4, 3), (2, 0)))


@pytest.mark.parametrize(
    "spec",
    [
        VariableSpec("w", FLOAT, ()),
        VariableSpec("w", np.dtype("S8"), (0, 3)),
        VariableSpec("w" * MAX_NAME_LENGTH, np.dtype(bool), (2**20,)),
        PART,
    ],
)
def test_accepts_what_can_be_held(spec: VariableSpec) -> None:
    check_spec(spec)


@pytest.mark.parametrize("name", ["", "x" * (MAX_NAME_LENGTH + 1)])
def test_refuses_impossible_names(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="name"):
        check_spec(VariableSpec(name, FLOAT, ()))


@pytest.mark.parametrize("dtype", [object, "U4", "M8[s]", "S0", [("a", "f4")]])
def test_refuses_dtypes_that_are_no_values(dtype: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="scope/w") as refused:
        check_spec(VariableSpec("scope/w", np.dtype(dtype), ()))
    assert refused.value.variable == "scope/w"


def test_refuses_foreign_byte_order() -> None:
    with pytest.raises(InvalidArgumentError, match="byte order"):
        check_spec(VariableSpec("w", np.dtype(">f4"), ()))


@pytest.mark.parametrize("shape", [(-1,), (2**62, 4), (1,) * 65])
def test_refuses_impossible_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgumentError, match="scope/w"):
        check_spec(VariableSpec("scope/w", FLOAT, shape))


@pytest.mark.parametrize(
    "part",
    [
        PartitionSlice("w", (4, 3), (3, 0)),
        PartitionSlice("w", (4, 3), (-1, 0)),
        PartitionSlice("w", (4,), (0,)),
        PartitionSlice("w", (4, 3), (0,)),
    ],
)
def test_refuses_parts_outside_the_whole(part: PartitionSlice) -> None:
    with pytest.raises(InvalidArgumentError, match="does not lie in it"):
        check_spec(VariableSpec("w/part_0", FLOAT, (2, 3), part))


def test_equal_specs_agree() -> None:
    check_agreement(PART, PART)
    check_agreement(PART, VariableSpec("w/part_0", FLOAT, (2, 3), PartitionSlice("w", (4, 3), (2, 0))))


def test_another_dtype_names_both_sides() -> None:
    with pytest.raises(DTypeMismatchError, match=r"scope/w already exists as float32\[2\].*int32\[2\]"):
        check_agreement(VariableSpec("scope/w", FLOAT, (2,)), VariableSpec("scope/w", np.dtype("i4"), (2,)))


def test_another_shape_names_both_sides() -> None:
    with pytest.raises(ShapeMismatchError, match=r"float32\[2\].*float32\[3, 1\]"):
        check_agreement(VariableSpec("w", FLOAT, (2,)), VariableSpec("w", FLOAT, (3, 1)))


def test_another_place_in_the_whole_names_both_sides() -> None:
    other = VariableSpec("w/part_0", FLOAT, (2, 3), PartitionSlice("w", (6, 3), (2, 0)))
    with pytest.raises(ShapeMismatchError, match=r"part at \[2, 0\] of w \[4, 3\].*w \[6, 3\]"):
        check_agreement(PART, other)


def counting(optimizer: OptimizerSpec, **changed: Any) -> VariableSpec:
    of: dict[str, Any] = {"name": "w/sgd/step", "dtype": np.dtype(np.int64), "shape": (), "slot_of": "w", **changed}
    return VariableSpec(of["name"], of["dtype"], of["shape"], None, of["slot_of"], optimizer)


SGD = OptimizerSpec("gradient_descent", (0.1,), SparseMode.LAZY)


def test_accepts_the_count_of_an_optimizer() -> None:
    schedule = ScheduleSpec("exponential", (0.1, 10.0, 0.5, 0.0))
    check_spec(counting(replace(SGD, schedule=schedule, constraint=ConstraintSpec("max_norm", (1.0, 0.0)))))


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (OptimizerSpec("nonsense", ()), "no update rule 'nonsense'"),
        (replace(SGD, numbers=(0.1, 0.2)), "gradient_descent has 1 settings, not 2"),
        (replace(SGD, numbers=(float("inf"),)), "learning_rate of the rule gradient_descent is inf"),
        (replace(SGD, sparse=SparseMode.CATCH_UP), "no sparse mode 'catch_up'"),
        (replace(SGD, schedule=ScheduleSpec("nonsense", ())), "no learning rate schedule 'nonsense'"),
        (replace(SGD, schedule=ScheduleSpec("exponential", (0.1,))), "exponential has 4 settings, not 1"),
        (replace(SGD, schedule=ScheduleSpec("cosine", (0.1, 0.0, 0.0))), "decay_steps of the schedule cosine is 0"),
        (replace(SGD, schedule=ScheduleSpec("piecewise", (2.0, 1.0, 0.1, 0.2, 0.3))), "piecewise needs ascending"),
        (replace(SGD, constraint=ConstraintSpec("nonsense")), "no constraint 'nonsense'"),
        (replace(SGD, constraint=ConstraintSpec("max_norm", (-1.0, 0.0))), "max_value of the constraint max_norm"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_refuses_optimizers_that_can_make_no_steps(optimizer: OptimizerSpec, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"variable w cannot be trained .* w/sgd/step declares: .*{message}"):
        check_spec(counting(optimizer))


@pytest.mark.parametrize(
    "changed", [{"dtype": FLOAT}, {"shape": (1,)}, {"slot_of": ""}], ids=lambda each: str(next(iter(each)))
)
def test_refuses_counts_that_cannot_count(changed: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"w/sgd/step .* cannot count the steps of an optimizer"):
        check_spec(counting(SGD, **changed))


def test_averages_declare_a_decay() -> None:
    check_spec(VariableSpec("w/avg", FLOAT, (2,), None, "w", OptimizerSpec(MOVING_AVERAGE, (0.5,))))
    for numbers, slot_of in (((1.5,), "w"), ((), "w"), ((0.5,), "")):
        with pytest.raises(InvalidArgumentError, match=r"w/avg cannot be a moving average .*decay in \[0, 1\]"):
            check_spec(VariableSpec("w/avg", FLOAT, (2,), None, slot_of, OptimizerSpec(MOVING_AVERAGE, numbers)))
