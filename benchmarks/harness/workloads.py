"""The work that every contestant does, and the data it does it on. Needs NumPy only: peers import it too.

A contestant holds, in a process other than the one that measures, a scalar, a large vector, a table of rows and the
layers of a model, all float32 and all zero at first. Every update adds ones, so that what a contestant holds at the end
tells whether it has done the work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FLOAT_BYTES = 4
ZIPF_EXPONENT = 1.1


@dataclass(frozen=True)
class Scale:
    """How large the data are.

    Attributes:
        elements: Of the large vector.
        rows: Of the table ``[rows, width]``.
        width: Floats in a row.
        layers: Variables of the model.
        layer: Floats in each.
        batch_rows: Rows that one gather or scatter touches.
    """

    elements: int
    rows: int
    width: int
    layers: int
    layer: int
    batch_rows: int

    @property
    def vector_bytes(self) -> int:
        return self.elements * FLOAT_BYTES

    @property
    def model_bytes(self) -> int:
        return self.layers * self.layer * FLOAT_BYTES

    def uniform_indices(self) -> npt.NDArray[np.int64]:
        """Rows of a batch, each row as likely as any other: hardly any repeats."""
        return np.random.default_rng(0).integers(0, self.rows, self.batch_rows, dtype=np.int64)

    def zipf_indices(self) -> npt.NDArray[np.int64]:
        """Rows of a batch as words occur in a text: almost half are repeats, and one row is a tenth of it."""
        drawn = np.random.default_rng(1).zipf(ZIPF_EXPONENT, self.batch_rows)
        return np.asarray((drawn - 1) % self.rows, dtype=np.int64)


SCALES: Mapping[str, Scale] = {
    "full": Scale(25 * 1024 * 1024, 1_000_000, 64, 161, 158_720, 4096),
    "small": Scale(4096, 1000, 8, 5, 64, 32),
}


@dataclass(frozen=True)
class Workload:
    """One kind of work.

    Attributes:
        name: Key in commands and files.
        title: What it is, for tables; ``title_at`` fills in the sizes.
        unit: "us" or "ms", for tables.
        calls: Measured calls in one round.
        warm: Calls before them that are not counted.
    """

    name: str
    title: str
    unit: str
    calls: int
    warm: int

    def title_at(self, scale: Scale) -> str:
        """Returns what it is at that scale, for people."""
        vector = f"{scale.vector_bytes / 2**20:,.3g} MiB"
        return self.title.format(vector=vector, rows=f"{scale.batch_rows:,} rows", layers=f"{scale.layers} variables")


WORKLOADS: Mapping[str, Workload] = {
    each.name: each
    for each in (
        Workload("add", "add to a scalar", "us", 200, 20),
        Workload("read", "read a scalar", "us", 200, 20),
        Workload("pull", "pull {vector}", "ms", 3, 1),
        Workload("push", "push {vector}", "ms", 3, 1),
        Workload("gather", "gather {rows}", "ms", 20, 3),
        Workload("scatter", "scatter {rows}, uniform", "ms", 20, 3),
        Workload("scatter_zipf", "scatter {rows}, Zipf", "ms", 20, 3),
        Workload("pull161", "pull {layers}", "ms", 3, 1),
        Workload("push161", "push {layers}", "ms", 3, 1),
    )
}


def expected_state(scale: Scale, counts: Mapping[str, int]) -> dict[str, float]:
    """Returns what a contestant must hold after so many calls of each workload: see ``observed_state``."""
    row = scale.uniform_indices()[0]
    uniform, zipf = (int(np.count_nonzero(each == row)) for each in (scale.uniform_indices(), scale.zipf_indices()))
    return {
        "scalar": float(counts.get("add", 0)),
        "vector": float(counts.get("push", 0)),
        "row": float(counts.get("scatter", 0) * uniform + counts.get("scatter_zipf", 0) * zipf),
        "layer": float(counts.get("push161", 0)),
    }


def observed_state(scalar: Any, vector: Any, rows: Any, layers: Any) -> dict[str, float]:
    """Returns the last element of each thing that a contestant holds.

    Args:
        scalar: Its value.
        vector: Array ``[elements]``.
        rows: What gathering ``uniform_indices`` returned, ``[batch_rows, width]``; the first row counts.
        layers: Sequence of arrays ``[layer]``; the last one counts.
    """
    return {
        "scalar": float(scalar),
        "vector": float(vector[-1]),
        "row": float(rows[0][-1]),
        "layer": float(layers[-1][-1]),
    }


def ones(scale: Scale) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], list[npt.NDArray[np.float32]]]:
    """Returns what is added: to the vector, to the rows of a batch, and to each layer."""
    return (
        np.ones(scale.elements, np.float32),
        np.ones((scale.batch_rows, scale.width), np.float32),
        [np.ones(scale.layer, np.float32) for _ in range(scale.layers)],
    )
