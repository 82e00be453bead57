"""``tf.Variable``: what makes variables, and the type that they are of."""

from __future__ import annotations

import inspect
from typing import Any

from worker_client.graph_variable import GraphVariable
from worker_client.variable import Variable as EagerVariable
from worker_client.variable_creation import new_variable


class _VariableType(type):
    """The type of ``Variable``, of which all variables are instances whoever made them."""

    def __instancecheck__(cls, instance: object) -> bool:
        if cls is Variable:
            return isinstance(instance, GraphVariable | EagerVariable)
        return super().__instancecheck__(instance)


class Variable(GraphVariable, metaclass=_VariableType):
    """Called, makes a variable, see ``variable_creation.new_variable``; every variable is an instance of it."""

    __signature__ = inspect.signature(new_variable)

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Returns what the default graph makes of a variable, which no scope and no creator can know beforehand."""
        return new_variable(*args, **kwargs)
