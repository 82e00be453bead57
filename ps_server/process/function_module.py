"""The module of functions that a team has written, which a ps imports at its start."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from ps_server.rules.average_functions import AVERAGE_FUNCTIONS
from ps_server.rules.built_in_functions import BUILT_IN_FUNCTIONS
from ps_server.rules.functions import Functions
from ps_server.rules.optimizer_functions import OPTIMIZER_FUNCTIONS
from ps_server.rules.reductions import REDUCTIONS
from ps_server.rules.team_functions import reduction, variable_function

_NAMES: Final = ("FUNCTIONS", "REDUCTIONS")
_BUILT_IN: Final = {**OPTIMIZER_FUNCTIONS, **AVERAGE_FUNCTIONS}


class FunctionModuleError(Exception):
    """A module is none that a ps can take functions from; the message names it and says what to do."""


def known_functions(module_name: str) -> Functions:
    """Returns the functions that a ps knows: the built-in ones, and those of a module.

    Args:
        module_name: As given to ``--functions``; empty for none.

    Raises:
        FunctionModuleError: The module cannot be imported, or what it has is not of the right kind.
    """
    if not module_name:
        return BUILT_IN_FUNCTIONS
    module = _imported(module_name)
    if not any(hasattr(module, name) for name in _NAMES):
        raise FunctionModuleError(
            f"the --functions module {module_name} has neither FUNCTIONS nor REDUCTIONS; give it a dictionary of "
            f"functions by their names"
        )
    functions = _table(module, "FUNCTIONS", _BUILT_IN)
    reductions = _table(module, "REDUCTIONS", REDUCTIONS)
    return Functions(
        {**_BUILT_IN, **{name: variable_function(name, each) for name, each in functions.items()}},
        {**REDUCTIONS, **{name: reduction(name, each) for name, each in reductions.items()}},
    )


def _imported(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # last: nothing here must replace what the ps itself imports
    try:
        return importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            remedy = f"; give it without .py, as {name.removesuffix('.py')}" if name.endswith(".py") else ""
            raise FunctionModuleError(
                f"the --functions module {name} cannot be imported: no {error.name} is installed or lies in {here}"
                f"{remedy}"
            ) from None
        raise FunctionModuleError(
            f"the --functions module {name} cannot be imported: {type(error).__name__}: {error}; it should be "
            f"installed or lie in {here}"
        ) from error


def _table(module: ModuleType, name: str, built_in: Mapping[str, object]) -> Mapping[str, Callable[..., Any]]:
    table = getattr(module, name, {})
    if not isinstance(table, Mapping) or not all(isinstance(each, str) and each for each in table):
        raise FunctionModuleError(
            f"{name} of the --functions module {module.__name__} is {table!r}; it should be a dictionary of functions "
            f"by their names"
        )
    for key, function in table.items():
        if not callable(function):
            raise FunctionModuleError(
                f"{name}[{key!r}] of the --functions module {module.__name__} is {function!r}, which is no function"
            )
        if key in built_in:
            raise FunctionModuleError(
                f"{name}[{key!r}] of the --functions module {module.__name__} has the name of a function that every ps "
                f"has; give it another name"
            )
    return table
