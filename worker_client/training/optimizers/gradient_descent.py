"""Steps against the gradient, plain and with a pull towards zero."""

from __future__ import annotations

from typing import Any

from worker_client.ops.array_ops import cast
from worker_client.ops.math_ops import multiply
from worker_client.training.optimizers.rule_optimizer import RuleOptimizer, tensors
from worker_client.values.conversion import IndexedSlices


class GradientDescentOptimizer(RuleOptimizer):
    """``variable -= learning_rate * gradient``.

    Args:
        learning_rate: A number, a tensor, or a function that returns one.
        use_locking: Only noted; every step is atomic.
        name: Of the operations.
    """

    rule = "gradient_descent"
    tensor_names = tensors("learning_rate")

    def __init__(self, learning_rate: Any, use_locking: bool = False, name: str = "GradientDescent"):
        super().__init__({"learning_rate": learning_rate}, use_locking, name)

    def _apply_sparse_duplicate_indices(self, grad: IndexedSlices, var: Any) -> Any:
        delta = multiply(grad.values, cast(self._tensors["learning_rate"], var.dtype), name="mul")
        return var.scatter_sub(IndexedSlices(delta, grad.indices, grad.dense_shape))


class ProximalGradientDescentOptimizer(RuleOptimizer):
    """Gradient descent with L1 and L2 regularization by proximal steps (Duchi and Singer, FOBOS).

    Args:
        learning_rate: A number, a tensor, or a function that returns one.
        l1_regularization_strength: 0 or greater.
        l2_regularization_strength: 0 or greater.
        use_locking: Only noted; every step is atomic.
        name: Of the operations.
    """

    rule = "proximal_gradient_descent"
    tensor_names = tensors("learning_rate", "l1_regularization_strength", "l2_regularization_strength")

    def __init__(
        self,
        learning_rate: Any,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        use_locking: bool = False,
        name: str = "ProximalGradientDescent",
    ):
        settings = {
            "learning_rate": learning_rate,
            "l1_regularization_strength": l1_regularization_strength,
            "l2_regularization_strength": l2_regularization_strength,
        }
        super().__init__(settings, use_locking, name)
