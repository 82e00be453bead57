"""A variable of the cluster, as a worker sees it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.mixins import NDArrayOperatorsMixin

from ps_protocol.errors import FailedPreconditionError
from ps_protocol.initializer_spec import InitializerSpec
from ps_protocol.operations import Array, Describe, Initialize, VariableSpec
from worker_client.graph.definition import VariableDefinition
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Operation
from worker_client.variables.base import OperationRunner
from worker_client.variables.reads import VariableReads
from worker_client.variables.updates import VariableUpdates


class Variable(VariableReads, VariableUpdates, NDArrayOperatorsMixin):
    """A variable that lives on a ps task. Made by ``get_variable``. Thread-safe.

    Operations happen at once and return NumPy arrays; in arithmetic and NumPy functions it stands for its current
    value, read each time. ``==`` compares identity, as in TensorFlow 1, so that variables can be keys.

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

    # -- in place of its value ----------------------------------------------------------------

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError(f"{self.spec.name} lives on a ps: an array of it is always a copy")
        value = self.read_value()
        return value if dtype is None else value.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(isinstance(target, Variable) for target in kwargs.get("out", ())):
            raise TypeError(
                f"{self.spec.name} lives on a ps and cannot be changed in place by {ufunc.__name__}; "
                f"use assign, assign_add or assign_sub"
            )
        arrays = [each.read_value() if isinstance(each, Variable) else each for each in inputs]
        return getattr(ufunc, method)(*arrays, **kwargs)

    def __getitem__(self, key: Any) -> Any:
        return self.read_value()[key]

    __iter__ = None  # a loop over rows would read the whole value once for each

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"{self.spec.name} is a scalar and has no len()")
        return self.shape[0]

    def __float__(self) -> float:
        return float(self.read_value())

    def __int__(self) -> int:
        return int(self.read_value())

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"<Variable {self.name!r} shape={self.shape} dtype={self.dtype.name} device={self.device!r}>"

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
