"""``tf.Variable`` and ``tf.PartitionedVariable``: what makes variables, and the types that they are of."""

from __future__ import annotations

import inspect
from abc import ABCMeta
from typing import Any, NoReturn

from worker_client.deferred.partitioned import PartitionedDeferredVariable, partitioned_variable
from worker_client.deferred.variable import DeferredVariable
from worker_client.scopes.creation import new_variable
from worker_client.values.left_out import getattr_of_member
from worker_client.variables import partitioned as parts
from worker_client.variables import variable


class _VariableType(ABCMeta):
    """The type of ``Variable``; counts all variables as its instances."""

    def __instancecheck__(cls, instance: object) -> bool:
        if cls is Variable:
            return isinstance(instance, DeferredVariable | variable.Variable)
        return super().__instancecheck__(instance)

    def __getattr__(cls, name: str) -> NoReturn:
        getattr_of_member(cls, name, "Variable")


class Variable(DeferredVariable, metaclass=_VariableType):
    """Called, makes a variable of the default graph; see ``worker_client.scopes.creation.new_variable``.

    Every variable is an instance of it, one of ``get_variable`` as well, and one of a connection's own graph.
    """

    __signature__ = inspect.signature(new_variable)

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Returns what the default graph's factory makes, whose type need not be this one."""
        return new_variable(*args, **kwargs)


class _PartitionedVariableType(ABCMeta):
    """The type of ``PartitionedVariable``; counts all partitioned variables as its instances."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, parts.PartitionedVariable)


class PartitionedVariable(PartitionedDeferredVariable, metaclass=_PartitionedVariableType):
    """Called, makes a partitioned variable of the kind of its parts; all partitioned variables are instances of it."""

    __signature__ = inspect.signature(partitioned_variable)

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Returns one whose type need not be this one."""
        return partitioned_variable(*args, **kwargs)
