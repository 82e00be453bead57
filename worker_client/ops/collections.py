"""The functions on the collections of the default graph."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from worker_client.graph.default_graph import get_default_graph, graph_to_build_in
from worker_client.graph.keys import GraphKeys

__all__ = [
    "add_to_collection",
    "add_to_collections",
    "get_collection",
    "get_collection_ref",
    "global_variables",
    "local_variables",
    "model_variables",
    "moving_average_variables",
    "trainable_variables",
]


def add_to_collection(name: Hashable, value: Any) -> None:
    """Adds a value to a collection of the default graph."""
    get_default_graph().add_to_collection(name, value)


def add_to_collections(names: str | Iterable[Hashable], value: Any) -> None:
    """Adds a value to several collections of the default graph, to each of them once."""
    get_default_graph().add_to_collections(names, value)


def get_collection(key: Hashable, scope: str | None = None) -> list[Any]:
    """Returns a new list of the members of a collection of the default graph.

    Args:
        key: The collection, such as ``GraphKeys.GLOBAL_VARIABLES``.
        scope: A regular expression; only members whose name it matches, from the start, are returned.
    """
    return get_default_graph().get_collection(key, scope)


def get_collection_ref(key: Hashable) -> list[Any]:
    """Returns the list of a collection of the default graph itself; what is done to it is done to the collection."""
    return get_default_graph().get_collection_ref(key)


def global_variables(scope: str | None = None) -> list[Any]:
    """Returns the variables that the cluster shares; ``scope`` as in ``get_collection``."""
    return _variables(GraphKeys.GLOBAL_VARIABLES, scope)


def local_variables(scope: str | None = None) -> list[Any]:
    """Returns the variables that belong to this worker; ``scope`` as in ``get_collection``."""
    return _variables(GraphKeys.LOCAL_VARIABLES, scope)


def trainable_variables(scope: str | None = None) -> list[Any]:
    """Returns the variables that optimizers are meant to update; ``scope`` as in ``get_collection``."""
    return _variables(GraphKeys.TRAINABLE_VARIABLES, scope)


def model_variables(scope: str | None = None) -> list[Any]:
    """Returns the variables of ``GraphKeys.MODEL_VARIABLES``; ``scope`` as in ``get_collection``."""
    return _variables(GraphKeys.MODEL_VARIABLES, scope)


def moving_average_variables(scope: str | None = None) -> list[Any]:
    """Returns the variables of which moving averages are kept; ``scope`` as in ``get_collection``."""
    return _variables(GraphKeys.MOVING_AVERAGE_VARIABLES, scope)


def _variables(key: Hashable, scope: str | None) -> list[Any]:
    """Returns the members of a collection of variables; FailedPreconditionError where none can be made."""
    return graph_to_build_in().get_collection(key, scope)
