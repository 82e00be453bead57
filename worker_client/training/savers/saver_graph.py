"""The operations that a saver adds to its graph, by TensorFlow's names: what saves, and what restores.

Each does its work when a session runs it, whoever asks for it. The one that saves and the one that restores everything
move values in batches; the operations between, one for each variable, are there for those who run them by their names.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from ps_protocol.operations import Array, PsOperation
from worker_client.deferred.building import constant_op
from worker_client.graph.blocks import name_scope
from worker_client.graph.computation import BulkTransfer, Kernel, VariableHome
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Operation, OutputSpec, Tensor
from worker_client.ops import array_ops
from worker_client.ops.constant_ops import identity, placeholder_with_default
from worker_client.ops.control_flow import group, with_dependencies
from worker_client.training.savers.formats import CheckpointFormat
from worker_client.training.savers.saved_variables import SavedVariable
from worker_client.training.savers.transfer import assignment, check_fits, restore_variables, save_variables
from worker_client.values.dtypes import DType
from worker_client.values.shapes import TensorShape
from worker_client.values.text import graph_array, graph_dtype, text_array

_DEFAULT_PATH: Final = "model"


@dataclass
class SaverDef:
    """What a saver is made of: the names of its operations, and what it keeps.

    Attributes:
        filename_tensor_name: The tensor that is fed the path.
        save_tensor_name: The tensor whose value is the path once everything is saved.
        restore_op_name: The operation that restores everything.
        max_to_keep: How many checkpoints are kept; 0 for all.
        sharded: Whether each ps task writes a file.
        keep_checkpoint_every_n_hours: After how many hours one is kept for good.
        version: Of the form, in TensorFlow's count.
    """

    LEGACY: ClassVar[int] = 0
    V1: ClassVar[int] = 1
    V2: ClassVar[int] = 2

    filename_tensor_name: str = ""
    save_tensor_name: str = ""
    restore_op_name: str = ""
    max_to_keep: int = 0
    sharded: bool = False
    keep_checkpoint_every_n_hours: float = 0.0
    version: int = 0


@dataclass(frozen=True)
class SaverOptions:
    """How a saver's operations do their work.

    Attributes:
        checkpoint_format: In which form.
        sharded: Whether each ps task gets a file.
        reshape: Whether tensors of another shape with as many elements are taken.
        default_path: Where, if a run is fed no path.
    """

    checkpoint_format: CheckpointFormat
    sharded: bool = False
    reshape: bool = False
    default_path: str | None = None


def add_saver(graph: Graph, saved: Sequence[SavedVariable], options: SaverOptions, name: str | None) -> SaverDef:
    """Adds the operations of a saver to a graph.

    Args:
        graph: The graph, which is the default one.
        saved: The variables.
        options: How they are saved.
        name: Of the scope; "save", numbered, if not given.

    Returns:
        Their names.
    """
    with name_scope(name, "save", [each.variable for each in saved]):
        path = placeholder_with_default(options.default_path or _DEFAULT_PATH, [], "filename")
        path = placeholder_with_default(path, [], "Const")
        saving = _add_saving(graph, path, saved, options)
        save_tensor = _identity_behind(graph, path, saving) if options.sharded else with_dependencies([saving], path)
        restore = _add_restoring(graph, path, saved, options)
    return SaverDef(path.name, save_tensor.name, restore.name, sharded=options.sharded)


def path_of(value: Array) -> str:
    """Returns the path that a text of a graph is."""
    return os.fsdecode(graph_array(value).item())


def restored_tensors(
    graph: Graph,
    path: Tensor,
    saved: Sequence[SavedVariable],
    checkpoint_format: CheckpointFormat,
    name: str,
    *,
    any_shape: bool = False,
) -> list[Tensor]:
    """Adds one operation that reads variables from a checkpoint.

    Args:
        graph: To which.
        path: Of the checkpoint.
        saved: The variables.
        checkpoint_format: In which form.
        name: Of the operation.
        any_shape: Whether tensors may have other shapes than the variables.
    """

    def read(path: Array, *_: Array) -> tuple[Array, ...]:
        where = path_of(path)
        with checkpoint_format.open(where) as checkpoint:
            check_fits(checkpoint, saved, where, reshape=any_shape)
            return tuple([checkpoint.read(each.key, each.place, each.variable.spec.shape) for each in saved])

    outputs = [
        OutputSpec(
            graph_dtype(each.variable.spec.dtype), TensorShape(None if each.place is None else each.variable.spec.shape)
        )
        for each in saved
    ]
    with graph.device("/device:CPU:0"), graph.name_scope(name) as scope:
        op = graph.create_op(
            "RestoreV2",
            [path, *_names(graph, saved)],
            outputs,
            name=scope,
            attributes={"dtypes": [DType(each.dtype) for each in outputs]},
            computation=Kernel(read),
        )
    return op.outputs


def assigning(each: SavedVariable, value: Tensor, *, validate_shape: bool = True) -> Operation:
    """Adds an operation that gives a variable what a tensor has, whose shape may be known only then."""
    variable = each.variable

    def request(_: int, array: Array) -> PsOperation:
        return assignment(variable, variable.checked(array) if variable.shape.is_fully_defined() else array)

    attributes = {"use_locking": True, "validate_shape": validate_shape and variable.shape.is_fully_defined()}
    return variable.mutating_op("Assign", {"value": value}, request, "Assign", attributes=attributes)


def _add_saving(graph: Graph, path: Tensor, saved: Sequence[SavedVariable], options: SaverOptions) -> Operation:
    def save(home: VariableHome, path: Array, *_: Array) -> tuple[Array, ...]:
        save_variables(home, saved, path_of(path), options.checkpoint_format, sharded=options.sharded)
        return ()

    with graph.name_scope("SaveV2") as scope:
        inputs = [path, *_names(graph, saved)]
        return graph.create_op(
            "SaveV2",
            inputs,
            name=scope,
            attributes={"dtypes": [each.variable.dtype.base_dtype for each in saved]},
            computation=BulkTransfer(save, listed_inputs=(*inputs, *map(_reference, saved))),
        )


def _reference(each: SavedVariable) -> Tensor:
    """Returns what stands for a variable among the inputs of what saves it, as TensorFlow has it: a read of a part."""
    return each.variable.op.outputs[0] if each.place is None else each.variable.snapshot


def _add_restoring(graph: Graph, path: Tensor, saved: Sequence[SavedVariable], options: SaverOptions) -> Operation:
    def restore(home: VariableHome, path: Array) -> tuple[Array, ...]:
        restore_variables(home, saved, path_of(path), options.checkpoint_format, reshape=options.reshape)
        return ()

    before = graph.control_inputs
    values = restored_tensors(graph, path, saved, options.checkpoint_format, "RestoreV2", any_shape=options.reshape)
    assigned = []
    for each, value in zip(saved, values, strict=True):
        sizes = np.array(each.variable.spec.shape, np.int32)
        fitting = array_ops.reshape(value, sizes) if options.reshape else value
        assigned.append(assigning(each, fitting, validate_shape=not options.reshape))
    everything = group(*assigned, name="restore_all")
    # It is listed behind the assignments, but does their work itself, without holding all values at once.
    everything.waits_for, everything.operands = before, (path,)
    everything.computation = BulkTransfer(restore, mutates=True, listed_inputs=())
    return everything


def _names(graph: Graph, saved: Sequence[SavedVariable]) -> list[Tensor]:
    return [
        constant_op(graph, text_array([each.key for each in saved]), "tensor_names"),
        constant_op(graph, text_array([each.shape_and_slice for each in saved]), "shape_and_slices"),
    ]


def _identity_behind(graph: Graph, path: Tensor, saving: Operation) -> Any:
    with graph.control_dependencies([saving]):
        return identity(path)
