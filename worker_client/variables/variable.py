"""A variable of the cluster, as a worker sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from ps_protocol.errors import FailedPreconditionError
from ps_protocol.html_tables import html_table
from ps_protocol.initializer_spec import InitializerSpec
from ps_protocol.operations import Array, Describe, Initialize, Update, UpdateRule, VariableSpec
from worker_client.graph.definition import VariableDefinition
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Operation
from worker_client.values.shapes import TensorShape
from worker_client.values.versions import Version, VersionedValue
from worker_client.values.wire_names import WireDTypeName
from worker_client.variables.array_protocols import ActsAsArray
from worker_client.variables.base import OperationRunner
from worker_client.variables.part_reads import PartVersions, WholeRead
from worker_client.variables.part_rows import RowsRead
from worker_client.variables.reads import VariableReads
from worker_client.variables.reductions import Reductions
from worker_client.variables.team_calls import TeamCalls
from worker_client.variables.updates import VariableUpdates


class Variable(VariableReads, VariableUpdates, Reductions, TeamCalls, ActsAsArray):
    """A variable that lives on a ps task. Made by ``get_variable``. Thread-safe.

    Operations happen at once: reads return NumPy arrays, updates the variable itself. In arithmetic and NumPy functions
    it stands for its current value, read each time. ``==`` compares identity, as in TensorFlow 1, so that variables can
    be keys.

    Attributes:
        name: Full name with TensorFlow's ":0".
        shape: Shape of the value.
        dtype: NumPy or ml-dtypes type of the value.
        device: Where it is, as "/job:ps/task:1".
    """

    def __init__(
        self,
        definition: VariableDefinition,
        spec: VariableSpec,
        *,
        initializer: InitializerSpec | None,
        runner: OperationRunner,
        ps_task: int | None,
        device: str,
    ):
        super().__init__(spec, runner=runner, ps_task=ps_task)
        self.definition = definition
        self.device = device
        self._initializer = initializer

    @property
    def name(self) -> str:
        return f"{self.spec.name}:0"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.spec.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.spec.dtype

    # -- one of many, or of several parts -----------------------------------------------------

    def whole_read(
        self, out: Array | None = None, wire_dtype: WireDTypeName | None = None, *, view: bool = False
    ) -> WholeRead:
        """Returns the read of the value into ``out``, or into a new array; checks ``out``."""
        return WholeRead(self.spec, [self], out=out, wire_dtype=wire_dtype, view=view)

    def part_versions(self, version: SupportsIndex | Sequence[SupportsIndex] | None) -> Sequence[SupportsIndex | None]:
        """Returns the version known of its only part."""
        return [version]  # type: ignore[list-item] # a sequence is refused by unless_version, which checks each

    def versioned(self, newer: VersionedValue[PartVersions]) -> VersionedValue[Version]:
        """Returns what was read of it with its one version."""
        return VersionedValue(newer.value, newer.version[0])

    def part_updates(
        self, rule: UpdateRule, value: npt.ArrayLike, *, copy: bool, wire_dtype: WireDTypeName | None = None
    ) -> list[tuple[Variable, Update]]:
        """Returns itself with its update, checked against the spec; arguments as of ``update``."""
        return [(self, self.update(rule, value, copy=copy, wire_dtype=wire_dtype))]

    def rows_read(self, indices: npt.ArrayLike, out: Array | None, wire_dtype: WireDTypeName | None) -> RowsRead:
        """Returns the read of ``gather``, checked against the spec."""
        return RowsRead.of_one(self, self.gathering(indices, out=out, wire_dtype=wire_dtype), out)

    def placed_parts(self) -> list[tuple[Variable, tuple[int, ...]]]:
        return [(self, (0,) * len(self.spec.shape))]

    def part_pieces(self, value: Array) -> list[Array]:
        return [value]

    def reduce(self, function: str, *arguments: npt.ArrayLike) -> Array:
        """Returns what a function of the ``--functions`` module computes from the value, at most 1 MiB.

        Args:
            function: A key of the module's ``REDUCTIONS``.
            *arguments: Arrays and numbers, as of ``apply``.

        Raises:
            NotFoundError: The ps knows no such function.
            InvalidArgumentError: The function has raised an error, or returned what is no array of numbers.
            FailedPreconditionError: The variable has not been initialised.
        """
        (result,) = self._reduced_by(function, arguments)
        return result

    # -- facts --------------------------------------------------------------------------------

    def get_shape(self) -> TensorShape:
        """Returns the shape, as a ``TensorShape``."""
        return TensorShape(self.spec.shape)

    @property
    def whole_spec(self) -> VariableSpec:
        return self.spec

    @property
    def op(self) -> Operation:
        """The operation that stands for it in the graph of names."""
        return self.definition.op

    @property
    def graph(self) -> Graph:
        """The graph of names that it belongs to."""
        return self.definition.graph

    @property
    def trainable(self) -> bool:
        """Whether optimizers are meant to update it."""
        return self.definition.trainable

    @property
    def version(self) -> int:
        """Updates applied since it was initialised, asked of the ps now."""
        return self.run(Describe(self.spec.name)).version

    @property
    def initialized(self) -> bool:
        """Whether it has a value, asked of the ps now."""
        return self.run(Describe(self.spec.name)).initialized

    def __repr__(self) -> str:
        return f"<Variable {self.name!r} shape={self.shape} dtype={self.dtype.name} device={self.device!r}>"

    def _repr_html_(self) -> str:
        """For notebooks: what is known here. The value is not asked for, since the ps may be away."""
        facts = [("shape", list(self.shape)), ("dtype", self.dtype.name), ("device", self.device)]
        return html_table(f"Variable {self.name}", facts)

    # -- its initial value --------------------------------------------------------------------

    def initialize(self, *, overwrite: bool = False) -> Variable:
        """Gives it its initial value again (``overwrite``), or only if it has none."""
        self.run(self.initialization(overwrite=overwrite))
        return self

    def initialization(self, *, overwrite: bool) -> Initialize:
        """Returns the operation of ``initialize`` that a batch carries.

        Raises:
            FailedPreconditionError: The variable was found by its name alone, and so has no initializer here.
        """
        if self._initializer is None:
            raise FailedPreconditionError(
                f"{self.spec.name} was found by its name alone, so that its initializer is not known here; assign a "
                f"value, or get it with get_variable()",
                variable=self.spec.name,
            )
        return Initialize(self.spec.name, self._initializer, overwrite)
