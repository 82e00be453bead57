"""What a variable's spec must be like, and what agrees with it. Pure; for the store and the directory."""

from __future__ import annotations

from typing import Final

import numpy as np

from ps_protocol.codec.tensor_codec import dtype_name, parse_layout
from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError, ShapeMismatchError
from ps_protocol.operations import VariableSpec
from ps_protocol.optimizer_constraints import check_constraint
from ps_protocol.optimizer_rules import check_mode, check_numbers
from ps_protocol.optimizer_schedules import check_schedule
from ps_protocol.optimizer_spec import MOVING_AVERAGE, OptimizerSpec, describe_optimizer, settings_in_words
from ps_protocol.training.round_operations import ROUND_LAYOUTS

_COUNT: Final = np.dtype(np.int64)
MAX_NAME_LENGTH = 4096


def check_spec(spec: VariableSpec) -> None:
    """Makes sure that a variable can be made to a spec.

    Raises:
        InvalidArgumentError: The name is empty or too long, the dtype cannot be held, the shape is impossible, or
            the slice does not lie in the whole.
    """
    if not spec.name or len(spec.name) > MAX_NAME_LENGTH:
        raise InvalidArgumentError(
            f"the name of a variable has {len(spec.name)} characters; it needs between 1 and {MAX_NAME_LENGTH}"
        )
    try:
        parse_layout(dtype_name(spec.dtype), spec.shape)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(
            f"there can be no variable {spec.name}: {error.message}", variable=spec.name
        ) from error
    if not spec.dtype.isnative:
        raise InvalidArgumentError(
            f"variable {spec.name} cannot have a dtype in foreign byte order; use {spec.dtype.newbyteorder('=')}",
            variable=spec.name,
        )
    _check_slice(spec)
    if spec.object_kind:
        _check_object(spec)
    if spec.optimizer is not None:
        _check_optimizer(spec, spec.optimizer)


def _check_object(spec: VariableSpec) -> None:
    """Makes sure that a variable can hold the state of a shared object, or what a ps keeps for rounds."""
    layout = ROUND_LAYOUTS.get(spec.object_kind)
    if layout is not None:
        if (spec.dtype, spec.shape) != layout or spec.slice is not None or spec.slot_of or spec.optimizer is not None:
            raise InvalidArgumentError(
                f"variable {spec.name} of {describe_spec(spec)} cannot be a {spec.object_kind}; that is "
                f"{layout[0].name}{list(layout[1])}, in one piece",
                variable=spec.name,
            )
        return
    if spec.shape or spec.dtype.kind != "S" or spec.slice is not None or spec.slot_of or spec.optimizer is not None:
        raise InvalidArgumentError(
            f"variable {spec.name} of {describe_spec(spec)} cannot hold the state of a {spec.object_kind}; that is "
            f"bytes of shape [], in one piece",
            variable=spec.name,
        )


def _check_optimizer(spec: VariableSpec, optimizer: OptimizerSpec) -> None:
    """Makes sure that a variable can count the steps of an optimizer that can make steps."""
    trained = spec.slot_of or spec.name
    if optimizer.function == MOVING_AVERAGE:
        if not spec.slot_of or len(optimizer.numbers) != 1 or not 0.0 <= optimizer.numbers[0] <= 1.0:
            raise InvalidArgumentError(
                f"variable {spec.name} cannot be {describe_optimizer(optimizer)} of {trained}; it is a slot of what it "
                f"follows, with a decay in [0, 1]",
                variable=trained,
            )
        return
    if not spec.slot_of or spec.shape or spec.dtype != _COUNT:
        raise InvalidArgumentError(
            f"variable {spec.name} of {describe_spec(spec)} cannot count the steps of an optimizer; that is an int64 "
            f"scalar, a slot of the variable that is trained",
            variable=trained,
        )
    try:
        check_numbers(optimizer.function, optimizer.numbers)
        check_mode(optimizer.function, optimizer.sparse.name.lower())
        if optimizer.schedule is not None:
            check_schedule(optimizer.schedule)
        if optimizer.constraint is not None:
            check_constraint(optimizer.constraint)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(
            f"variable {trained} cannot be trained by the optimizer that {spec.name} declares: {error.message}",
            variable=trained,
        ) from error


