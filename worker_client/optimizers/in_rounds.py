"""Steps of an optimizer whose workers train together: what a group is told of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from ps_protocol.dtype_traits import dtype_name
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array
from ps_protocol.optimizer_spec import OptimizerSpec, describe_optimizer
from ps_protocol.training.round_operations import COUNT_ROUNDS, StagedStep
from ps_protocol.training.sync_policy import SyncPolicy
from worker_client.objects.training_group import RoutedStep
from worker_client.optimizers.slots import SlotVariables
from worker_client.optimizers.steps import PartGradient
from worker_client.variables.variable import Variable


def policy_of(name: str, sync: str | SyncPolicy) -> SyncPolicy:
    """Reads how the workers of an optimizer train together; InvalidArgumentError if that is no way to."""
    try:
        return SyncPolicy.parse(sync)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{name}: sync is {sync!r}: {error.message}") from error


def check_call(name: str, **given: object) -> None:
    """Makes sure that a call asks for nothing that rounds do not have."""
    instead = {
        "completes": "whether it counts is decided by the round, later than the shard is handed in; call "
        "shard.hand_in() when the verdict is 'applied'",
        "wait": "a worker waits until it may go on",
        "wire_dtype": "gradients travel exactly",
    }
    for argument, value in given.items():
        if value is not None and value is not True:
            raise InvalidArgumentError(
                f"{name} trains together with other workers, for which apply_gradients takes no {argument}= "
                f"({value!r}): {instead[argument]}"
            )


def steps_of(
    parts: Sequence[PartGradient], kept: Sequence[SlotVariables], function: str, numbers: Array
) -> list[RoutedStep]:
    """Returns the gradients of parts as steps.

    Raises:
        InvalidArgumentError: A variable is this worker's own, or has two gradients.
    """
    steps, names = [], set()
    for (part, operands, _), slots in zip(parts, kept, strict=True):
        name = part.spec.name
        if part.ps_task is None:
            raise InvalidArgumentError(
                f"variable {name} is this worker's own, and cannot be trained together with other workers; declare it "
                f"on a ps task",
                variable=name,
            )
        if name in names:
            raise InvalidArgumentError(f"two gradients of variable {name} were given; add them up", variable=name)
        names.add(name)
        steps.append(
            RoutedStep(part.ps_task, StagedStep(name, function, slots.full_names, slots.step.name, operands, numbers))
        )
    return steps


def counting_step(global_step: Variable) -> RoutedStep:
    """Returns what counts the rounds, with each of them; InvalidArgumentError if the variable is this worker's own."""
    name = global_step.spec.name
    if global_step.ps_task is None:
        raise InvalidArgumentError(
            f"variable {name} is this worker's own, and cannot count rounds of several; declare it on a ps task",
            variable=name,
        )
    return RoutedStep(global_step.ps_task, StagedStep(name, COUNT_ROUNDS, (), "", (), np.empty(0, np.float64)))


def digest_of(parts: Sequence[PartGradient], optimizer: OptimizerSpec, counters: Sequence[str]) -> str:
    """Returns a digest of what is trained, and how, by which workers find out whether they train the same."""
    said = sorted(
        [
            f"{each.part.spec.name} {dtype_name(each.part.spec.dtype)} {each.part.spec.shape} {each.part.ps_task}"
            for each in parts
        ]
    )
    return hashlib.blake2b(
        "\n".join([describe_optimizer(optimizer), *counters, *said]).encode(), digest_size=8
    ).hexdigest()
