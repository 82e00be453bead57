"""One ps of a group, whose workers train a table and a vector: what they stage, and what it carries out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ps_protocol.initializer_spec import ConstantKind, InitializerSpec, ValueKind
from ps_protocol.operations import Array, Declare, VariableSpec
from ps_protocol.optimizer_spec import OnNonfinite, OptimizerSpec, SparseMode
from ps_protocol.training.round_messages import Decision, Part
from ps_protocol.training.round_operations import ROUND_LAYOUTS, STAGED_KIND, STAMP_KIND, Commit, Stage, StagedStep

FLOAT = np.dtype(np.float32)
STAMP = "rounds/sgd/stamp/0"
TABLE = np.arange(12, dtype=FLOAT).reshape(4, 3)
VECTOR = np.array([1.0, -1.0], FLOAT)
ADAM = OptimizerSpec("adam", (0.125, 0.9, 0.999, 1e-8, np.nan, np.nan, 0.0), SparseMode.LAZY, OnNonfinite.REFUSE)
NO_NUMBERS = np.empty(0)


def of_kind(name: str, kind: str) -> Declare:
    dtype, shape = ROUND_LAYOUTS[kind]
    return Declare(VariableSpec(name, dtype, shape, object_kind=kind), InitializerSpec(ConstantKind(0.0)))


def declarations(seats: int = 3, slots: int = 1, on_nonfinite: OnNonfinite = OnNonfinite.REFUSE) -> list[Declare]:
    optimizer = OptimizerSpec(ADAM.function, ADAM.numbers, ADAM.sparse, on_nonfinite)
    made = [of_kind(STAMP, STAMP_KIND)]
    made += [of_kind(staged_name(seat, index), STAGED_KIND) for seat in range(seats) for index in range(slots)]
    for name, value in (("table", TABLE), ("vector", VECTOR)):
        made.append(Declare(VariableSpec(name, FLOAT, value.shape), InitializerSpec(ValueKind(value))))
        for slot in ("m", "v"):
            spec = VariableSpec(f"{name}/{slot}", FLOAT, value.shape, slot_of=name)
            made.append(Declare(spec, InitializerSpec(ConstantKind(0.0))))
        step = VariableSpec(f"{name}/step", np.dtype(np.int64), (), slot_of=name, optimizer=optimizer)
        made.append(Declare(step, InitializerSpec(ConstantKind(0.0))))
    return made


def staged_name(seat: int, index: int = 0) -> str:
    return f"rounds/staged/{seat}/{index}"


def step(name: str, *operands: Array, numbers: Array = NO_NUMBERS) -> StagedStep:
    return StagedStep(name, "adam", (f"{name}/m", f"{name}/v"), f"{name}/step", operands, numbers)


def stage(seat: int, number: int, *steps: StagedStep, ticket: int = 0, since: int = 0, slots: int = 1) -> Stage:
    return Stage(staged_name(seat, number % slots), STAMP, seat, ticket or seat + 1, number, since, slots, steps)


def commit(number: int, *seats: int, tickets: Sequence[int] = (), slots: int = 1) -> Commit:
    parts = [
        Part(seat, ticket, number) for seat, ticket in zip(seats, tickets or [seat + 1 for seat in seats], strict=True)
    ]
    variables = [f"{name}{slot}" for name in ("table", "vector") for slot in ("", "/m", "/v", "/step")]
    staged = [staged_name(seat, number % slots) for seat in seats]
    return Commit(STAMP, Decision(number, tuple(parts)), tuple(staged), tuple(variables))


def gradients(seed: int) -> tuple[StagedStep, StagedStep]:
    """Of a worker: rows of the table, one of them twice, and all of the vector."""
    random = np.random.default_rng(seed)
    rows = np.array([seed % 4, 2, 2], np.int64)
    return (
        step("table", rows, random.normal(size=(3, 3)).astype(FLOAT)),
        step("vector", random.normal(size=2).astype(FLOAT)),
    )
