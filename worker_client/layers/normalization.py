"""The layer that normalises batches, and keeps moving averages of their means and variances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from worker_client.graph.blocks import colocate_with, name_scope
from worker_client.graph.definition import Constraint, Regularizer
from worker_client.graph.operation import Tensor
from worker_client.layers.base import ZEROS, Layer, function_of, known_size, truth
from worker_client.ops.array_ops import cast, reshape
from worker_client.ops.constant_ops import constant, convert_to_tensor
from worker_client.ops.initializer_tensors import ones_initializer
from worker_client.ops.math_ops import multiply, subtract
from worker_client.ops.nn.normalization import batch_norm_of_either, fused_batch_norm
from worker_client.ops.nn_ops import batch_normalization as normalized
from worker_client.ops.selection_ops import where_v2
from worker_client.ops.state_ops import assign_sub
from worker_client.ops.statistics_ops import moments
from worker_client.values.dtypes import as_dtype, float32
from worker_client.values.shapes import TensorShape

_ONES: Final = ones_initializer()
_FUSED: Final = {(4, 1): "NCHW", (4, 3): "NHWC"}


class BatchNormalization(Layer):
    """In training inputs with mean 0 and variance 1 over the batch; else by the moving averages of those in training.

    The updates of the moving averages go into the collection ``UPDATE_OPS``: run them with each training step.

    Args:
        axis: The dimension of the channels, or a list of several: what is not averaged over.
        momentum: Of the moving averages: what part of the old value stays.
        epsilon: Added to variances.
        center: Whether ``beta`` is added.
        scale: Whether the result is multiplied by ``gamma`` before.
        beta_initializer: Of ``beta``.
        gamma_initializer: Of ``gamma``.
        moving_mean_initializer: Of ``moving_mean``.
        moving_variance_initializer: Of ``moving_variance``.
        beta_regularizer: Makes a loss of ``beta``.
        gamma_regularizer: Makes a loss of ``gamma``.
        beta_constraint: As ``get_variable``'s constraint.
        gamma_constraint: Likewise.
        renorm: Must be False.
        renorm_clipping: Must be None.
        renorm_momentum: Ignored.
        fused: Whether one operation does all; by default it does for images.
        trainable: As ``Layer``'s.
        virtual_batch_size: Must be None.
        adjustment: Must be None.
        name: As ``Layer``'s.
        **kwargs: As ``Layer``'s.

    Raises:
        NotImplementedError: Something is asked for that must not be.
    """

    gamma: Any = None
    beta: Any = None
    moving_mean: Any = None
    moving_variance: Any = None

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = ZEROS,
        gamma_initializer: Any = _ONES,
        moving_mean_initializer: Any = ZEROS,
        moving_variance_initializer: Any = _ONES,
        beta_regularizer: Regularizer | None = None,
        gamma_regularizer: Regularizer | None = None,
        beta_constraint: Constraint | None = None,
        gamma_constraint: Constraint | None = None,
        renorm: bool = False,
        renorm_clipping: Any = None,
        renorm_momentum: float = 0.99,
        fused: bool | None = None,
        trainable: bool = True,
        virtual_batch_size: int | None = None,
        adjustment: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(trainable=trainable, name=name, **kwargs)
        del renorm_momentum
        if renorm or renorm_clipping or virtual_batch_size is not None or adjustment is not None:
            raise NotImplementedError(
                f"layer {self.name}: there are no renorm, virtual_batch_size and adjustment here; leave them out"
            )
        self.axis = axis
        self.momentum = momentum
        self.epsilon = epsilon
        self.fused = fused
        self._gamma = (gamma_initializer, gamma_regularizer, gamma_constraint) if scale else None
        self._beta = (beta_initializer, beta_regularizer, beta_constraint) if center else None
        self._moving = (moving_mean_initializer, moving_variance_initializer)
        self._axes: list[int] = []
        self._layout: str | None = None

    def build(self, input_shape: Any) -> None:
        shape = self.check_rank(TensorShape(input_shape), 1, or_more=True)
        ndims = len(shape)
        axes = [self.axis] if isinstance(self.axis, int | np.integer) else list(self.axis)
        if any(not -ndims <= axis < ndims for axis in axes) or len({axis % ndims for axis in axes}) < len(axes):
            raise ValueError(f"layer {self.name}: axis {self.axis} is none of the inputs {shape}, or is there twice")
        self._axes = [axis % ndims for axis in axes]
        is_double = as_dtype(self.dtype) == np.float64
        layout = _FUSED.get((ndims, self._axes[0])) if len(axes) == 1 and not is_double else None
        if self.fused and layout is None:
            raise ValueError(f"layer {self.name}: fused needs images with axis=1 or 3, not {shape} with {self.axis}")
        self._layout = None if self.fused is False else layout
        sizes = {axis: known_size(self, shape, axis) for axis in self._axes}
        own = list(sizes.values()) if len(sizes) == 1 else [sizes.get(axis, 1) for axis in range(ndims)]
        self.gamma = self._weight("gamma", own, self._gamma)
        self.beta = self._weight("beta", own, self._beta)
        dtype = self._dtype_of_weights
        self.moving_mean, self.moving_variance = (
            self.add_weight(f"moving_{what}", own, dtype, initializer, trainable=False, partitioner=None)
            for what, initializer in zip(("mean", "variance"), self._moving, strict=True)
        )
        self.built = True

    @property
    def _dtype_of_weights(self) -> Any:
        return float32 if as_dtype(self.dtype).itemsize < 4 else self.dtype

    def _weight(self, name: str, shape: list[int], given: tuple[Any, Any, Any] | None) -> Any:
        if given is None:
            return None
        initializer, regularizer, constraint = given
        return self.add_weight(
            name, shape, self._dtype_of_weights, initializer, regularizer=regularizer, constraint=constraint
        )

    def call(self, inputs: Any, training: Any = False, **kwargs: Any) -> Any:
        """Returns the normalised inputs; ``training`` may be a tensor."""
        del kwargs
        is_training = truth(training)
        flag = convert_to_tensor(training) if is_training is None else None
        if self._layout is not None:
            return self._fused_call(inputs, is_training, flag)
        return self._unfused_call(inputs, is_training, flag)

    def _fused_call(self, inputs: Any, is_training: bool | None, flag: Any) -> Any:
        layout = self._layout or "NHWC"
        size = TensorShape(self.moving_mean.shape).as_list()
        gamma = constant(1.0, shape=size) if self.gamma is None else self.gamma
        beta = constant(0.0, shape=size) if self.beta is None else self.beta
        operands = (inputs, gamma, beta, self.moving_mean, self.moving_variance)
        if is_training is None:
            with name_scope("cond"):
                made = batch_norm_of_either(*operands, flag, epsilon=self.epsilon, data_format=layout, name="Merge")
            with name_scope("cond_1"):
                momentum = where_v2(flag, constant(self.momentum), constant(1.0), name="Merge")
        else:
            made = fused_batch_norm(*operands, self.epsilon, layout, is_training)
            momentum = constant(self.momentum) if is_training else None
        if momentum is not None:
            for variable, value in zip((self.moving_mean, self.moving_variance), made[1:], strict=True):
                with name_scope("AssignMovingAvg") as scope, colocate_with(variable):
                    decay = subtract(1.0, momentum, name="sub")
                    self._move(variable, value, decay, scope)
        return made[0]

    def _unfused_call(self, inputs: Any, is_training: bool | None, flag: Any) -> Any:
        ndims = len(TensorShape(inputs.shape))
        half = inputs.dtype if as_dtype(inputs.dtype).itemsize < 4 else None
        operand = inputs if half is None else cast(inputs, float32)
        mean, variance = self.moving_mean, self.moving_variance
        if is_training is not False:
            others = [axis for axis in range(ndims) if axis not in self._axes]
            mean, variance = moments(operand, others, keep_dims=len(self._axes) > 1)
            if is_training is None:
                with name_scope("cond"):
                    mean = where_v2(flag, mean, self.moving_mean, name="Merge")
                with name_scope("cond_1"):
                    variance = where_v2(flag, variance, self.moving_variance, name="Merge")
            for variable, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
                with name_scope("AssignMovingAvg") as scope, colocate_with(variable):
                    decay = convert_to_tensor(1.0 - self.momentum, name="decay", dtype=variable.dtype)
                    if is_training is None:
                        decay = where_v2(flag, decay, constant(0, dtype=variable.dtype))
                    self._move(variable, value, decay, scope)
        offset, factor = (None if each is None else self._broadcast(each, ndims) for each in (self.beta, self.gamma))
        outputs = normalized(
            operand, self._broadcast(mean, ndims), self._broadcast(variance, ndims), offset, factor, self.epsilon
        )
        outputs = outputs if half is None else cast(outputs, half)
        if isinstance(outputs, Tensor):
            outputs.set_shape(inputs.shape)
        return outputs

    def _move(self, variable: Any, value: Any, decay: Any, name: str) -> None:
        distance = subtract(variable, cast(value, variable.dtype))
        self.add_update(assign_sub(variable, multiply(distance, decay), name=name))

    def _broadcast(self, values: Any, ndims: int) -> Any:
        """Returns one number for each channel in a shape that fits the inputs."""
        if len(self._axes) > 1 or self._axes == [ndims - 1]:
            return values
        return reshape(values, [-1 if axis in self._axes else 1 for axis in range(ndims)])


@function_of(BatchNormalization)
def batch_normalization(
    inputs: Any,
    axis: int | Sequence[int] = -1,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
    center: bool = True,
    scale: bool = True,
    beta_initializer: Any = ZEROS,
    gamma_initializer: Any = _ONES,
    moving_mean_initializer: Any = ZEROS,
    moving_variance_initializer: Any = _ONES,
    beta_regularizer: Regularizer | None = None,
    gamma_regularizer: Regularizer | None = None,
    beta_constraint: Constraint | None = None,
    gamma_constraint: Constraint | None = None,
    training: Any = False,
    trainable: bool = True,
    name: str | None = None,
    reuse: Any = None,
    renorm: bool = False,
    renorm_clipping: Any = None,
    renorm_momentum: float = 0.99,
    fused: bool | None = None,
    virtual_batch_size: int | None = None,
    adjustment: Any = None,
) -> Any:
    """Returns the outputs of a ``BatchNormalization`` layer; ``reuse`` as in ``variable_scope``."""
