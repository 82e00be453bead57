"""Makes variables: names and places them, hands their definitions to the graph's factory, collects the results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy.typing as npt

from ps_protocol.errors import ShapeMismatchError, ShardscopeError
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import PartitionSlice
from worker_client.deferred.variable import DeferredVariable
from worker_client.graph.default_graph import graph_to_build_in
from worker_client.graph.definition import (
    Constraint,
    Regularizer,
    VariableAggregation,
    VariableDefinition,
    VariableSynchronization,
)
from worker_client.graph.graph import Graph, VariableCreator
from worker_client.graph.keys import GraphKeys
from worker_client.graph.naming import check_variable_name
from worker_client.graph.operation import Operation, OutputSpec, Tensor
from worker_client.scopes.initial_value import (
    BoundInitializer,
    InitialValue,
    described_in_graph,
    in_graph,
    initial_value,
)
from worker_client.values.dtypes import DType, as_dtype, string
from worker_client.values.shapes import ShapeLike, TensorShape
from worker_client.values.text import STORED

_VARIABLE_OP = "VariableV2"
_IGNORED_KEYWORDS = frozenset({"variable_def", "expected_shape", "import_scope", "use_resource"})

_Mode = TypeVar("_Mode", VariableSynchronization, VariableAggregation)


@dataclass(frozen=True, slots=True)
class Origin:
    """What ``get_variable`` knows about a variable and ``Variable`` does not.

    Attributes:
        key: Full name under which it will be found again.
        slice: Place in the whole, of a part.
        regularizer: Makes its loss.
    """

    key: str | None = None
    slice: PartitionSlice | None = None
    regularizer: Regularizer | None = None


def new_variable(
    initial_value: Any = None,
    trainable: bool | None = None,
    collections: Iterable[str] | None = None,
    validate_shape: bool = True,
    caching_device: Any = None,
    name: str | None = None,
    variable_def: Any = None,
    dtype: npt.DTypeLike | None = None,
    expected_shape: ShapeLike = None,
    import_scope: str | None = None,
    constraint: Constraint | None = None,
    use_resource: bool | None = None,
    synchronization: VariableSynchronization = VariableSynchronization.AUTO,
    aggregation: VariableAggregation = VariableAggregation.NONE,
    shape: ShapeLike = None,
) -> Any:
    """Makes a variable of the default graph that is named by the name scope and not found by ``get_variable``.

    Args:
        initial_value: Its first value, from which follow its dtype and shape, or a function without arguments that
            returns that.
        trainable: Whether optimizers are meant to update it; they are unless ``synchronization`` is ``ON_READ``.
        collections: The collections it goes into, instead of ``GraphKeys.GLOBAL_VARIABLES``.
        validate_shape: Whether all values must have the shape of the first. If not, nothing is known of the shape of a
            deferred variable, and the initial value may have any.
        caching_device: Where a local copy is kept, if one is asked for.
        name: Name within the name scope, made unique; "Variable" if not given.
        variable_def: Not supported; there is no protocol buffer of a variable here.
        dtype: Converts the initial value.
        expected_shape: Ignored, as in TensorFlow.
        import_scope: Ignored, as it belongs to ``variable_def``.
        constraint: Applied to the value after an optimizer has updated it.
        use_resource: Ignored; all variables here are TensorFlow's "resource" kind.
        synchronization: See ``VariableSynchronization``.
        aggregation: See ``VariableAggregation``.
        shape: What is known of the shape of its values; must agree with the initial value's. By default that one.

    Returns:
        What the graph's factory makes: a ``Variable``.

    Raises:
        ValueError: An argument or the name is not valid, or the initial value is missing.
        TypeError: The initial value is not of the dtype's kind of elements.
    """
    if variable_def is not None:
        raise ValueError("variable_def is not supported; give initial_value")
    return create_variable(
        graph_to_build_in(),
        Origin(),
        initial_value=initial_value,
        trainable=trainable,
        collections=collections,
        validate_shape=validate_shape,
        caching_device=caching_device,
        name=name,
        variable_def=variable_def,
        dtype=dtype,
        expected_shape=expected_shape,
        import_scope=import_scope,
        constraint=constraint,
        use_resource=use_resource,
        synchronization=synchronization,
        aggregation=aggregation,
        shape=shape,
    )


def create_variable(graph: Graph, origin: Origin, **keywords: Any) -> Any:
    """Makes a variable through the creators of the open ``variable_creator_scope`` statements.

    Args:
        graph: Where it belongs.
        origin: What creators do not see.
        **keywords: The arguments of ``new_variable``.
    """
    creator: VariableCreator = partial(_create, graph, origin)
    for outer in graph.variable_creators:
        creator = partial(outer, creator)
    return creator(**keywords)


def checked_mode(mode: Any, kind: type[_Mode], name: str | None) -> _Mode:
    """Returns a synchronization or aggregation, also if given as its number; ValueError if it is none."""
    if isinstance(mode, kind):
        return mode
    try:
        return kind(mode)
    except ValueError as error:
        raise_interrupt(error)
        allowed = ", ".join(member.name for member in kind)
        raise ValueError(f"variable {name}: {mode!r} is no {kind.__name__}; use one of {allowed}") from None


def _create(
    graph: Graph,
    origin: Origin,
    *,
    initial_value: Any = None,
    trainable: bool | None = None,
    collections: Iterable[str] | None = None,
    validate_shape: bool = True,
    caching_device: Any = None,
    name: str | None = None,
    dtype: npt.DTypeLike | None = None,
    constraint: Constraint | None = None,
    synchronization: VariableSynchronization = VariableSynchronization.AUTO,
    aggregation: VariableAggregation = VariableAggregation.NONE,
    shape: ShapeLike = None,
    **ignored: Any,
) -> Any:
    """Makes a variable itself; the last of the creators.

    The order is TensorFlow's, and its failures use up what they do there: a name is used once it has been found valid,
    a placement strategy is asked once there is an initial value, even if that turns out to have the wrong shape. What
    the cluster refuses or does not answer can be tried again under the same name.
    """
    unknown = ignored.keys() - _IGNORED_KEYWORDS
    if unknown:
        raise TypeError(f"variable {name}: a variable creator passed unknown keywords: {', '.join(sorted(unknown))}")
    synchronization = checked_mode(synchronization, VariableSynchronization, name)
    aggregation = checked_mode(aggregation, VariableAggregation, name)
    if trainable is None:
        trainable = synchronization is not VariableSynchronization.ON_READ
    keys = _collection_keys(collections, trainable, name)
    if initial_value is None:
        raise ValueError(f"variable {name or 'Variable'} needs an initial value: initial_value must be specified")
    if constraint is not None and not callable(constraint):
        raise ValueError(f"the constraint of variable {name} should be a function, not {constraint!r}")
    if name and isinstance(name, str):
        check_variable_name(name, graph.get_name_scope())
    with (
        graph.control_dependencies(None),  # whatever is open: it can be initialised and read without waiting for that
        graph.places_of_a_variable(),
        graph.name_scope("Variable" if name is None else name) as name_scope,
    ):
        initial = _initial_value(graph, initial_value, name_scope, dtype)
        wanted = TensorShape(shape)
        static_shape = wanted if shape is not None else initial.shape if validate_shape else TensorShape(None)
        op = graph.create_op(
            _VARIABLE_OP,
            outputs=[OutputSpec(initial.dtype, static_shape)],
            name=name_scope,
            attributes={
                "container": graph.container_name.encode(),
                "shared_name": b"",
                "dtype": DType(initial.dtype),
                "shape": static_shape,
            },
        )
        if graph.deferred and callable(initial_value):
            _keep_together(op, initial.tensor, f"{name_scope}Initializer/")
        definition = VariableDefinition(
            name=op.name,
            key=origin.key,
            dtype=STORED if graph.deferred and initial.dtype == string.dtype else initial.dtype,
            shape=_full_shape(op.name, initial.shape, wanted, validate_shape=validate_shape),
            static_shape=static_shape,
            initializer=initial.initializer,
            initial_value=initial.tensor,
            trainable=trainable,
            collections=keys,
            device=op.device,
            slice=origin.slice,
            constraint=constraint,
            regularizer=origin.regularizer,
            caching_device=caching_device,
            validate_shape=validate_shape,
            synchronization=synchronization,
            aggregation=aggregation,
            name_scope=name_scope,
            op=op,
            graph=graph,
        )
        try:
            variable = (graph.variable_factory or DeferredVariable)(definition)
        except ShardscopeError:  # as when a ps does not answer: TensorFlow has no such failure here
            graph.withdraw_op(op)
            raise
        if not graph.deferred:
            op.device = variable.device  # where the cluster has put it, for others to be colocated with
    graph.add_to_collections(keys, variable)
    return variable


def _initial_value(graph: Graph, given: Any, name_scope: str, dtype: npt.DTypeLike | None) -> InitialValue:
    name = name_scope.rstrip("/") or _VARIABLE_OP
    wanted = None if dtype is None else as_dtype(dtype)
    if not callable(given):
        return in_graph(graph, initial_value(given, name, wanted), "initial_value")
    if isinstance(given, BoundInitializer) and given.is_described and not graph.deferred:
        return initial_value(given, name, wanted)
    # No device scope counts for what an initializer makes: it stays with the variable, which is yet to be placed.
    with graph.name_scope("Initializer"), graph.device(None):
        if not isinstance(given, BoundInitializer) or not given.is_described:
            return in_graph(graph, initial_value(given, name, wanted), "initial_value")
        initial = in_graph(graph, initial_value(given, name, wanted), given.initializer.op_name)
        return described_in_graph(graph, initial, given, name) if initial.tensor is None else initial


def _keep_together(variable: Operation, initial_value: Tensor | None, scope: str) -> None:
    """Says of a variable, and of what its initializer has made in a scope, that they stay together."""
    variable.stay_with(variable.name)
    seen: set[Operation] = set()
    found = [initial_value.op] if initial_value is not None else []
    while found:
        operation = found.pop()
        if operation.name.startswith(scope) and operation not in seen:
            seen.add(operation)
            operation.stay_with(variable.name)
            found.extend(each.op for each in operation.operands)


def _collection_keys(collections: Iterable[str] | None, trainable: bool, name: str | None) -> tuple[str, ...]:
    if collections is None:
        collections = (GraphKeys.GLOBAL_VARIABLES,)
    if not isinstance(collections, list | tuple | set):
        raise ValueError(f"the collections of variable {name} should be a list of keys, not {collections!r}")  # noqa: TRY004
    keys = dict.fromkeys(collections)
    if trainable:
        keys.setdefault(GraphKeys.TRAINABLE_VARIABLES)
    return tuple(keys)


def _full_shape(name: str, shape: TensorShape, wanted: TensorShape, *, validate_shape: bool) -> tuple[int, ...]:
    if validate_shape and not shape.is_fully_defined():
        raise ValueError(f"the initial value of variable {name} has the shape {shape}; all sizes must be known")
    if not shape.is_compatible_with(wanted):
        raise ShapeMismatchError(
            f"variable {name}: its initial value has shape {shape}, expected is {wanted}", variable=name
        )
    known = shape.merge_with(wanted)  # where it is not known before there is a value, it is declared as empty
    return tuple(size or 0 for size in known.as_list()) if known.ndims is not None else ()
