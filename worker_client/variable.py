"""A variable of the cluster as a worker holds it: a name, a spec and the way to its ps task."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, overload

import numpy as np
import numpy.typing as npt
from numpy.lib.mixins import NDArrayOperatorsMixin

from ps_protocol.errors import InternalError, InvalidArgumentError, ShapeMismatchError
from ps_protocol.initializer_spec import InitializerSpec
from ps_protocol.operations import (
    Array,
    Describe,
    Gather,
    Initialize,
    Operation,
    Read,
    Result,
    Scatter,
    ScatterRule,
    Update,
    UpdateRule,
    VariableSpec,
    reply_bytes,
)
from worker_client.futures import mapped
from worker_client.values import IndexedSlices, convert, row_indices

if TYPE_CHECKING:
    from worker_client.graph import Graph
    from worker_client.operation import Operation as SymbolicOperation
    from worker_client.variable_definition import VariableDefinition


Rows: TypeAlias = npt.ArrayLike | IndexedSlices
Updates: TypeAlias = npt.ArrayLike | None


class OperationRunner(Protocol):
    """What a variable needs of the client that made it."""

    def run(self, ps_task: int | None, operation: Operation, *, expected_reply_bytes: int) -> Result:
        """Carries out one operation on the ps task (None: this worker's own store) and waits; raises its error."""
        ...

    def run_later(self, ps_task: int | None, operation: Operation) -> Future[Result]:
        """Queues one operation behind those before it."""
        ...


class Variable(NDArrayOperatorsMixin):
    """A variable that lives on a ps task. Made by ``get_variable``. Thread-safe.

    Operations happen at once and return NumPy arrays; in arithmetic and NumPy functions it stands for its current
    value, read anew each time. ``==`` compares identity, as in TensorFlow 1, so that variables can be keys.

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
        initializer: InitializerSpec,
        runner: OperationRunner,
        ps_task: int | None,
        device: str,
    ):
        self.definition = definition
        self.spec = spec
        self.ps_task = ps_task
        self.device = device
        self._initializer = initializer
        self._runner = runner

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
    def op(self) -> SymbolicOperation:
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

    # -- reading ------------------------------------------------------------------------------

    def read_value(self) -> Array:
        """Returns the current value: a new array, the caller's own, of one version.

        Raises:
            FailedPreconditionError: It has not been initialised.
        """
        return tensor_of(self.run(Read(self.spec.name)))

    def numpy(self) -> Array:
        """The same as ``read_value()``."""
        return self.read_value()

    def gather(self, indices: npt.ArrayLike) -> Array:
        """Returns rows of the current value.

        Args:
            indices: Integers of any shape, each in ``[0, shape[0])``.

        Returns:
            A new array ``[*indices.shape, *shape[1:]]``.

        Raises:
            InvalidArgumentError: An index is out of range.
        """
        rows = row_indices(indices, self.spec)
        return tensor_of(self.run(Gather(self.spec.name, rows)))

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

    # -- updating -----------------------------------------------------------------------------

    def initialize(self, *, overwrite: bool = False) -> Variable:
        """Gives it its initial value again (``overwrite``), or only if it has none."""
        self.run(self.initialization(overwrite=overwrite))
        return self

    def initialization(self, *, overwrite: bool) -> Initialize:
        """Returns the operation of ``initialize`` that a batch carries."""
        return Initialize(self.spec.name, self._initializer, overwrite)

    @overload
    def assign(self, value: npt.ArrayLike, *, wait: Literal[True] = True) -> Variable: ...
    @overload
    def assign(self, value: npt.ArrayLike, *, wait: Literal[False]) -> Future[Variable]: ...
    def assign(self, value: npt.ArrayLike, *, wait: bool = True) -> Variable | Future[Variable]:
        """Replaces the value; also initialises.

        Args:
            value: Of the variable's shape; numbers are converted to its dtype if that keeps their kind
                (float64 to float32, but not float to int).
            wait: Whether to wait until the ps has applied it. If not, ``value`` is copied and a future is returned.

        Returns:
            The variable itself, or a future of it.

        Raises:
            ShapeMismatchError: The shape differs.
            DTypeMismatchError: The conversion would change the kind of number.
        """
        return self._update(UpdateRule.ASSIGN, value, wait)

    @overload
    def assign_add(self, delta: npt.ArrayLike, *, wait: Literal[True] = True) -> Variable: ...
    @overload
    def assign_add(self, delta: npt.ArrayLike, *, wait: Literal[False]) -> Future[Variable]: ...
    def assign_add(self, delta: npt.ArrayLike, *, wait: bool = True) -> Variable | Future[Variable]:
        """Adds ``delta``, a scalar or of the variable's shape. Counts exactly once; otherwise as ``assign``."""
        return self._update(UpdateRule.ASSIGN_ADD, delta, wait)

    @overload
    def assign_sub(self, delta: npt.ArrayLike, *, wait: Literal[True] = True) -> Variable: ...
    @overload
    def assign_sub(self, delta: npt.ArrayLike, *, wait: Literal[False]) -> Future[Variable]: ...
    def assign_sub(self, delta: npt.ArrayLike, *, wait: bool = True) -> Variable | Future[Variable]:
        """Subtracts ``delta``; otherwise as ``assign_add``."""
        return self._update(UpdateRule.ASSIGN_SUB, delta, wait)

    @overload
    def scatter_update(self, indices: Rows, updates: Updates = None, *, wait: Literal[True] = True) -> Variable: ...
    @overload
    def scatter_update(self, indices: Rows, updates: Updates = None, *, wait: Literal[False]) -> Future[Variable]: ...
    def scatter_update(
        self, indices: Rows, updates: Updates = None, *, wait: bool = True
    ) -> Variable | Future[Variable]:
        """Replaces rows; of a row given twice the last one stays.

        Args:
            indices: Integers of any shape, each in ``[0, shape[0])``; or ``IndexedSlices``, without ``updates``.
            updates: Shape ``[*indices.shape, *shape[1:]]``, or a scalar.
            wait: As in ``assign``.

        Returns:
            The variable itself, or a future of it.

        Raises:
            InvalidArgumentError: An index is out of range; nothing has changed.
            ShapeMismatchError: ``updates`` does not fit ``indices``.
            DTypeMismatchError: The conversion would change the kind of number.
        """
        return self._scatter(ScatterRule.UPDATE, indices, updates, wait)

    @overload
    def scatter_add(self, indices: Rows, updates: Updates = None, *, wait: Literal[True] = True) -> Variable: ...
    @overload
    def scatter_add(self, indices: Rows, updates: Updates = None, *, wait: Literal[False]) -> Future[Variable]: ...
    def scatter_add(self, indices: Rows, updates: Updates = None, *, wait: bool = True) -> Variable | Future[Variable]:
        """Adds to rows; a row given twice counts twice. As ``scatter_update``."""
        return self._scatter(ScatterRule.ADD, indices, updates, wait)

    @overload
    def scatter_sub(self, indices: Rows, updates: Updates = None, *, wait: Literal[True] = True) -> Variable: ...
    @overload
    def scatter_sub(self, indices: Rows, updates: Updates = None, *, wait: Literal[False]) -> Future[Variable]: ...
    def scatter_sub(self, indices: Rows, updates: Updates = None, *, wait: bool = True) -> Variable | Future[Variable]:
        """Subtracts from rows; a row given twice counts twice. As ``scatter_update``."""
        return self._scatter(ScatterRule.SUB, indices, updates, wait)

    @overload
    def scatter_mul(self, indices: Rows, updates: Updates = None, *, wait: Literal[True] = True) -> Variable: ...
    @overload
    def scatter_mul(self, indices: Rows, updates: Updates = None, *, wait: Literal[False]) -> Future[Variable]: ...
    def scatter_mul(self, indices: Rows, updates: Updates = None, *, wait: bool = True) -> Variable | Future[Variable]:
        """Multiplies rows; a row given twice is multiplied twice. As ``scatter_update``."""
        return self._scatter(ScatterRule.MUL, indices, updates, wait)

    @overload
    def scatter_div(self, indices: Rows, updates: Updates = None, *, wait: Literal[True] = True) -> Variable: ...
    @overload
    def scatter_div(self, indices: Rows, updates: Updates = None, *, wait: Literal[False]) -> Future[Variable]: ...
    def scatter_div(self, indices: Rows, updates: Updates = None, *, wait: bool = True) -> Variable | Future[Variable]:
        """Divides rows; a row given twice is divided twice. Integers divide towards zero. As ``scatter_update``."""
        return self._scatter(ScatterRule.DIV, indices, updates, wait)

    @overload
    def scatter_min(self, indices: Rows, updates: Updates = None, *, wait: Literal[True] = True) -> Variable: ...
    @overload
    def scatter_min(self, indices: Rows, updates: Updates = None, *, wait: Literal[False]) -> Future[Variable]: ...
    def scatter_min(self, indices: Rows, updates: Updates = None, *, wait: bool = True) -> Variable | Future[Variable]:
        """Lowers rows to ``updates`` where that is less. As ``scatter_update``."""
        return self._scatter(ScatterRule.MIN, indices, updates, wait)

    @overload
    def scatter_max(self, indices: Rows, updates: Updates = None, *, wait: Literal[True] = True) -> Variable: ...
    @overload
    def scatter_max(self, indices: Rows, updates: Updates = None, *, wait: Literal[False]) -> Future[Variable]: ...
    def scatter_max(self, indices: Rows, updates: Updates = None, *, wait: bool = True) -> Variable | Future[Variable]:
        """Raises rows to ``updates`` where that is more. As ``scatter_update``."""
        return self._scatter(ScatterRule.MAX, indices, updates, wait)

    # -- down to the ps -----------------------------------------------------------------------

    def update(self, rule: UpdateRule, value: npt.ArrayLike, *, copy: bool) -> Update:
        """Returns the operation that a batch carries, checked against the spec.

        Args:
            rule: What to do with the value.
            value: As in ``assign`` and ``assign_add``.
            copy: Whether the operation must outlive the caller's hold on ``value``.
        """
        array = convert(value, self.spec, copy=copy)
        is_delta = rule is not UpdateRule.ASSIGN
        if array.shape != self.shape and not (is_delta and array.shape == ()):
            raise ShapeMismatchError(
                f"{rule.name.lower()} of variable {self.spec.name}: the value has shape {list(array.shape)}, "
                f"the variable {list(self.shape)}",
                variable=self.spec.name,
            )
        return Update(self.spec.name, rule, array)

    def _update(self, rule: UpdateRule, value: npt.ArrayLike, wait: bool) -> Variable | Future[Variable]:
        return self._apply(self.update(rule, value, copy=not wait), wait)

    def _scatter(self, rule: ScatterRule, indices: Rows, updates: Updates, wait: bool) -> Variable | Future[Variable]:
        if isinstance(indices, IndexedSlices):
            if updates is not None:
                raise InvalidArgumentError(
                    f"variable {self.spec.name}: IndexedSlices hold their updates; give no second argument"
                )
            slices = indices
            indices, updates = slices.indices, slices.values
        elif updates is None:
            raise InvalidArgumentError(f"variable {self.spec.name}: the updates of the rows are missing")
        rows, values = row_indices(indices, self.spec, copy=not wait), convert(updates, self.spec, copy=not wait)
        if values.shape not in ((), (*rows.shape, *self.shape[1:])):
            raise ShapeMismatchError(
                f"scatter_{rule.name.lower()} of variable {self.spec.name}: updates have shape {list(values.shape)}, "
                f"needed is {[*rows.shape, *self.shape[1:]]} for indices {list(rows.shape)}, or a scalar",
                variable=self.spec.name,
            )
        return self._apply(Scatter(self.spec.name, rule, rows, values), wait)

    def _apply(self, operation: Update | Scatter, wait: bool) -> Variable | Future[Variable]:
        if wait:
            self.run(operation)
            return self
        return mapped(self._runner.run_later(self.ps_task, operation), lambda _: self)

    def is_run_by(self, runner: OperationRunner) -> bool:
        """Whether it is this runner that carries out its operations, so that it can do so together with others."""
        return self._runner is runner

    def run(self, operation: Operation) -> Result:
        """Carries out an operation on this variable and waits; raises its error."""
        expected_bytes = reply_bytes(operation, self.spec)
        return self._runner.run(self.ps_task, operation, expected_reply_bytes=expected_bytes)


def tensor_of(result: Result) -> Array:
    """Returns the tensor that a read or gather was answered with."""
    if result.tensor is None:
        raise InternalError("the reply to a read holds no tensor")
    return result.tensor
