"""What all layers are: a variable scope, variables made when the first inputs come, and a function of the inputs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np

from ps_protocol.weak_table import WeakTable
from worker_client.graph.blocks import name_scope
from worker_client.graph.default_graph import get_default_graph
from worker_client.graph.definition import Constraint, Regularizer
from worker_client.graph.keys import GraphKeys
from worker_client.graph.operation import Operation, Tensor
from worker_client.op_definitions.static_values import constant_value
from worker_client.ops.array_ops import cast
from worker_client.ops.collections import get_collection, get_collection_ref
from worker_client.ops.constant_ops import convert_to_tensor
from worker_client.ops.constant_ops import shape as shape_tensor
from worker_client.ops.initializer_tensors import zeros_initializer
from worker_client.ops.math_ops import divide
from worker_client.scopes.variable_scope import get_variable, variable_scope
from worker_client.values.dtypes import DType, as_dtype, float32
from worker_client.values.made_functions import with_body
from worker_client.values.shapes import TensorShape

Activation: TypeAlias = Callable[[Any], Any]
ZEROS: Final = zeros_initializer()
_Function = TypeVar("_Function", bound=Callable[..., Any])
_NAMES: Final[WeakTable[Any, Counter[str]]] = WeakTable()


class Layer:
    """A function of tensors with variables of its own, made when it is called first and used again after that.

    A subclass makes variables in ``build``, with ``add_weight``, and computes in ``call``. A layer belongs to the graph
    in which it is called first. Not thread-safe.

    Args:
        trainable: Whether its trainable variables are in ``TRAINABLE_VARIABLES``.
        name: Of the variable scope; the class's name in snake case, numbered, if not given.
        dtype: Of the variables; that of the inputs if not given.
        activity_regularizer: Makes a loss of the outputs, which is divided by the size of the batch.
        **kwargs: ``_scope`` and ``_reuse``: the variable scope, and whether its variables must exist, as in
            ``variable_scope``.

    Attributes:
        name: Its name, unique among the layers of the graph if it was not given.
        trainable: As given.
        built: Whether it has its variables.
        updates: What its calls have put into ``UPDATE_OPS``.
        losses: What its variables and calls have put into ``REGULARIZATION_LOSSES``.
        activity_regularizer: As given.
    """

    def __init__(
        self,
        trainable: bool = True,
        name: str | None = None,
        dtype: Any = None,
        activity_regularizer: Regularizer | None = None,
        **kwargs: Any,
    ):
        scope, reuse = kwargs.pop("_scope", None), kwargs.pop("_reuse", None)
        if kwargs:
            raise TypeError(f"{type(self).__name__} has no argument {next(iter(kwargs))!r}")
        self._base_name = name or _snake_case(type(self).__name__)
        self.name = name or _numbered(self._base_name)
        self.trainable = trainable
        self.built = False
        self.updates: list[Any] = []
        self.losses: list[Any] = []
        self.activity_regularizer = activity_regularizer
        self._dtype = None if dtype is None else DType(as_dtype(dtype))
        self._reuse = reuse
        self._weights: list[tuple[Any, bool]] = []
        self._scope: Any = None
        self._current: Any = None
        if scope:
            with variable_scope(scope) as self._scope:
                pass

    # -- for subclasses -------------------------------------------------------------------------------

    def build(self, input_shape: Any) -> None:
        """Makes the variables for inputs of a shape. Called once."""
        del input_shape
        self.built = True

    def call(self, inputs: Any, **kwargs: Any) -> Any:
        """Computes the outputs."""
        del kwargs
        return inputs

    def add_weight(
        self,
        name: str,
        shape: Any = None,
        dtype: Any = None,
        initializer: Any = None,
        regularizer: Regularizer | None = None,
        trainable: bool | None = None,
        constraint: Constraint | None = None,
        partitioner: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Makes a variable in the layer's scope, or finds it there where it is reused.

        Args:
            name: In the scope.
            shape: Its shape.
            dtype: Its dtype; that of the layer if not given.
            initializer: What gives it its first value; that of the scope if not given.
            regularizer: Makes a loss of it, which is collected in ``REGULARIZATION_LOSSES`` when it is made.
            trainable: Whether it is trained, if the layer is.
            constraint: As ``get_variable``'s.
            partitioner: As ``get_variable``'s.
            **kwargs: What else ``get_variable`` takes.

        Raises:
            ValueError: It exists and is not to be reused, or the other way round, or has another shape.
        """
        self._set_scope(None)
        is_trained = trainable is not False and self.trainable
        losses = get_collection(GraphKeys.REGULARIZATION_LOSSES)
        with (
            variable_scope(self._scope, reuse=self.built or self._reuse, auxiliary_name_scope=False) as scope,
            name_scope(scope.original_name_scope),
        ):
            variable = get_variable(
                name,
                shape=shape,
                dtype=self.dtype if dtype is None else dtype,
                initializer=initializer,
                regularizer=regularizer,
                trainable=is_trained,
                constraint=constraint,
                partitioner=partitioner,
                **kwargs,
            )
        self.losses += get_collection(GraphKeys.REGULARIZATION_LOSSES)[len(losses) :]
        self._weights.append((variable, is_trained))
        return variable

    add_variable = add_weight

    def add_update(self, updates: Any, inputs: Any = None) -> None:
        """Collects updates that belong to a training step in ``UPDATE_OPS``, if the layer is trained."""
        del inputs
        for each in updates if isinstance(updates, list | tuple) else [updates]:
            update = each.op if isinstance(each, Tensor) else each
            if isinstance(update, Operation) and self.trainable:
                self.updates.append(update)
                _collect(GraphKeys.UPDATE_OPS, update)

    def add_loss(self, losses: Any, inputs: Any = None) -> None:
        """Collects losses in ``REGULARIZATION_LOSSES``."""
        del inputs
        for each in losses if isinstance(losses, list | tuple) else [losses]:
            self.losses.append(each)
            _collect(GraphKeys.REGULARIZATION_LOSSES, each)

    def compute_output_shape(self, input_shape: Any) -> TensorShape:
        """Returns the shape of the outputs for inputs of a shape.

        Raises:
            NotImplementedError: The layer does not say.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say which shape its outputs have for {input_shape}")

    # -- for callers ----------------------------------------------------------------------------------

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        self._set_scope(kwargs.pop("scope", None))
        with variable_scope(
            self._scope, reuse=True if self.built else self._reuse, auxiliary_name_scope=False
        ) as scope:
            self._current = scope
            with name_scope(scope.original_name_scope):
                inputs = [convert_to_tensor(each) for each in inputs] if _is_list(inputs) else convert_to_tensor(inputs)
                if not self.built:
                    first = inputs[0] if _is_list(inputs) else inputs
                    if self._dtype is None and as_dtype(first.dtype).kind not in "biu":
                        self._dtype = DType(as_dtype(first.dtype))
                    self.build([TensorShape(e.shape) for e in inputs] if _is_list(inputs) else TensorShape(first.shape))
                    self.built = True
                outputs = self.call(inputs, *args, **kwargs)
                if self.activity_regularizer is not None:
                    self._regularize(outputs)
        return outputs

    apply = __call__

    @property
    def dtype(self) -> DType:
        """The dtype of its variables: as given, or that of its first inputs; float32 before those."""
        return float32 if self._dtype is None else self._dtype

    @property
    def scope_name(self) -> str:
        """The name of its variable scope.

        Raises:
            ValueError: It was not called yet.
        """
        if self._scope is None:
            raise ValueError(f"layer {self.name} has no scope yet; it gets one when it is called first")
        name: str = self._scope.name
        return name

    @property
    def weights(self) -> list[Any]:
        """Its variables, those that are trained first."""
        return self.trainable_weights + self.non_trainable_weights

    @property
    def trainable_weights(self) -> list[Any]:
        """Its variables that are trained."""
        return [variable for variable, is_trained in self._weights if is_trained]

    @property
    def non_trainable_weights(self) -> list[Any]:
        """Its other variables."""
        return [variable for variable, is_trained in self._weights if not is_trained]

    variables = weights
    trainable_variables = trainable_weights
    non_trainable_variables = non_trainable_weights

    def count_params(self) -> int:
        """Returns how many numbers its variables hold.

        Raises:
            ValueError: It was not called yet.
        """
        if not self.built:
            raise ValueError(f"layer {self.name} has no variables yet; it gets them when it is called first")
        return sum(TensorShape(each.shape).num_elements() or 0 for each in self.weights)

    # -- inside ---------------------------------------------------------------------------------------

    def _set_scope(self, scope: Any) -> None:
        if self._scope is not None:
            return
        if self._reuse:
            with variable_scope(self._base_name if scope is None else scope) as self._scope:
                pass
        else:
            with variable_scope(scope, default_name=self._base_name) as self._scope:
                pass

    def _regularize(self, outputs: Any) -> None:
        with name_scope("ActivityRegularizer"):
            for each in outputs if _is_list(outputs) else [outputs]:
                loss = self.activity_regularizer(each) if self.activity_regularizer else None
                if loss is not None:
                    self.add_loss(divide(loss, cast(shape_tensor(each)[0], loss.dtype)))

    def format_of(self, data_format: Any) -> str:
        """Returns where the channels are; ValueError if that is no word for it."""
        return one_of_words(data_format, ["channels_last", "channels_first"], f"layer {self.name}: data_format")

    def check_rank(self, inputs: Any, ndims: int, *, or_more: bool = False) -> TensorShape:
        """Returns the shape of inputs; ValueError if it has another number of dimensions."""
        shape = TensorShape(inputs if isinstance(inputs, TensorShape) else inputs.shape)
        if shape.ndims is None or shape.ndims < ndims or (shape.ndims > ndims and not or_more):
            wanted = f"{ndims} dimensions{' or more' if or_more else ''}"
            raise ValueError(f"layer {self.name} takes inputs with {wanted}, not of the shape {shape}")
        return shape


def function_of(layer: type[Layer]) -> Callable[[_Function], _Function]:
    """Makes the function that stands for a layer: makes the layer of its arguments, and returns its outputs.

    Its parameters are those of the layer, and ``inputs``; ``reuse`` is that of the variable scope, and ``training`` is
    given to the call.
    """

    def outputs(given: dict[str, Any]) -> Any:
        of_call = {name: given.pop(name) for name in ("inputs", "training") if name in given}
        of_scope = {"_scope": given["name"], "_reuse": given.pop("reuse")} if "reuse" in given else {}
        return layer(**given, **of_scope)(**of_call)

    return with_body(outputs)


def known_size(layer: Layer, shape: TensorShape, axis: int) -> int:
    """Returns a size that the variables of a layer depend on; ValueError if it is not known."""
    size = shape.size(axis)
    if size is None:
        raise ValueError(
            f"layer {layer.name}: dimension {axis} of the inputs {shape} should be known, as its variables"
        )
    return size


def truth(training: Any) -> bool | None:
    """Returns whether it is training; None if only the run says."""
    if isinstance(training, Tensor):
        value = constant_value(training)
        return None if value is None else bool(value)
    return bool(training)


def pair(value: Any, what: str, number: int = 2) -> tuple[int, ...]:
    """Returns one integer for each inner dimension.

    Raises:
        ValueError: There are others, or one is below 1.
    """
    given = (value,) * number if isinstance(value, int | np.integer) else tuple(value)
    if len(given) != number or any(not isinstance(each, int | np.integer) or each < 1 for each in given):
        raise ValueError(f"{what} should be {number} integers above 0, or one, not {value!r}")
    return tuple(int(each) for each in given)


def one_of_words(value: Any, words: Sequence[str], what: str) -> str:
    """Returns a word in small letters; ValueError if it is none of some."""
    word = str(value).lower()
    if word not in words:
        raise ValueError(f"{what} should be one of {', '.join(words)}, not {value!r}")
    return word


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _collect(key: str, value: Any) -> None:
    collection = get_collection_ref(key)
    if all(each is not value for each in collection):
        collection.append(value)


def _snake_case(name: str) -> str:
    parts = re.sub("(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", parts).lower()


def _numbered(name: str) -> str:
    """Returns a name that no other layer of the default graph has."""
    names = _NAMES.setdefault(get_default_graph(), Counter())
    names[name] += 1
    return name if names[name] == 1 else f"{name}_{names[name] - 1}"
