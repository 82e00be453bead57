"""Which variables ``get_variable`` has made, whole ones and parts, and when one is found again or created."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import numpy as np

from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import PartitionSlice
from worker_client.graph.graph import Graph
from worker_client.initializers.base import Initializer
from worker_client.initializers.standard import default_initializer
from worker_client.scopes.arguments import Getter, VariableArguments
from worker_client.scopes.creation import Origin, create_variable
from worker_client.scopes.initial_value import BoundInitializer
from worker_client.scopes.name_claims import NameClaims
from worker_client.scopes.regularization import add_regularization_loss
from worker_client.values.dtypes import DType, as_dtype, string
from worker_client.values.shapes import TensorShape
from worker_client.values.text import STORED, is_text, stored, text_array


class TableEntry(NamedTuple):
    """A variable that ``get_variable`` has made, what sharing it requires to be the same, and its loss, if any."""

    variable: Any
    shape: TensorShape
    dtype: np.dtype[Any]
    loss: Any = None


class WholeVariables:
    """The variables of one graph by full name, those among them that are parts of a partitioned one. Thread-safe.

    When several threads ask for a name that does not exist yet, one creates it while the others wait. No lock is held
    while initializers, getters or the factory run.

    Args:
        graph: The graph.

    Attributes:
        graph: The graph.
        claims: Names that a thread is making a variable for.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.claims = NameClaims()
        # Changed only by the thread that has claimed the name, and read without a lock: a dict's single operations are
        # atomic.
        self._entries: dict[str, TableEntry] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def find(self, name: str) -> Any:
        """Returns the variable of a name, None if there is none."""
        entry = self._entries.get(name)
        return None if entry is None else entry.variable

    def names(self) -> list[str]:
        """Returns the names of all, in the order in which they were made."""
        return list(self._entries)

    def forget(self, name: str) -> None:
        """Takes a variable back out of the table and of the collections; its operation and its name stay."""
        entry = self._entries.pop(name)
        self.graph.collections.remove(entry.variable)
        if entry.loss is not None:
            self.graph.collections.remove(entry.loss)

    def get(self, arguments: VariableArguments, place: PartitionSlice | None = None) -> Any:
        """Gets or creates a variable that is not partitioned; or one part of a variable that is, at its place there."""
        name, shape, initializer = arguments.name, TensorShape(arguments.shape), arguments.initializer
        if initializer is not None and not callable(initializer) and shape.ndims is not None:
            remedy = (
                f"{initializer!r} is a text, and no initializer such as zeros_initializer()"
                if isinstance(initializer, str)
                else "it has one of its own, leave out shape"
            )
            raise ValueError(f"variable {name}: if initializer is a constant, do not specify shape; {remedy}")
        entry = self._entries.get(name)
        if entry is None:
            if arguments.reuse is True:
                raise ValueError(
                    f"Variable {name} does not exist, or was not created with tf.get_variable(). Did you mean to set "
                    f"reuse=tf.AUTO_REUSE in VarScope? reuse=True asks for one that exists: create it first"
                )
            with self.claims.hold(name):
                entry = self._entries.get(name)
                if entry is None:
                    return self._create(arguments, shape, place)
        check_shared(arguments, shape, entry.shape, entry.dtype)
        return entry.variable

    def _create(self, arguments: VariableArguments, shape: TensorShape, place: PartitionSlice | None) -> Any:
        name, regularizer = arguments.name, arguments.regularizer
        initial_value, dtype = _initial_value(arguments, shape, place, self.graph)
        variable = create_variable(
            self.graph,
            Origin(key=name, slice=place, regularizer=regularizer),
            initial_value=initial_value,
            name=name,
            trainable=arguments.trainable,
            collections=arguments.collections,
            caching_device=arguments.caching_device,
            dtype=None if dtype is None else DType(dtype),
            validate_shape=arguments.validate_shape,
            constraint=arguments.constraint,
            synchronization=arguments.synchronization,
            aggregation=arguments.aggregation,
            shape=shape if shape.ndims is not None else None,
            variable_def=None,
            expected_shape=None,
            import_scope=None,
            use_resource=None,
        )
        entry = TableEntry(variable, TensorShape(variable.shape), as_dtype(variable.dtype))
        self._entries[name] = entry
        if regularizer is not None:
            loss = add_regularization_loss(self.graph, name, variable, regularizer)
            self._entries[name] = entry._replace(loss=loss)
        return variable


def check_shared(
    arguments: VariableArguments,
    shape: TensorShape,
    found_shape: TensorShape,
    found_dtype: np.dtype[Any],
    kind: str = "Variable",
) -> None:
    """Makes sure that a variable that exists is what is asked for; ValueError if it is not."""
    name, dtype = arguments.name, as_dtype(arguments.dtype)
    if arguments.reuse is False:
        raise ValueError(
            f"{kind} {name} already exists, disallowed. Did you mean to set reuse=True or reuse=tf.AUTO_REUSE in "
            f"VarScope? It is {found_dtype.name} {found_shape}; for it again, ask inside of variable_scope(..., "
            f"reuse=AUTO_REUSE); for another variable take another name"
        )
    if not shape.is_compatible_with(found_shape):
        raise ValueError(
            f"cannot share {kind.lower()} {name}: specified shape {shape} and found shape {found_shape}; give that "
            f"one, or leave it out"
        )
    if dtype != found_dtype:
        raise ValueError(
            f"cannot share {kind.lower()} {name}: specified dtype {dtype.name} and found dtype {found_dtype.name}; "
            f"give dtype={found_dtype.name}"
        )


def _initial_value(
    arguments: VariableArguments, shape: TensorShape, place: PartitionSlice | None, graph: Graph
) -> tuple[Any, np.dtype[Any] | None]:
    """Returns what ``Variable`` is given as initial value and as dtype."""
    name, initializer, dtype = arguments.name, arguments.initializer, as_dtype(arguments.dtype)
    if initializer is None:
        if shape.ndims is None:
            raise ValueError(f"variable {name} needs a shape, or an initializer that is a constant")
        initializer = default_initializer(dtype, name)
    if isinstance(initializer, type):
        initializer = initializer()
    if not callable(initializer):
        return initializer, None
    if shape.is_fully_defined():
        is_default = arguments.initializer is None
        if dtype == string.dtype and graph.deferred:  # of any length, which the ps learns with each value
            text = getattr(initializer, "value", b"") if isinstance(initializer, Initializer) else b""
            dtype = stored(text_array(text)).dtype if is_text(np.asarray(text).dtype) else STORED
        return BoundInitializer(initializer, dtype, shape.as_tuple(), place, is_default), dtype
    if _needs_no_arguments(initializer):
        return initializer, None
    raise ValueError(
        f"variable {name}: its initializer needs the whole shape, but shape {shape} is given; give all sizes, or an "
        f"initializer without arguments"
    )


def _needs_no_arguments(function: Getter) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:  # a function written in C that does not tell
        raise_interrupt(error)
        return False
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return not any(each.default is each.empty and each.kind not in variadic for each in parameters)
