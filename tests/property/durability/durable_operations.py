"""Variables, and batches of any operations on them, for the tests of state that survives its process."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from ps_protocol.initializer_spec import InitializerSpec, ValueKind
from ps_protocol.operations import (
    Apply,
    CountUpTo,
    Declare,
    Describe,
    Initialize,
    PsOperation,
    Read,
    Replace,
    Scatter,
    ScatterRule,
    Update,
    UpdateRule,
    VariableSpec,
    mutates,
)
from ps_protocol.optimizer_spec import OnNonfinite, OptimizerSpec, SparseMode

MOMENTUM = OptimizerSpec("momentum", (0.5, 1.0, 0.0), SparseMode.LAZY, OnNonfinite.SKIP)
"""All its results are multiples of a quarter, so exact."""

SPECS = {
    spec.name: spec
    for spec in (
        VariableSpec("count", np.dtype("int64"), ()),
        VariableSpec("row", np.dtype("float64"), (3,)),
        VariableSpec("table", np.dtype("int32"), (4, 2)),
        VariableSpec("large", np.dtype("int64"), (9_000,)),  # beyond what goes into the journal's database
        VariableSpec("weights", np.dtype("float64"), (3, 2)),
        VariableSpec("weights/m", np.dtype("float64"), (3, 2), slot_of="weights"),
        VariableSpec("weights/step", np.dtype("int64"), (), slot_of="weights", optimizer=MOMENTUM),
    )
}


def multiple(spec: VariableSpec, number: int) -> npt.NDArray[Any]:
    size = int(np.prod(spec.shape, dtype=np.int64))
    return (number * (1 + np.arange(size))).reshape(spec.shape).astype(spec.dtype)


@st.composite
def steps(draw: st.DrawFn) -> Apply:
    """Of the optimizer: by a whole gradient or by rows; some with a rate of their own, some wrong, some not finite."""
    number, rows = draw(st.integers(-3, 9)), draw(st.none() | st.lists(st.integers(0, 3), max_size=4))
    gradient = multiple(SPECS["weights"], number)
    if rows is not None:
        gradient = gradient[np.array(rows, np.intp) % 3]
    if number == 9:
        gradient[..., -1:] = np.inf
    wrong = draw(
        st.sampled_from(["", "", "", "", "", "shape", "dtype", "function", "no slots", "itself", "slot", "count"])
    )
    if wrong == "shape":
        gradient = np.ones((1, 2))
    elif wrong == "dtype":
        gradient = np.ones(gradient.shape, np.int64)
    return Apply(
        "weights",
        "adam" if wrong == "function" else "momentum",
        {"no slots": (), "itself": ("weights",), "slot": ("large",)}.get(wrong, ("weights/m",)),
        "count" if wrong == "count" else "weights/step",
        (gradient,) if rows is None else (np.array(rows, np.int32), gradient),
        np.array([draw(st.sampled_from([np.nan, np.nan, 0.25])), np.nan, np.nan]),
    )


@st.composite
def some_operations(draw: st.DrawFn) -> tuple[PsOperation, ...]:
    spec = SPECS[draw(st.sampled_from(sorted(SPECS)))]
    number = draw(st.integers(-3, 9))
    initial = InitializerSpec(ValueKind(multiple(spec, number)))
    otherwise = VariableSpec(spec.name, spec.dtype, (*spec.shape, 2))
    kinds: dict[str, PsOperation] = {
        "add": Update(spec.name, UpdateRule.ASSIGN_ADD, multiple(spec, number)),
        "add scalar": Update(spec.name, UpdateRule.ASSIGN_ADD, np.array(number, spec.dtype)),
        "assign": Update(spec.name, UpdateRule.ASSIGN, multiple(spec, number)),
        "declare": Declare(spec),
        "declare with a value": Declare(spec, initial),
        "declare otherwise": Declare(otherwise),
        "initialize": Initialize(spec.name, initial),
        "overwrite": Initialize(spec.name, initial, overwrite=True),
        "read": Read(spec.name),
        "describe": Describe(spec.name),
        "count up": CountUpTo("count", 4),
    }
    shapes = [(), (2,), (3,), (4, 2), (1, 4, 2), (0,)]
    kinds["replace"] = Replace(spec.name, multiple(VariableSpec("", spec.dtype, draw(st.sampled_from(shapes))), number))
    kinds["replace in its shape"] = Replace(spec.name, multiple(spec, number), keeps_shape=True)
    if spec.shape:
        rows = np.array(draw(st.lists(st.integers(0, spec.shape[0] - (number < 9)), min_size=1, max_size=3)))
        updates = np.stack([multiple(spec, number)[0]] * len(rows)).astype(spec.dtype)
        kinds["scatter"] = Scatter(spec.name, ScatterRule.ADD, rows, updates)
        kinds["scatter update"] = Scatter(spec.name, ScatterRule.UPDATE, rows, updates)
    kind = draw(st.sampled_from(sorted(kinds)))
    return (Declare(spec), kinds[kind]) if kind == "declare otherwise" else (kinds[kind],)


OPERATIONS = (
    st.lists(some_operations() | steps().map(lambda each: (each,)), min_size=1, max_size=4)
    .map(lambda each: tuple(itertools.chain(*each)))
    .filter(mutates)
)
