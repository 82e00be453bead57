"""The object that a ``variable_scope`` statement gives: a prefix for names, whether to reuse, and defaults."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Any

import numpy.typing as npt

from worker_client.graph.default_graph import get_default_graph
from worker_client.graph.definition import (
    Constraint,
    Regularizer,
    VariableAggregation,
    VariableSynchronization,
)
from worker_client.graph.keys import GraphKeys
from worker_client.scopes.arguments import (
    NO_DEFAULTS,
    Getter,
    InitializerLike,
    Reuse,
    ScopeDefaults,
    VariableArguments,
)
from worker_client.scopes.creation import checked_mode
from worker_client.scopes.initial_value import check_initializer_dtype
from worker_client.scopes.variable_table import VariableTable
from worker_client.values.dtypes import DType, as_dtype, float32
from worker_client.values.shapes import ShapeLike
from worker_client.variables.partitioners import Partitioner


def _read_only(path: str) -> Any:
    return property(attrgetter(path))


class VariableScope:
    """A place in the tree of variable names, with the defaults of the variables made there.

    ``variable_scope`` makes one on every entry and gives it to the ``as`` clause; keep it to enter the same scope
    again from elsewhere. The setters change what later variables and inner scopes get. Not thread-safe while changed.

    Args:
        reuse: Whether variables are reused (True), created (False) or either (``AUTO_REUSE`` or None).
        name: Prefix of the names; "" at the root.
        initializer: Default initializer.
        regularizer: Default regularizer.
        caching_device: Default caching device.
        partitioner: Default partitioner.
        custom_getter: Called in place of the getter of variables, with that as its first argument.
        name_scope: The name scope that was opened with it.
        dtype: Default dtype.
        use_resource: Kept for code that asks; all variables here are TensorFlow's "resource" kind.
        constraint: Default constraint, which inner scopes do not inherit.
    """

    __slots__ = ("_constraint", "_defaults", "_name", "_name_scope", "_reuse")

    def __init__(
        self,
        reuse: Reuse,
        name: str = "",
        initializer: InitializerLike = None,
        regularizer: Regularizer | None = None,
        caching_device: Any = None,
        partitioner: Partitioner | None = None,
        custom_getter: Getter | None = None,
        name_scope: str = "",
        dtype: npt.DTypeLike = float32,
        use_resource: bool | None = None,
        constraint: Constraint | None = None,
    ):
        self._name = name
        self._name_scope = name_scope
        self._reuse: Reuse = reuse
        self._constraint = constraint
        self._defaults = ScopeDefaults(
            initializer, regularizer, caching_device, partitioner, custom_getter, DType(as_dtype(dtype)), use_resource
        )

    def prolonged(
        self, name: str, name_scope: str, reuse: Reuse, constraint: Constraint | None, defaults: ScopeDefaults
    ) -> VariableScope:
        """Returns a scope of another name with these defaults, and where they say nothing with this scope's."""
        scope = VariableScope.__new__(VariableScope)
        scope._name = name
        scope._name_scope = name_scope
        scope._reuse = reuse
        scope._constraint = constraint
        scope._defaults = self._defaults if defaults is NO_DEFAULTS else defaults.inside(self._defaults)
        return scope

    @property
    def name(self) -> str:
        """Prefix of the names of variables, without a slash at its end."""
        return self._name

    @property
    def original_name_scope(self) -> str:
        """The name scope opened when this scope was first entered by name, with a slash at its end."""
        return self._name_scope

    reuse: Reuse = _read_only("_reuse")
    initializer: InitializerLike = _read_only("_defaults.initializer")
    regularizer: Regularizer | None = _read_only("_defaults.regularizer")
    caching_device: Any = _read_only("_defaults.caching_device")
    partitioner: Partitioner | None = _read_only("_defaults.partitioner")
    custom_getter: Getter | None = _read_only("_defaults.custom_getter")
    dtype: DType = _read_only("_defaults.dtype")
    use_resource: bool | None = _read_only("_defaults.use_resource")
    constraint: Constraint | None = _read_only("_constraint")

    def reuse_variables(self) -> None:
        """Makes this scope reuse variables from now on."""
        self._reuse = True

    def set_initializer(self, initializer: InitializerLike) -> None:
        """Sets the default initializer."""
        self._defaults = self._defaults._replace(initializer=initializer)

    def set_regularizer(self, regularizer: Regularizer | None) -> None:
        """Sets the default regularizer."""
        self._defaults = self._defaults._replace(regularizer=regularizer)

    def set_caching_device(self, caching_device: Any) -> None:
        """Sets the default caching device."""
        self._defaults = self._defaults._replace(caching_device=caching_device)

    def set_partitioner(self, partitioner: Partitioner | None) -> None:
        """Sets the default partitioner."""
        self._defaults = self._defaults._replace(partitioner=partitioner)

    def set_custom_getter(self, custom_getter: Getter | None) -> None:
        """Sets the getter that variables are made through."""
        self._defaults = self._defaults._replace(custom_getter=custom_getter)

    def set_dtype(self, dtype: npt.DTypeLike) -> None:
        """Sets the default dtype."""
        self._defaults = self._defaults._replace(dtype=DType(as_dtype(dtype)))

    def set_use_resource(self, use_resource: bool | None) -> None:
        """Sets what ``use_resource`` tells."""
        self._defaults = self._defaults._replace(use_resource=use_resource)

    def get_collection(self, name: str) -> list[Any]:
        """Returns the members of a collection of the default graph whose names begin with this scope's.

        As in TensorFlow 1 the scope's name is a regular expression: a dot in it stands for any character.
        """
        return get_default_graph().get_collection(name, f"{self._name}/" if self._name else None)

    def global_variables(self) -> list[Any]:
        """Returns the global variables of this scope."""
        return self.get_collection(GraphKeys.GLOBAL_VARIABLES)

    def trainable_variables(self) -> list[Any]:
        """Returns the trainable variables of this scope."""
        return self.get_collection(GraphKeys.TRAINABLE_VARIABLES)

    def local_variables(self) -> list[Any]:
        """Returns the local variables of this scope."""
        return self.get_collection(GraphKeys.LOCAL_VARIABLES)

    def get_variable(
        self,
        var_store: VariableTable,
        name: str,
        shape: ShapeLike = None,
        dtype: npt.DTypeLike | None = None,
        initializer: InitializerLike = None,
        regularizer: Regularizer | None = None,
        reuse: Reuse = None,
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
        """Gets or creates a variable of this scope, with this scope's defaults where nothing else is given.

        See ``worker_client.scopes.variable_scope.get_variable``; ``var_store`` is the graph's table of variables.
        """
        full_name = f"{self._name}/{name}" if self._name else name
        defaults = self._defaults
        with var_store.graph.name_scope(None):
            if dtype is not None:
                dtype = DType(as_dtype(dtype))
                if initializer is not None and not callable(initializer):
                    check_initializer_dtype(full_name, initializer, dtype.dtype, var_store.graph)
            synchronization = checked_mode(synchronization, VariableSynchronization, full_name)
            arguments = VariableArguments(
                full_name,
                shape,
                defaults.dtype if dtype is None else dtype,
                defaults.initializer if initializer is None else initializer,
                defaults.regularizer if regularizer is None else regularizer,
                self._reuse if reuse is None else reuse,
                synchronization is not VariableSynchronization.ON_READ if trainable is None else trainable,
                collections,
                defaults.caching_device if caching_device is None else caching_device,
                defaults.partitioner if partitioner is None else partitioner,
                validate_shape,
                defaults.use_resource if use_resource is None else use_resource,
                self._constraint if constraint is None else constraint,
                synchronization,
                checked_mode(aggregation, VariableAggregation, full_name),
            )
            return var_store.get(arguments, defaults.custom_getter if custom_getter is None else custom_getter)

    def __repr__(self) -> str:
        return f"<VariableScope {self._name!r} reuse={self._reuse}>"
