"""Has variables begin with what a checkpoint holds: ``init_from_checkpoint`` and ``warm_start`` of TensorFlow 1."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ps_protocol.operations import PartitionSlice
from worker_client.deferred.building import constant_op
from worker_client.deferred.variable import DeferredVariable
from worker_client.graph.default_graph import get_default_graph
from worker_client.graph.keys import GraphKeys
from worker_client.scopes.variable_table import VariableTable
from worker_client.training.savers.formats import OpenCheckpoint, TensorFlowFormat
from worker_client.training.savers.newest_checkpoint import newest_of
from worker_client.training.savers.saved_variables import SavedVariable
from worker_client.training.savers.saver_graph import assigning, restored_tensors
from worker_client.training.savers.transfer import check_fits
from worker_client.values.text import text_array
from worker_client.variables.partitioned import PartitionedVariable

_LOG = logging.getLogger("tensorflow")
_FORMAT: Final = TensorFlowFormat()
_ROOT: Final = "/"


def init_from_checkpoint(
    ckpt_dir_or_file: str | os.PathLike[str], assignment_map: Mapping[str, Any] | Iterable[tuple[str, Any]]
) -> None:
    """Has variables of the default graph get their initial values from a checkpoint.

    It is read when initializers are run. Call it before ``global_variables_initializer()``.

    Args:
        ckpt_dir_or_file: The path of a checkpoint, or a directory with some, for the newest.
        assignment_map: What of the checkpoint goes where, as a mapping or pairs: a name there with a variable, the
            parts of one, or the name of one; "scope/" there with "other_scope/" for all variables of that scope; "/"
            there for the root.

    Raises:
        ValueError: A variable or a name in the checkpoint is missing, or their shapes differ. Nothing is changed then.
        InvalidArgumentError: Their dtypes differ.
        NotFoundError: There is no checkpoint.
    """
    path = newest_of(ckpt_dir_or_file)
    table = get_default_graph().slot(VariableTable)
    pairs = assignment_map.items() if isinstance(assignment_map, Mapping) else assignment_map
    with _FORMAT.open(path) as checkpoint:
        chosen: list[list[SavedVariable]] = []
        for key, target in sorted(pairs, key=lambda pair: pair[0]):
            variable = table.find(target) if isinstance(target, str) else target
            if variable is not None:
                chosen.append(_checked(checkpoint, key, variable, path))
            else:
                chosen += _of_scope(checkpoint, key, target, table, path)
    for parts in chosen:
        for part in parts:
            _initialize(part, path)


def warm_start(
    ckpt_to_initialize_from: str | os.PathLike[str],
    vars_to_warm_start: str | list[Any] | None = ".*",
    var_name_to_vocab_info: Mapping[str, Any] | None = None,
    var_name_to_prev_var_name: Mapping[str, str] | None = None,
) -> None:
    """Has variables of a model get their initial values from a checkpoint of an earlier one.

    Args:
        ckpt_to_initialize_from: The path of a checkpoint, or a directory with some, for the newest.
        vars_to_warm_start: Which: a regular expression for trainable variables, a list of those for global ones, a
            list of variables, or None for none.
        var_name_to_vocab_info: Must be empty: no vocabularies are read here.
        var_name_to_prev_var_name: The names in the checkpoint of variables that have others there.

    Raises:
        ValueError: A name is not used, or not in the checkpoint; or shapes differ.
        NotImplementedError: Vocabularies are given.
        NotFoundError: There is no checkpoint.
    """
    if var_name_to_vocab_info:
        raise NotImplementedError(
            "warm_start(var_name_to_vocab_info=...): no vocabularies are read here; give the rows a new order in "
            "Python, and load them with Variable.load"
        )
    _LOG.info("Warm-starting from: %s", ckpt_to_initialize_from)
    names = dict(var_name_to_prev_var_name or {})
    grouped = _grouped(vars_to_warm_start)
    unused = names.keys() - grouped.keys()
    if unused:
        raise ValueError(
            f"You provided the following variables in var_name_to_prev_var_name that were not used: {sorted(unused)}.  "
            f"Perhaps you misspelled them?  Here is the list of viable variable names: {sorted(grouped)}"
        )
    if not vars_to_warm_start:
        grouped.clear()
    init_from_checkpoint(ckpt_to_initialize_from, [(names.get(name, name), each) for name, each in grouped.items()])
    _LOG.info("Warm-started %d variables.", len(grouped))


def _grouped(chosen: str | list[Any] | None) -> dict[str, Any]:
    """Returns the variables to be warm-started by their names, those that are cut as lists of their parts."""
    graph = get_default_graph()
    if chosen is None or isinstance(chosen, str):
        variables = graph.get_collection(GraphKeys.TRAINABLE_VARIABLES, chosen)
    elif not isinstance(chosen, list):
        what = f"`vars_to_warm_start must be a `list` or `str`.  Given type is {type(chosen)}"
        raise ValueError(what)
    elif all(isinstance(each, str) for each in chosen):
        variables = [each for scope in chosen for each in graph.get_collection(GraphKeys.GLOBAL_VARIABLES, scope)]
    elif all(isinstance(each, DeferredVariable | PartitionedVariable) for each in chosen):
        variables = [part for each in chosen for part in (each if isinstance(each, PartitionedVariable) else [each])]
    else:
        raise ValueError(
            f"If `vars_to_warm_start` is a list, it must be all `Variable` or all `str`.  Given types are "
            f"{[type(each) for each in chosen]}"
        )
    grouped: dict[str, Any] = {}
    for each in dict.fromkeys(variables):
        if each.spec.slice is None:
            grouped[each.op.name] = each
        else:
            grouped.setdefault(each.spec.slice.full_name, []).append(each)
    return grouped


def _of_scope(
    checkpoint: OpenCheckpoint, key: str, target: Any, table: VariableTable, path: str
) -> list[list[SavedVariable]]:
    """Returns all variables of a scope with what a scope of the checkpoint has for them."""
    scope = target.rpartition("/")[0] if isinstance(target, str) else ""
    if not isinstance(target, str) or not key.endswith("/"):
        raise ValueError(
            f"there is no variable {target!r} for {key!r} of {path}. Assignment map with scope only name {scope} "
            f"should map to scope only {key}. Should be 'scope/': 'other_scope/'."
        )
    found = []
    for name in sorted(table.names()):
        if scope and not name.startswith(f"{scope}/"):
            continue
        inner = name.removeprefix(f"{scope}/") if scope else name
        found.append(_checked(checkpoint, inner if key == _ROOT else key + inner, table.find(name), path))
    return found


def _checked(checkpoint: OpenCheckpoint, key: str, variable: Any, path: str) -> list[SavedVariable]:
    """Returns a variable, or the parts of one, as what a name of the checkpoint initialises."""
    parts = list(variable) if isinstance(variable, list | tuple | PartitionedVariable) else [variable]
    places: list[PartitionSlice | None] = []
    for part in parts:
        if not isinstance(part, DeferredVariable):
            raise ValueError(f"what is to be initialised with {key!r} of {path} is {part!r}, which is no variable")  # noqa: TRY004 - as TensorFlow
        places.append(part.spec.slice if len(parts) > 1 or part is not variable else None)
    wholes = {None if place is None else place.full_name for place in places}
    if len(wholes) != 1:
        raise ValueError(f"Slices must all be from the same tensor: {', '.join(map(str, wholes))}")
    saved = [SavedVariable(key, part, place) for part, place in zip(parts, places, strict=True)]
    stored = checkpoint.find(key)
    if stored is None:
        raise ValueError(
            f"Tensor {key} ({parts[0].op.name} in the graph) is not found in {path} checkpoint; "
            f"tf.train.list_variables shows what it has"
        )
    for each in saved:
        if stored.shape != each.full_shape:
            raise ValueError(
                f"Shape of variable {each.variable.name} ({each.full_shape}) doesn't match with shape of tensor {key} "
                f"({stored.shape}) from checkpoint reader."
            )
    check_fits(checkpoint, saved, path)
    return saved


def _initialize(part: SavedVariable, path: str) -> None:
    variable = part.variable
    graph = variable.graph
    with graph.device(variable.device):
        with graph.name_scope("checkpoint_initializer") as scope:
            prefix = constant_op(graph, text_array(path), "prefix")
        (value,) = restored_tensors(graph, prefix, [part], _FORMAT, scope)
    value.set_shape(variable.shape)
    with graph.control_dependencies(None):
        variable.initialize_by(assigning(part, value), value)
