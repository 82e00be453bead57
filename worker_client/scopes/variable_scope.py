"""Variable scopes: entering them, and getting variables in them.

The semantics are TensorFlow 1's. The traces in ``tests/conformance`` hold what TensorFlow does, and the page beside
them the points that are easily taken wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any

import numpy.typing as npt

from worker_client.graph.default_graph import get_default_graph, graph_of, graph_to_build_in
from worker_client.graph.defaults import Default, enter, leave
from worker_client.graph.definition import (
    Constraint,
    Regularizer,
    VariableAggregation,
    VariableSynchronization,
)
from worker_client.graph.keys import GraphKeys
from worker_client.graph.name_scopes import OpenNameScope
from worker_client.scopes.arguments import (
    AUTO_REUSE,
    NO_DEFAULTS,
    Getter,
    InitializerLike,
    Reuse,
    ReuseMode,
    ScopeDefaults,
    no_regularizer,
)
from worker_client.scopes.pure_scope import PureScope, ScopeByName, ScopeByObject, ScopeStores
from worker_client.scopes.scope import VariableScope
from worker_client.scopes.variable_table import VariableTable
from worker_client.values.shapes import ShapeLike
from worker_client.variables.partitioners import Partitioner

__all__ = [
    "AUTO_REUSE",
    "VariableScope",
    "get_local_variable",
    "get_variable",
    "get_variable_scope",
    "no_regularizer",
    "variable_op_scope",
    "variable_scope",
]


class variable_scope:  # noqa: N801 - TensorFlow's name, used like a function
    """Prefixes the names of variables made inside the block, and sets whether they are reused and their defaults.

    Gives the ``VariableScope``. It can be entered again, and then keeps the variable scope's name while its name scope
    is a new one.

    Args:
        name_or_scope: A name, which comes behind that of the current scope; or a scope that was entered before, whose
            name, reuse and defaults count instead of the current scope's.
        default_name: If ``name_or_scope`` is None: a name that is made unique.
        values: Tensors and variables, to whose graph the scope belongs.
        initializer: Default initializer.
        regularizer: Default regularizer.
        caching_device: Default caching device.
        partitioner: Default partitioner.
        custom_getter: Called in place of the getter of variables, as ``custom_getter(getter, name, ...)`` with keywords
            only; that of an inner scope is called first, and its ``getter`` is that of the outer one.
        reuse: True: variables must exist. None or False: as the current scope, at the root they must not.
            ``AUTO_REUSE``: either. Reuse is inherited and cannot be undone inside.
        dtype: Default dtype.
        use_resource: Kept for code that asks.
        constraint: Default constraint, not inherited by inner scopes.
        auxiliary_name_scope: Whether to open a name scope as well.

    Raises:
        TypeError: There is neither ``name_or_scope`` nor ``default_name``, or an argument has the wrong type.
        ValueError: ``reuse`` is none of the above, or is given without ``name_or_scope``; or on entering, if the name
            is not valid.
        RuntimeError: On leaving, if a scope that was entered inside is still the current one.
    """

    def __init__(
        self,
        name_or_scope: str | VariableScope | None,
        default_name: str | None = None,
        values: Iterable[Any] | None = None,
        initializer: InitializerLike = None,
        regularizer: Regularizer | None = None,
        caching_device: Any = None,
        partitioner: Partitioner | None = None,
        custom_getter: Getter | None = None,
        reuse: Reuse = None,
        dtype: npt.DTypeLike | None = None,
        use_resource: bool | None = None,
        constraint: Constraint | None = None,
        auxiliary_name_scope: bool = True,
    ):
        if name_or_scope is None and default_name is None:
            raise TypeError("a variable scope needs name_or_scope or default_name")
        if not (reuse is None or isinstance(reuse, bool | ReuseMode)):
            raise ValueError(f"reuse of a variable scope should be True, False, None or AUTO_REUSE, not {reuse!r}")
        if not isinstance(auxiliary_name_scope, bool):
            raise TypeError(f"auxiliary_name_scope should be True or False, not {auxiliary_name_scope!r}")
        self._name_or_scope = name_or_scope
        self._default_name = default_name
        self._reuse: Reuse = reuse or None
        self._constraint = constraint
        self._auxiliary_name_scope = auxiliary_name_scope
        defaults = ScopeDefaults(
            initializer, regularizer, caching_device, partitioner, custom_getter, dtype, use_resource
        )
        self._defaults = NO_DEFAULTS if defaults.are_none else defaults
        self._graph = graph_of(values) if values else get_default_graph()
        self._scopes = self._graph.slot(ScopeStores)
        self._way: tuple[str | None, PureScope] | None = None  # once it has been entered
        self._open: list[tuple[Default, OpenNameScope | None]] = []

    def __enter__(self) -> VariableScope:
        graph = self._graph
        entry = enter(graph)
        name_scope: OpenNameScope | None = None
        try:
            name, pure_scope = self._way or (self._name_scope(), None)
            full_name = ""
            if name is not None:
                opened = graph.name_scope(name)
                full_name = opened.__enter__()
                name_scope = opened
            if pure_scope is None:
                pure_scope = self._pure_scope(full_name)
            scope = pure_scope.enter(self._scopes.here)
        except BaseException:
            if name_scope is not None:
                name_scope.leave()
            leave(entry)
            raise
        self._way = name, pure_scope
        self._open.append((entry, name_scope))
        return scope

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._open or self._way is None:
            raise RuntimeError("a variable scope is left that is not open; leave it once for each time it is entered")
        self._way[1].leave(self._scopes.here)  # if refused, the scope is still open and can be left in its turn
        entry, name_scope = self._open.pop()
        if name_scope is not None:
            name_scope.leave()
        leave(entry)

    def _name_scope(self) -> str | None:
        """The name scope to open, None to open none."""
        if self._name_or_scope is None and self._reuse:
            raise ValueError(
                f"reuse={self._reuse} needs a name or a scope to reuse; default_name={self._default_name!r} is another "
                f"name each time"
            )
        if not self._auxiliary_name_scope:
            current = self._graph.get_name_scope()
            return f"{current}/" if current else ""
        name = self._name_or_scope
        if name is None:
            return self._default_name
        if isinstance(name, VariableScope):
            name = name.name.rpartition("/")[2]
        elif not isinstance(name, str):
            raise TypeError(f"name_or_scope should be a string or a VariableScope, not {name!r}")
        return name or None

    def _pure_scope(self, name_scope: str) -> PureScope:
        if isinstance(self._name_or_scope, VariableScope):
            return ScopeByObject(self._name_or_scope, self._reuse, self._constraint, self._defaults)
        name = self._name_or_scope
        if name is None:
            store = self._scopes.here
            name = store.counters.unique(store.current.name, self._default_name or "")
        return ScopeByName(name, name_scope, self._reuse, self._constraint, self._defaults)


def variable_op_scope(
    values: Iterable[Any] | None,
    name_or_scope: str | VariableScope | None,
    default_name: str | None = None,
    initializer: InitializerLike = None,
    regularizer: Regularizer | None = None,
    caching_device: Any = None,
    partitioner: Partitioner | None = None,
    custom_getter: Getter | None = None,
    reuse: Reuse = None,
    dtype: npt.DTypeLike | None = None,
    use_resource: bool | None = None,
    constraint: Constraint | None = None,
) -> variable_scope:
    """The older form of ``variable_scope``, with ``values`` first."""
    return variable_scope(
        name_or_scope,
        default_name=default_name,
        values=values,
        initializer=initializer,
        regularizer=regularizer,
        caching_device=caching_device,
        partitioner=partitioner,
        custom_getter=custom_getter,
        reuse=reuse,
        dtype=dtype,
        use_resource=use_resource,
        constraint=constraint,
    )


def get_variable_scope() -> VariableScope:
    """Returns the current variable scope."""
    return get_default_graph().slot(ScopeStores).here.current


def get_variable(
    name: str,
    shape: ShapeLike = None,
    dtype: npt.DTypeLike | None = None,
    initializer: InitializerLike = None,
    regularizer: Regularizer | None = None,
    trainable: bool | None = None,
    collections: Iterable[str] | None = None,
    caching_device: Any = None,
    partitioner: Partitioner | None = None,
    validate_shape: bool = True,
    use_resource: bool | None = None,
    custom_getter: Getter | None = None,
    constraint: Constraint | None = None,
    synchronization: VariableSynchronization = VariableSynchronization.AUTO,
    aggregation: VariableAggregation = VariableAggregation.NONE,
) -> Any:
    """Gets the variable of a name in the current scope, or creates it, as the scope's ``reuse`` says.

    Args:
        name: Name, put behind that of the current variable scope; name scopes do not count.
        shape: Shape; to be left out with an initializer that is a constant.
        dtype: Type of the elements; by default the scope's, which is float32, or the constant's.
        initializer: An initializer, a function of ``(shape, dtype=...)``, or a constant. By default the scope's, else
            Glorot's for floats and zeros for integers, booleans and strings.
        regularizer: Makes a loss of the variable, which goes into ``GraphKeys.REGULARIZATION_LOSSES``.
        trainable: Whether optimizers are meant to update it; they are by default.
        collections: The collections it goes into, instead of ``GraphKeys.GLOBAL_VARIABLES``.
        caching_device: Where a local copy is kept, if one is asked for.
        partitioner: Says into how many parts to cut the variable; the result is then a ``PartitionedVariable``.
        validate_shape: Whether values assigned later must have the shape.
        use_resource: Ignored; all variables here are TensorFlow's "resource" kind.
        custom_getter: Called in place of the getter of variables; replaces the scope's.
        constraint: Applied to the value after an optimizer has updated it.
        synchronization: See ``VariableSynchronization``.
        aggregation: See ``VariableAggregation``.

    Returns:
        What the graph's factory makes, a ``Variable``; or a ``PartitionedVariable``. A variable that is shared is the
        same object each time.

    Raises:
        ValueError: The variable exists and must not, or does not exist and must; it exists with another shape, dtype or
            partition; or an argument or the name is not valid.
        TypeError: The initial value is not of the dtype's kind of elements.
        FailedPreconditionError: There is no connection, and no graph that is built for a session.
    """
    graph = graph_to_build_in()
    return graph.slot(ScopeStores).here.current.get_variable(
        graph.slot(VariableTable),
        name,
        shape=shape,
        dtype=dtype,
        initializer=initializer,
        regularizer=regularizer,
        trainable=trainable,
        collections=collections,
        caching_device=caching_device,
        partitioner=partitioner,
        validate_shape=validate_shape,
        use_resource=use_resource,
        custom_getter=custom_getter,
        constraint=constraint,
        synchronization=synchronization,
        aggregation=aggregation,
    )


def get_local_variable(
    name: str,
    shape: ShapeLike = None,
    dtype: npt.DTypeLike | None = None,
    initializer: InitializerLike = None,
    regularizer: Regularizer | None = None,
    trainable: bool = False,  # noqa: ARG001 - part of TensorFlow's signature
    collections: Iterable[str] | None = None,
    caching_device: Any = None,
    partitioner: Partitioner | None = None,
    validate_shape: bool = True,
    use_resource: bool | None = None,
    custom_getter: Getter | None = None,
    constraint: Constraint | None = None,
    synchronization: VariableSynchronization = VariableSynchronization.AUTO,
    aggregation: VariableAggregation = VariableAggregation.NONE,
) -> Any:
    """Gets or creates a variable that belongs to this worker: in ``GraphKeys.LOCAL_VARIABLES`` and never trainable.

    The arguments and errors are those of ``get_variable``; the collection above is added to ``collections``, as in
    TensorFlow 1 to the caller's list itself if it is one and not empty.
    """
    if isinstance(collections, list) and collections:
        collections.append(GraphKeys.LOCAL_VARIABLES)
    else:
        collections = [*(collections or ()), GraphKeys.LOCAL_VARIABLES]
    return get_variable(
        name,
        shape=shape,
        dtype=dtype,
        initializer=initializer,
        regularizer=regularizer,
        trainable=False,
        collections=collections,
        caching_device=caching_device,
        partitioner=partitioner,
        validate_shape=validate_shape,
        use_resource=use_resource,
        custom_getter=custom_getter,
        constraint=constraint,
        synchronization=synchronization,
        aggregation=aggregation,
    )
