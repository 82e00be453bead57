"""Functions that make their variables on the first call and share them on all others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from worker_client.graph.default_graph import get_default_graph
from worker_client.graph.keys import GraphKeys
from worker_client.scopes.arguments import Getter, ScopeDefaults
from worker_client.scopes.pure_scope import ScopeByName, ScopeStores
from worker_client.scopes.scope import VariableScope
from worker_client.scopes.variable_scope import variable_scope
from worker_client.values.dtypes import float32

_LOG = logging.getLogger(__name__)


def make_template(
    name_: str,
    func_: Callable[..., Any],
    create_scope_now_: bool = False,
    unique_name_: str | None = None,
    custom_getter_: Getter | None = None,
    **kwargs: Any,
) -> Template:
    """Wraps a function so that all calls share the variables that it gets with ``get_variable``.

    Args:
        name_: Name of the variable scope that it is called in, made unique.
        func_: The function. The trainable variables that it makes must come from ``get_variable``.
        create_scope_now_: Whether the scope is fixed now, by where the template is made, or by the first call.
        unique_name_: Name of the scope that is not made unique, so that two templates of one name share variables if
            their functions reuse them.
        custom_getter_: Custom getter of the scope.
        **kwargs: Arguments of every call.

    Raises:
        ValueError: There is no name.
    """
    return Template(
        name_,
        partial(func_, **kwargs) if kwargs else func_,
        create_scope_now=create_scope_now_,
        unique_name=unique_name_,
        custom_getter=custom_getter_,
    )


class Template:
    """A function together with the variable scope that it is called in. Made by ``make_template``.

    Not thread-safe until the first call has returned.

    Args:
        name: Name of the scope, made unique.
        func: The function.
        create_scope_now: Whether to fix the scope now.
        unique_name: Name of the scope, taken as it is.
        custom_getter: Custom getter of the scope.
    """

    def __init__(
        self,
        name: str,
        func: Callable[..., Any],
        *,
        create_scope_now: bool = False,
        unique_name: str | None = None,
        custom_getter: Getter | None = None,
    ):
        if not name:
            raise ValueError("a template needs a name")
        self._name = name
        self._func = func
        self._unique_name = unique_name
        self._custom_getter = custom_getter
        self._scope: VariableScope | None = self._scope_here() if create_scope_now else None
        self._has_variables = False

    def _scope_here(self) -> VariableScope:
        """Enters and leaves the scope at once, without a name scope."""
        store = get_default_graph().slot(ScopeStores).here
        name = self._unique_name or store.counters.unique(store.current.name, self._name)
        defaults = ScopeDefaults(custom_getter=self._custom_getter, dtype=float32)  # as TensorFlow, not the scope's
        way = ScopeByName(name, name, None, None, defaults)
        scope = way.enter(store)
        way.leave(store)
        return scope

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function in the template's scope.

        Raises:
            ValueError: A call after the first has made a trainable variable.
            Exception: Whatever the function raises, with a note that names the template.
        """
        if self._scope is not None:
            scope = variable_scope(self._scope, reuse=self._has_variables)
        else:
            scope = variable_scope(self._unique_name, self._name, custom_getter=self._custom_getter)
        with scope as entered:
            if self._scope is None:
                self._scope = entered
            try:
                return self._call(args, kwargs)
            except Exception as error:
                error.add_note(f"in a call of template {self._name!r}, whose variable scope is {entered.name!r}")
                raise

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        graph = get_default_graph()
        trainable_before = len(graph.get_collection_ref(GraphKeys.TRAINABLE_VARIABLES))
        global_before = len(graph.get_collection_ref(GraphKeys.GLOBAL_VARIABLES))
        result = self._func(*args, **kwargs)
        if self._has_variables:
            added = graph.get_collection_ref(GraphKeys.TRAINABLE_VARIABLES)[trainable_before:]
            if added:
                raise ValueError(
                    f"template {self._name!r} made trainable variables after its first call: "
                    f"{', '.join(variable.name for variable in added)}; get them with get_variable(), not Variable()"
                )
            if len(graph.get_collection_ref(GraphKeys.GLOBAL_VARIABLES)) != global_before:
                _LOG.info(
                    "template %r made variables after its first call; not trainable, as counters may be", self._name
                )
        self._has_variables = True
        return result

    @property
    def name(self) -> str:
        """The name given to the template."""
        return self._name

    @property
    def func(self) -> Callable[..., Any]:
        """The function."""
        return self._func

    @property
    def variable_scope(self) -> VariableScope | None:
        """The scope of the variables; None before the first call, unless it was fixed at once."""
        return self._scope

    @property
    def var_scope(self) -> VariableScope | None:
        """Older name of ``variable_scope``."""
        return self._scope

    @property
    def variable_scope_name(self) -> str | None:
        """Prefix of the variables' names, with a slash at its end; None before there is a scope."""
        if self._scope is None:
            return None
        return f"{self._scope.name}/" if self._scope.name else ""

    @property
    def variables(self) -> list[Any]:
        """The global and the local variables."""
        return self.global_variables + self.local_variables

    @property
    def global_variables(self) -> list[Any]:
        return self._scope.global_variables() if self._scope else []

    @property
    def local_variables(self) -> list[Any]:
        return self._scope.local_variables() if self._scope else []

    @property
    def trainable_variables(self) -> list[Any]:
        return self._scope.trainable_variables() if self._scope else []

    @property
    def non_trainable_variables(self) -> list[Any]:
        """The global variables that are not trainable, and the local ones."""
        trainable = {id(each) for each in self.trainable_variables}
        return [each for each in self.variables if id(each) not in trainable]

    weights = variables
    trainable_weights = trainable_variables
    non_trainable_weights = non_trainable_variables
