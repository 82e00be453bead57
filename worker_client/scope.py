"""The object that a ``variable_scope`` statement gives: a prefix for names, whether to reuse, and defaults."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy.typing as npt

from worker_client.default_graph import get_default_graph
from worker_client.dtypes import DType, as_dtype, float32
from worker_client.graph_keys import GraphKeys
from worker_client.initial_value import check_initializer_dtype
from worker_client.scope_arguments import Getter, Initializer, Partitioner, Reuse
from worker_client.tensor_shape import ShapeLike
from worker_client.variable_definition import (
    Constraint,
    Regularizer,
    VariableAggregation,
    VariableSynchronization,
)
from worker_client.variable_table import VariableTable


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

    __slots__ = (
        "_caching_device",
        "_constraint",
        "_custom_getter",
        "_dtype",
        "_initializer",
        "_name",
        "_name_scope",
        "_partitioner",
        "_regularizer",
        "_reuse",
        "_use_resource",
    )

    def __init__(
        self,
        reuse: Reuse,
        name: str = "",
        initializer: Initializer = None,
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
        self._initializer = initializer
        self._regularizer = regularizer
        self._reuse: Reuse = reuse
        self._caching_device = caching_device
        self._partitioner = partitioner
        self._custom_getter = custom_getter
        self._name_scope = name_scope
        self._dtype = DType(as_dtype(dtype))
        self._use_resource = use_resource
        self._constraint = constraint

    def prolonged(self, name: str, name_scope: str, reuse: Reuse, constraint: Constraint | None) -> VariableScope:
        """Returns a scope of another name with the same defaults, of which the constraint is none."""
        scope = VariableScope.__new__(VariableScope)
        scope._name = name
        scope._initializer = self._initializer
        scope._regularizer = self._regularizer
        scope._reuse = reuse
        scope._caching_device = self._caching_device
        scope._partitioner = self._partitioner
        scope._custom_getter = self._custom_getter
        scope._name_scope = name_scope
        scope._dtype = self._dtype
        scope._use_resource = self._use_resource
        scope._constraint = constraint
        return scope

    @property
    def name(self) -> str:
        """Prefix of the names of variables, without a slash at its end."""
        return self._name

    @property
    def original_name_scope(self) -> str:
        """The name scope opened when this scope was first entered by name, with a slash at its end."""
        return self._name_scope

    @property
    def reuse(self) -> Reuse:
        return self._reuse

    @property
    def initializer(self) -> Initializer:
        return self._initializer

    @property
    def regularizer(self) -> Regularizer | None:
        return self._regularizer

    @property
    def caching_device(self) -> Any:
        return self._caching_device

    @property
    def partitioner(self) -> Partitioner | None:
        return self._partitioner

    @property
    def custom_getter(self) -> Getter | None:
        return self._custom_getter

    @property
    def dtype(self) -> DType:
        return self._dtype

    @property
    def use_resource(self) -> bool | None:
        return self._use_resource

    @property
    def constraint(self) -> Constraint | None:
        return self._constraint

    def reuse_variables(self) -> None:
        """Makes this scope reuse variables from now on."""
        self._reuse = True

    def set_initializer(self, initializer: Initializer) -> None:
        """Sets the default initializer."""
        self._initializer = initializer

    def set_regularizer(self, regularizer: Regularizer | None) -> None:
        """Sets the default regularizer."""
        self._regularizer = regularizer

    def set_caching_device(self, caching_device: Any) -> None:
        """Sets the default caching device."""
        self._caching_device = caching_device

    def set_partitioner(self, partitioner: Partitioner | None) -> None:
        """Sets the default partitioner."""
        self._partitioner = partitioner

    def set_custom_getter(self, custom_getter: Getter | None) -> None:
        """Sets the getter that variables are made through."""
        self._custom_getter = custom_getter

    def set_dtype(self, dtype: npt.DTypeLike) -> None:
        """Sets the default dtype."""
        self._dtype = DType(as_dtype(dtype))

    def set_use_resource(self, use_resource: bool | None) -> None:
        """Sets what ``use_resource`` tells."""
        self._use_resource = use_resource

    def get_collection(self, name: str) -> list[Any]:
        """Returns the members of a collection of the default graph whose names begin with this scope's."""
        return get_default_graph().get_collection(name, re.escape(f"{self._name}/") if self._name else None)

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
        initializer: Initializer = None,
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

        See ``worker_client.variable_scope.get_variable``; ``var_store`` is the graph's table of variables.
        """
        full_name = f"{self._name}/{name}" if self._name else name
        with var_store.graph.name_scope(None):
            if dtype is not None:
                dtype = DType(as_dtype(dtype))
                if initializer is not None and not callable(initializer):
                    check_initializer_dtype(full_name, initializer, dtype.dtype, var_store.graph)
            return var_store.get_variable(
                full_name,
                shape=shape,
                dtype=self._dtype if dtype is None else dtype,
                initializer=self._initializer if initializer is None else initializer,
                regularizer=self._regularizer if regularizer is None else regularizer,
                reuse=self._reuse if reuse is None else reuse,
                trainable=trainable,
                collections=collections,
                caching_device=self._caching_device if caching_device is None else caching_device,
                partitioner=self._partitioner if partitioner is None else partitioner,
                validate_shape=validate_shape,
                use_resource=self._use_resource if use_resource is None else use_resource,
                custom_getter=self._custom_getter if custom_getter is None else custom_getter,
                constraint=self._constraint if constraint is None else constraint,
                synchronization=synchronization,
                aggregation=aggregation,
            )

    def __repr__(self) -> str:
        return f"<VariableScope {self._name!r} reuse={self._reuse}>"