def check_agreement(recorded: VariableSpec, proposed: VariableSpec) -> None:
    """Makes sure that a later declaration agrees with the first.

    Raises:
        DTypeMismatchError: The dtypes differ.
        ShapeMismatchError: The shapes or the places in the whole differ.
    """
    if recorded is proposed:
        return
    if recorded.object_kind != proposed.object_kind:
        raise InvalidArgumentError(
            f"variable {recorded.name} already exists as {_what(recorded)}, but is declared here as {_what(proposed)}; "
            f"give one of them another name",
            variable=recorded.name,
        )
    if recorded.dtype != proposed.dtype:
        raise DTypeMismatchError(_differ(recorded, proposed), variable=recorded.name)
    if recorded.shape != proposed.shape or recorded.slice != proposed.slice:
        raise ShapeMismatchError(_differ(recorded, proposed), variable=recorded.name)
    if recorded.slot_of != proposed.slot_of:
        raise InvalidArgumentError(
            f"variable {recorded.name} already exists as {_place(recorded)}, but is declared here as "
            f"{_place(proposed)}; give the optimizer or the variable another name",
            variable=recorded.name,
        )
    if recorded.optimizer != proposed.optimizer:
        check_optimizers(recorded, proposed)


def check_optimizers(recorded: VariableSpec, proposed: VariableSpec) -> None:
    """Makes sure that an optimizer is declared alike; InvalidArgumentError, which names both sides, if not."""
    before, now = _described(recorded.optimizer), _described(proposed.optimizer)
    if before == now:  # compared in words, since NaN does not equal itself
        return
    if MOVING_AVERAGE in (getattr(each.optimizer, "function", "") for each in (recorded, proposed)):
        raise InvalidArgumentError(
            f"variable {recorded.slot_of or recorded.name} already has {before} ({recorded.name}), but is declared "
            f"here with {now}; give both the same decay, or the average another name",
            variable=recorded.slot_of or recorded.name,
        )
    later = ""
    if recorded.optimizer is not None and proposed.optimizer is not None:
        before, now, differing = _differing(recorded.optimizer, proposed.optimizer)
        if differing == {"learning_rate"}:
            later = "; a learning rate that changes is set on the optimizer later, or given to apply_gradients"
    raise InvalidArgumentError(
        f"variable {recorded.slot_of or recorded.name} is already trained by {before} ({recorded.name}), but is "
        f"declared here with {now}; give both the same settings, or the optimizer another name{later}",
        variable=recorded.slot_of or recorded.name,
    )


def _differing(recorded: OptimizerSpec, proposed: OptimizerSpec) -> tuple[str, str, set[str]]:
    """Returns both in words, and by which settings they differ; of two of one rule only those are named."""
    if recorded.function != proposed.function:
        return describe_optimizer(recorded), describe_optimizer(proposed), set()
    before, now = settings_in_words(recorded), settings_in_words(proposed)
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    sides = [", ".join([f"{name}={side.get(name, 'None')}" for name in names]) for side in (before, now)]
    return f"{recorded.function}({sides[0]})", f"{proposed.function}({sides[1]})", set(names)


def _described(optimizer: OptimizerSpec | None) -> str:
    return "no optimizer" if optimizer is None else describe_optimizer(optimizer)


def _place(spec: VariableSpec) -> str:
    return f"a slot of {spec.slot_of}" if spec.slot_of else "a variable of its own"


def _what(spec: VariableSpec) -> str:
    return f"a {spec.object_kind}" if spec.object_kind else describe_spec(spec)


def describe_spec(spec: VariableSpec) -> str:
    """A spec for messages, with its place in the whole: "float32[2, 3], part at [2, 0] of w [4, 3]"."""
    layout = f"{spec.dtype.name}{list(spec.shape)}"
    if spec.slice is None:
        return layout
    return f"{layout}, part at {list(spec.slice.offset)} of {spec.slice.full_name} {list(spec.slice.full_shape)}"


def _check_slice(spec: VariableSpec) -> None:
    part = spec.slice
    if part is None:
        return
    fits = len(part.full_shape) == len(part.offset) == len(spec.shape) and all(
        0 <= start <= whole - length
        for start, length, whole in zip(part.offset, spec.shape, part.full_shape, strict=True)
    )
    if not fits:
        raise InvalidArgumentError(
            f"variable {spec.name} is said to be {describe_spec(spec)}, but does not lie in it", variable=spec.name
        )


def _differ(recorded: VariableSpec, proposed: VariableSpec) -> str:
    return (
        f"variable {recorded.name} already exists as {describe_spec(recorded)}, but is declared here as "
        f"{describe_spec(proposed)}; declare it alike everywhere, or give it another name"
    )
