"""Steps of an optimizer whose workers train together: what a group is told of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from ps_protocol.dtype_traits import dtype_name
from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError
from ps_protocol.operations import Array
from ps_protocol.optimizer_spec import OptimizerSpec, describe_optimizer
from ps_protocol.training.round_operations import COUNT_ROUNDS, StagedStep
from ps_protocol.training.sync_policy import SyncPolicy
from worker_client.connection.completes import checked
from worker_client.connection.fanout import Fanout
from worker_client.objects.round_operations import RoutedStep
from worker_client.objects.training_group import TAKING_PART
from worker_client.objects.training_report import report_if_any
from worker_client.optimizers.slots import SlotVariables
from worker_client.optimizers.steps import PartGradient
from worker_client.variables.variable import Variable


def policy_of(name: str, sync: str | SyncPolicy) -> SyncPolicy:
    """Reads how the workers of an optimizer train together; InvalidArgumentError if that is no way to."""
    try:
        return SyncPolicy.parse(sync)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{name}: sync is {sync!r}: {error.message}") from error


def check_call(name: str, completes: object, **given: object) -> None:
    """Makes sure that a call asks for nothing that rounds do not have."""
    instead = {
        "wait": "a worker waits until it may go on",
        "wire_dtype": "gradients travel exactly",
    }
    if completes is not None:
        checked(completes)
    for argument, value in given.items():
        if value is not None and value is not True:
            raise InvalidArgumentError(
                f"{name} trains together with other workers, for which apply_gradients takes no {argument}= "
                f"({value!r}): {instead[argument]}"
            )


def check_alone(
    fanout: Fanout,
    name: str,
    parts: Sequence[PartGradient],
    spec_with: Callable[[SyncPolicy], OptimizerSpec],
    global_step: Variable | None,
    made: int,
) -> int:
    """Makes sure that a worker without ``sync`` does not train alone what others train in rounds; returns 1.

    It asks at its steps 1, 8, 64, 512 and so on: others may come later.

    Args:
        fanout: The way to the ps tasks.
        name: Of the optimizer.
        parts: What it trains.
        spec_with: Says how it would change variables with a policy.
        global_step: As of its step.
        made: How many steps it has made.

    Raises:
        FailedPreconditionError: Others do, with an optimizer of that name; it says how.
    """
    me = TAKING_PART.get(fanout)
    number = made + 1
    is_power_of_8 = not number & made and number.bit_length() % 3 == 1
    if not is_power_of_8 or me is None or [each for each in parts if each.part.ps_task is None]:
        return 1
    report = report_if_any(fanout, me.places, name)
    if report is None or not report.policy:
        return 1
    counters = [] if global_step is None else [global_step.spec.name]
    if digest_of(parts, spec_with(SyncPolicy.parse(report.policy)), counters) == report.digest:
        others = [each for each in report.at_work(me.list_members()) if each != me.task]
        if others:
            raise FailedPreconditionError(
                f"{name} has no sync on {me.task}, but {', '.join(others)} train{'s' * (len(others) == 1)} the same "
                f"variables in rounds, in the group {name} with {report.policy}: this gradient would be applied alone "
                f"beside them. Give sync={report.policy!r} to the optimizer of {me.task} too; or train others, with an "
                f"optimizer of another name"
            )
    return 1


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
