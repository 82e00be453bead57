"""TensorFlow 1's accumulators: gradients that are pending beside a variable, of which a mean is taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np

from ps_protocol.codec.limits import UNARY_LIMIT_BYTES
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array
from ps_protocol.shared_objects import Json
from worker_client.graph.computation import GraphObject, PendingCall, SharedCall
from worker_client.graph.operation import Operation, OutputSpec, Tensor
from worker_client.objects.shared_object import ObjectConnection
from worker_client.ops.array_ops import cast
from worker_client.ops.constant_ops import convert_to_tensor
from worker_client.resources.graph_objects import (
    SCALAR,
    acting,
    add_op,
    asking,
    graph_of_sessions,
    made_object,
    step_tensor,
    whole_number,
)
from worker_client.values.conversion import IndexedSlices
from worker_client.values.dtypes import DType, as_dtype, int64
from worker_client.values.shapes import TensorShape

REDUCTION_TYPES: Final = ("MEAN", "SUM")
_UNKNOWN_BYTES: Final = 2 * UNARY_LIMIT_BYTES
"""What is expected of an answer whose size is not known: more than one message carries, so that any size can come."""

_JSON_BYTES: Final = 4096
_INT32: Final = OutputSpec(np.dtype(np.int32), SCALAR)


class SparseGradient(NamedTuple):
    """What ``SparseConditionalAccumulator.take_grad`` returns.

    Attributes:
        indices: The rows, int64 ``[n]``.
        values: Of each row, ``[n, ...]``.
        shape: Of the whole, int64; -1 for what is not known.
    """

    indices: Tensor
    values: Tensor
    shape: Tensor


class ConditionalAccumulatorBase:
    """What both kinds of accumulators have. One is on the ps task of its device, and shared by its ``shared_name``.

    Gradients are pending until somebody takes them. A gradient of a step before the accumulator's own is dropped.
    """

    _kind: ClassVar[str]
    _op_type: ClassVar[str]
    _shares_place: ClassVar[bool]
    _prefix: ClassVar[str]
    """What the types of the operations begin with that both kinds have."""

    def __init__(self, dtype: Any, shape: Any, shared_name: str | None, name: str | None, reduction_type: str | None):
        if dtype is None:
            raise TypeError("Expected DataType for argument 'dtype' not None.")
        self._dtype = as_dtype(dtype)
        if self._dtype.kind in "bSOU":
            raise TypeError(f"an accumulator cannot be of {DType.of(self._dtype).name}; it should be of numbers")
        self._shape = TensorShape(shape)
        reduction = "MEAN" if reduction_type is None else reduction_type
        if not isinstance(reduction, str):
            raise TypeError(f"Expected string for argument 'reduction_type' not {reduction!r}.")
        if reduction not in REDUCTION_TYPES:
            graph_of_sessions(self._op_type).unique_name(name or self._op_type)  # it is taken, as in TensorFlow
            raise ValueError(f"reduction_type is {reduction!r}; it should be {' or '.join(REDUCTION_TYPES)}")
        sizes = None if self._shape.ndims is None else self._shape.as_list()
        self._object: GraphObject = made_object(
            self._op_type,
            name or self._op_type,
            folder="accumulator",
            kind=self._kind,
            settings={"dtype": self._dtype.name, "shape": sizes, "reduction": reduction},
            shared_name=shared_name,
            attributes={
                "dtype": DType.of(self._dtype),
                "shape": self._shape,
                "reduction_type": reduction.encode(),
            },
            handle_shape=[2],
        )

    @property
    def name(self) -> str:
        """Of its operation, without scopes."""
        return self._object.op.name.rpartition("/")[2]

    @property
    def shared(self) -> GraphObject:
        """What a session opens."""
        return self._object

    @property
    def accumulator_ref(self) -> Tensor:
        """The tensor that stands for it in the graph."""
        return self._object.op.outputs[0]

    @property
    def dtype(self) -> DType:
        """Of the gradients."""
        return DType.of(self._dtype)

    def num_accumulated(self, name: str | None = None) -> Tensor:
        """Returns how many gradients are pending, int32 ``[]``."""
        access = asking(self._object, {"ask": "count"}, lambda answer: np.array(answer["count"], np.int32))
        op_type = f"{self._prefix}NumAccumulated"
        name = name or f"{self.name}_NumAccumulated"
        return add_op(self._object, op_type, [], [_INT32], access, name, beside=self._shares_place).outputs[0]

    def set_global_step(self, new_global_step: Any, name: str | None = None) -> Operation:
        """Sets its step each time that a session runs it: gradients of earlier ones are dropped from then on.

        Gradients that are pending stay, and the step may go back.

        Args:
            new_global_step: A scalar.
            name: Of the operation.
        """
        step = step_tensor(new_global_step, "new_global_step")
        access = acting(
            self._object, lambda _, given: ({"do": "set_step", "step": _step(given, "new_global_step")}, ())
        )
        op_type = f"{self._prefix}SetGlobalStep"
        return add_op(self._object, op_type, [step], [], access, name, beside=self._shares_place)

    def _take(
        self,
        op_type: str,
        num_required: Any,
        name: str | None,
        outputs: Sequence[OutputSpec],
        taker: Callable[..., PendingCall] | None,
    ) -> Operation:
        size_bytes = self._shape.num_elements()
        expected = _UNKNOWN_BYTES if size_bytes is None else size_bytes * self._dtype.itemsize + _JSON_BYTES
        known_as, is_sparse = self.name, len(outputs) > 1
        with self._object.op.graph.name_scope(name or op_type) as scope:
            number = whole_number(num_required, "num_required", f"{op_type}: num_required")
            expected = _UNKNOWN_BYTES if is_sparse else expected
            if taker is None:
                call = SharedCall(self._object, lambda required: Taking(known_as, required, expected))
            else:
                call = SharedCall(
                    self._object,
                    lambda home, required: taker(home, Taking(known_as, required, expected)),
                    at_home=True,
                )
            attributes = {"dtype": DType.of(self._dtype)}
            return add_op(
                self._object, op_type, [number], outputs, call, scope, attributes=attributes, beside=self._shares_place
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._object.op.name!r} of {self.dtype.name}{self._shape}>"


class ConditionalAccumulator(ConditionalAccumulatorBase):
    """Accumulates gradients for a whole variable.

    Args:
        dtype: Of the gradients, a float type.
        shape: Of the gradients, as far as it is known. What is not, the first gradient of a round says.
        shared_name: What the cluster calls it; without one it is this process's own.
        name: Of the operation.
        reduction_type: "MEAN" or "SUM".

    Raises:
        TypeError, ValueError: An argument is none of those.
    """

    _kind = "accumulator"
    _op_type = "ResourceConditionalAccumulator"
    _prefix = "ResourceAccumulator"
    _shares_place = False

    def __init__(
        self,
        dtype: Any,
        shape: Any = None,
        shared_name: str | None = None,
        name: str | None = "conditional_accumulator",
        reduction_type: str | None = "MEAN",
    ):
        super().__init__(dtype, shape, shared_name, name, reduction_type)

    def apply_grad(
        self,
        grad: Any,
        local_step: Any = 0,
        name: str | None = None,
        *,
        once_for_each_worker: bool = False,
        heard: Callable[..., None] | None = None,
    ) -> Operation:
        """Adds a gradient each time that a session runs it; one of a step before the accumulator's is dropped.

        Args:
            grad: The gradient.
            local_step: The step that it was computed for.
            name: Of the operation.
            once_for_each_worker: Whether a second one of a worker is dropped, as long as the first is pending.
            heard: Is given the session's ``TrainingHome`` and the answer each time.

        Raises:
            ValueError: It has another dtype or shape.
        """
        if grad is None:
            raise ValueError("grad is None; a gradient is needed")
        value = convert_to_tensor(grad, self._dtype)
        if not value.shape.is_compatible_with(self._shape):
            raise ValueError(
                f"{self.name} has gradients of the shape {self._shape}, and this one has {value.shape}; they should be "
                f"compatible"
            )
        step = step_tensor(local_step, "local_step")

        def push(worker: Any, step: Array, grad: Array) -> tuple[Json, tuple[Array, ...]]:
            return {"do": "push", "step": _step(step, "local_step"), **_by(worker)}, (grad,)

        attributes = {"dtype": DType.of(self._dtype)}
        op_type = "ResourceAccumulatorApplyGradient"
        access = acting(self._object, push, names_worker=once_for_each_worker, heard=heard)
        return add_op(self._object, op_type, [step, value], [], access, name, attributes=attributes)

    def take_grad(
        self, num_required: Any, name: str | None = None, *, taker: Callable[..., PendingCall] | None = None
    ) -> Tensor:
        """Returns the mean (or sum) of all gradients that are pending, as soon as there are so many of them.

        Taking adds one to the accumulator's step.

        Args:
            num_required: How many gradients it takes at least.
            name: Of the operation.
            taker: Makes what takes, of the session's ``TrainingHome`` and a ``Taking``; for those who take together.
        """
        op_type = "ResourceAccumulatorTakeGradient"
        return self._take(op_type, num_required, name, [OutputSpec(self._dtype, self._shape)], taker).outputs[0]


class SparseConditionalAccumulator(ConditionalAccumulatorBase):
    """Accumulates gradients for some rows of a variable. The mean of a row is that over the gradients that have it.

    Rows that come again in one gradient stay apart, and gradients are merged as lists: in order if each was in order.

    Args:
        dtype: Of the gradients, a float type.
        shape: Of the whole, as far as it is known.
        shared_name: What the cluster calls it; without one it is this process's own.
        name: Of the operation.
        reduction_type: "MEAN" or "SUM".

    Raises:
        TypeError, ValueError: An argument is none of those.
    """

    _kind = "sparse_accumulator"
    _op_type = "SparseConditionalAccumulator"
    _prefix = "Accumulator"
    _shares_place = True

    def __init__(
        self,
        dtype: Any,
        shape: Any = None,
        shared_name: str | None = None,
        name: str | None = "sparse_conditional_accumulator",
        reduction_type: str | None = "MEAN",
    ):
        super().__init__(dtype, shape, shared_name, name, reduction_type)

    def apply_indexed_slices_grad(
        self,
        grad: IndexedSlices,
        local_step: Any = 0,
        name: str | None = None,
        *,
        once_for_each_worker: bool = False,
        heard: Callable[..., None] | None = None,
    ) -> Operation:
        """Does what ``apply_grad`` does with a gradient as ``tf.gradients`` gives it."""
        return self.apply_grad(
            grad_indices=grad.indices,
            grad_values=grad.values,
            grad_shape=grad.dense_shape,
            local_step=local_step,
            name=name,
            once_for_each_worker=once_for_each_worker,
            heard=heard,
        )

    def apply_grad(
        self,
        grad_indices: Any,
        grad_values: Any,
        grad_shape: Any = None,
        local_step: Any = 0,
        name: str | None = None,
        *,
        once_for_each_worker: bool = False,
        heard: Callable[..., None] | None = None,
    ) -> Operation:
        """Adds a gradient each time that a session runs it; one of a step before the accumulator's is dropped.

        Args:
            grad_indices: The rows, ``[n]``.
            grad_values: Of each row, ``[n, ...]``.
            grad_shape: Of the whole, if it is known.
            local_step: The step that it was computed for.
            name: Of the operation.
            once_for_each_worker: Whether a second one of a worker is dropped, as long as the first is pending.
            heard: Is given the session's ``TrainingHome`` and the answer each time.
        """
        step = step_tensor(local_step, "local_step")
        if grad_indices is None or grad_values is None:
            raise ValueError("grad_indices or grad_values is None; both are needed")
        rows = cast(grad_indices, int64)
        sizes = cast(np.zeros(0, np.float32) if grad_shape is None else grad_shape, int64)
        has_shape = grad_shape is not None

        def push(worker: Any, step: Array, rows: Array, values: Array, sizes: Array) -> tuple[Json, tuple[Array, ...]]:
            shape = sizes.tolist() if has_shape else None
            return {"do": "push", "step": _step(step, "local_step"), "shape": shape, **_by(worker)}, (rows, values)

        op_type = "SparseAccumulatorApplyGradient"
        graph = self._object.op.graph
        attributes = {"dtype": DType.of(self._dtype), "has_known_shape": has_shape}
        access = acting(self._object, push, names_worker=once_for_each_worker, heard=heard)
        if isinstance(grad_values, Tensor):
            inputs = [step, rows, grad_values, sizes]
            return add_op(self._object, op_type, inputs, [], access, name, attributes=attributes, beside=True)
        with graph.name_scope(name or op_type) as scope:
            values = convert_to_tensor(grad_values, self._dtype, name="gradient_values")
            inputs = [step, rows, values, sizes]
            return add_op(self._object, op_type, inputs, [], access, scope, attributes=attributes, beside=True)

    def take_grad(
        self, num_required: Any, name: str | None = None, *, taker: Callable[..., PendingCall] | None = None
    ) -> SparseGradient:
        """Returns the mean (or sum) of all gradients that are pending, as soon as there are so many of them.

        Taking adds one to the accumulator's step.

        Args:
            num_required: How many gradients it takes at least.
            name: Of the operation.
            taker: Makes what takes, of the session's ``TrainingHome`` and a ``Taking``; for those who take together.
        """
        whole = OutputSpec(int64.dtype, TensorShape(None))
        outputs = [whole, OutputSpec(self._dtype, TensorShape(None)), whole]
        return SparseGradient(*self._take("SparseAccumulatorTakeGradient", num_required, name, outputs, taker).outputs)

    def take_indexed_slices_grad(
        self, num_required: Any, name: str | None = None, *, taker: Callable[..., PendingCall] | None = None
    ) -> IndexedSlices:
        """Does what ``take_grad`` does; returns the gradient as ``apply_gradients`` takes it."""
        taken = self.take_grad(num_required, name, taker=taker)
        return _slices(taken)


def _slices(taken: Any) -> IndexedSlices:
    return IndexedSlices(taken.values, taken.indices, taken.shape)


class Taking:
    """Takes what is pending, as soon as that is enough.

    Attributes:
        name: Of the accumulator.
        number: How many gradients it takes at least.
        ticket: Of whom takes, where that is fenced.
        of: For what it takes, where others may have to take the same again.
    """

    def __init__(self, name: str, required: Array, expected_bytes: int):
        if required.ndim:
            raise InvalidArgumentError(f"num_required has the shape {list(required.shape)}; it should be a scalar")
        self.name: Final = name
        self.number = int(required)
        self.ticket: int | None = None
        self.of: str | None = None
        self._expected_bytes = expected_bytes

    @property
    def waits_for(self) -> str:
        """What is waited for, for the log and for errors."""
        return f"{self.number} gradients in accumulator {self.name}; see whether all workers are there"

    def attempt(self, shared: ObjectConnection) -> tuple[Array, ...] | None:
        """Takes the gradient; None if there are not enough."""
        event = {"do": "take", "number": self.number, "ticket": self.ticket, "of": self.of}
        taken = shared.take(event, expected_bytes=self._expected_bytes)
        return None if taken is None else tuple(taken)

    def question(self) -> Json:
        """What the accumulator answers when there are enough."""
        return {"ask": "enough", "number": self.number, "of": self.of}


def _setting_step(_: Any, step: Array) -> tuple[Json, tuple[Array, ...]]:
    return {"do": "set_step", "step": _step(step, "new_global_step")}, ()


def _by(worker: Any) -> Json:
    return {"by": worker} if isinstance(worker, str) else {}


def _step(value: Array, what: str) -> int:
    if value.ndim:
        raise InvalidArgumentError(f"Argument {what} must be scalar, but had bad shape {list(value.shape)}")
    return int(value)
