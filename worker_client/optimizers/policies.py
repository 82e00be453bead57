"""How the workers of an optimizer train together, where that is said after it was made: by who shares a model."""

from __future__ import annotations

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.training.sync_policy import SyncPolicy
from worker_client.optimizers.in_rounds import policy_of
from worker_client.optimizers.optimizer import Optimizer, outer_of


def give_policy(optimizer: Optimizer, sync: str | SyncPolicy) -> None:
    """Has an optimizer that has made no step yet train together with other workers, as if it had been made so.

    Args:
        optimizer: The optimizer, which is changed.
        sync: As the argument of optimizers.

    Raises:
        InvalidArgumentError: It is no policy, or the optimizer was made with another one.
    """
    policy = policy_of(optimizer.name, sync)
    if optimizer.sync is None:
        optimizer.__dict__.update(sync=policy, outer=outer_of(optimizer.name, policy))
    elif optimizer.sync != policy:
        raise InvalidArgumentError(
            f"{optimizer.name} was made with sync='{optimizer.sync}', and sync='{policy}' is asked for here; give one "
            f"of them"
        )
