"""Makes sure that the ps tasks that answer are one cluster, and the one that the cluster spec says.

Each ps task tells in its answer to hello how many ps tasks its own cluster spec has, and the identity of its cluster,
which ps task 0 makes and tells the others. A ps task 0 that has come back without its state has a new identity, and one
that has just started is not known to the others yet: so what differs is looked at again before it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import FailedPreconditionError
from ps_protocol.service_types import KnownCluster, Welcome
from worker_client.connection.handle import PsHandle
from worker_client.connection.retry import Deadline, RetryPolicy

SETTLE_S: Final = 5.0
"""How long ps tasks may differ that were started for the same addresses; in it they announce themselves again."""

_LOOK_AGAIN_S: Final = 0.2


def connect_all(
    handles: Sequence[PsHandle], cluster_spec: ClusterSpec, deadline: Deadline, retry: RetryPolicy
) -> list[Welcome]:
    """Says hello to all ps tasks of a cluster spec, one after the other; returns their answers.

    Args:
        handles: The ps tasks, in order.
        cluster_spec: As this process has it.
        deadline: Bound on waiting for them.
        retry: Whose clock and sleep are used.

    Raises:
        FailedPreconditionError: They are not the ps tasks of one cluster, or the cluster has more or fewer of them.
        UnavailableError: One did not answer in time.
        ShardscopeError: One will not talk to this client.
    """
    addresses = cluster_spec.ps_addresses()
    welcomes: list[Welcome] = []
    for handle in handles:
        welcomes.append(handle.connect(deadline))
        _check_number(handle, welcomes[-1].cluster, addresses)
    settled = Deadline(min(SETTLE_S, deadline.remaining_s()), retry.clock)
    for index, handle in enumerate(handles[1:], 1):
        while (difference := _difference(handles[0], handle, addresses[0])) is not None:
            if not difference.may_settle or not settled.remaining_s():
                raise FailedPreconditionError(difference.message, task=str(handle.task))
            retry.sleep(_LOOK_AGAIN_S)
            welcomes[0], welcomes[index] = handles[0].connect(deadline), handle.connect(deadline)
    return welcomes


@dataclass(frozen=True, slots=True)
class _Difference:
    """Why two ps tasks do not belong together.

    Attributes:
        message: In words.
        may_settle: Whether one of them may only not know yet what has become of the other.
    """

    message: str
    may_settle: bool


def _check_number(handle: PsHandle, cluster: KnownCluster | None, addresses: Sequence[str]) -> None:
    if cluster is not None and cluster.num_ps_tasks != len(addresses):
        raise FailedPreconditionError(
            f"{handle.task} at {handle.address} was started in a cluster of {cluster.num_ps_tasks} ps tasks, but the "
            f"cluster spec given here has {len(addresses)} ({', '.join(addresses)}); give every process the cluster "
            f"spec that the ps tasks were started with",
            task=str(handle.task),
        )


def _difference(first: PsHandle, other: PsHandle, first_address: str) -> _Difference | None:
    """Compares what ps task 0 and another one know; None if they are of one cluster, or too old to tell."""
    of_first, of_other = first.welcome.cluster, other.welcome.cluster
    if of_first is None or of_other is None or of_first.incarnation == of_other.incarnation:
        return None
    is_meant = of_other.first_ps in (first_address, of_first.first_ps)
    has_met = of_other.incarnation is not None
    if is_meant and not has_met:
        return None
    return _Difference(
        f"{first.task} at {first.address} and {other.task} at {other.address} are of different clusters: {other.task} "
        f"was started for the one whose {first.task} is at {of_other.first_ps}, and has "
        f"{'met another process there' if has_met else 'not met it'}; take all addresses of the cluster spec from one "
        f"cluster",
        may_settle=is_meant or not has_met,
    )
