"""Operations that compute gradients, by the rule of the function that the operation before computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ps_protocol.operations import Array
from worker_client.deferred.building import QuietFunction
from worker_client.deferred.call import CallForSeveral, DeferredCall
from worker_client.derivatives.calls import gradient_of, rule_of
from worker_client.derivatives.registry import Derivative, Selecting, Traced
from worker_client.derivatives.table import BY_TYPE, find
from worker_client.graph.computation import Kernel
from worker_client.graph.operation import Operation, OutputSpec, Tensor


def derivative_of(operation: Operation) -> Derivative | None:
    """Returns how an operation is differentiated; None if there is no rule for it."""
    computation = operation.computation
    if not isinstance(computation, Kernel):
        return find(computation, operation.type)  # type: ignore[arg-type] # which nobody registers
    function: Any = computation.function
    if isinstance(function, QuietFunction | DeferredCall | CallForSeveral):
        function = function.function
    return find(function, operation.type)


class GradientFunction:
    """Computes the gradient by one input of an operation.

    It is given the values of the operation's inputs, of its outputs, and of the gradients of those outputs that have
    one.

    Args:
        operation: The operation.
        derivative: How it is differentiated.
        place: Which of its operands.
        has_gradient: For each output whether it has a gradient.
    """

    __slots__ = ("_argnum", "_arguments", "_has_gradient", "_number", "_rule")

    def __init__(self, operation: Operation, derivative: Derivative, place: int, has_gradient: Sequence[bool]):
        function, arguments, argnum = _called(operation, place)
        if argnum is None:  # it is one of a list: let each operand be an argument
            function, derivative = _flat(function, arguments), _flat_derivative(derivative, arguments)
            arguments, argnum = _as_they_are, place
        self._rule = rule_of(derivative, function)
        self._arguments = arguments
        self._argnum = argnum
        self._number = len(operation.operands)
        self._has_gradient = tuple(has_gradient)

    def __call__(self, *values: Array) -> Array:
        with np.errstate(all="ignore"):
            return self.quietly(*values)

    def quietly(self, *values: Array) -> Array:
        """What it does where NumPy gives no warnings already."""
        gradient: Array = self._gradient(*values)
        return gradient

    @property
    def derivative(self) -> Derivative:
        """That of the derivative."""
        return Traced(self._gradient)

    def _gradient(self, *values: Any) -> Any:
        number, several = self._number, len(self._has_gradient) > 1
        args, kwargs = self._arguments(values[:number])
        outputs = values[number : number + len(self._has_gradient)]
        given = iter(values[number + len(outputs) :])
        if not several:
            return gradient_of(self._rule, self._argnum, outputs[0], args, kwargs, next(given))
        gs = tuple(
            next(given) if has_gradient else np.zeros(output.shape, output.dtype)
            for has_gradient, output in zip(self._has_gradient, outputs, strict=True)
        )
        return gradient_of(self._rule, self._argnum, outputs, args, kwargs, gs)


def gradient_op(
    operation: Operation, derivative: Derivative, place: int, gradients: Sequence[Tensor | None], name: str
) -> Tensor:
    """Adds an operation that computes the gradient by one operand.

    Args:
        operation: What is differentiated.
        derivative: How.
        place: Which operand.
        gradients: Of each output of the operation; None for those without.
        name: Name within the name scope.
    """
    function = GradientFunction(operation, derivative, place, [each is not None for each in gradients])
    operand = operation.operands[place]
    inputs = [*operation.operands, *operation.outputs, *(each for each in gradients if each is not None)]
    output = OutputSpec(operand.dtype, operand.shape)
    graph = operation.graph
    gradient: Tensor = graph.create_op(
        f"{operation.type}Grad", inputs, [output], name=name, computation=Kernel(function)
    ).outputs[0]
    return gradient


_Arguments = Callable[[Sequence[Any]], tuple[Sequence[Any], Mapping[str, Any]]]


def _called(operation: Operation, place: int) -> tuple[Callable[..., Any], _Arguments, int | None]:
    """Returns what an operation calls, what makes the arguments of its inputs' values, and which argument one is."""
    computation = operation.computation
    function: Any = computation.function if isinstance(computation, Kernel) else computation
    if isinstance(function, DeferredCall | CallForSeveral):
        return function.function, function.arguments, function.places[place]
    if isinstance(function, QuietFunction):
        computed = function.function
        attributes = operation.attributes if operation.type in BY_TYPE else {}
        return lambda *values, **_: computed(*values), lambda values: (values, attributes), place
    return function, _as_they_are, place


def _as_they_are(values: Sequence[Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
    return values, {}


def _flat(function: Callable[..., Any], arguments: _Arguments) -> Callable[..., Any]:
    """Returns a function of the inputs' values alone."""

    def flat(*values: Any) -> Any:
        positional, named = arguments(values)
        return function(*positional, **named)

    return flat


def _flat_derivative(derivative: Derivative, arguments: _Arguments) -> Derivative:
    if isinstance(derivative, Traced):
        return Traced(_flat(derivative.twin, arguments))
    if isinstance(derivative, Selecting):
        return derivative
    raise NotImplementedError("a rule for single arguments does not fit a list of tensors")
