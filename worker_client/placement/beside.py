"""Declares variables on ps tasks that are chosen already: the slots of optimizers, beside their variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ps_protocol.errors import InternalError
from ps_protocol.initializer_spec import InitializerSpec
from ps_protocol.operations import Declare, VariableSpec
from ps_protocol.service_types import Proposal
from worker_client.connection.fanout import Fanout, Routed, succeeded

MAX_BATCH = 4096
"""Variables that are declared in one exchange; bounds the size of a message's header."""


class Beside(NamedTuple):
    """A variable to be declared.

    Attributes:
        spec: What is fixed about it.
        initializer: Its initial value.
        ps_task: Where it is to be; None for this worker's own store.
    """

    spec: VariableSpec
    initializer: InitializerSpec
    ps_task: int | None


def declare_beside(fanout: Fanout, declarations: Sequence[Beside]) -> None:
    """Declares variables, or makes sure that others have declared them alike: one exchange with each task for all.

    Raises:
        ShardscopeError: The cluster has refused one, or this connection only looks on; others may have been declared.
    """
    for start in range(0, len(declarations), MAX_BATCH):
        _declare(fanout, declarations[start : start + MAX_BATCH])


def _declare(fanout: Fanout, declarations: Sequence[Beside]) -> None:
    declares = [Routed(each.ps_task, Declare(each.spec, each.initializer)) for each in declarations]
    directory = fanout.handle(0)
    directory.check_may_update([each.operation for each in declares])
    shared = [each for each in declarations if each.ps_task is not None]
    placements = directory.call(
        lambda service, timeout_s: service.place(
            [Proposal(each.spec, each.ps_task) for each in shared if each.ps_task is not None],
            store=directory.welcome.store,
            timeout_s=timeout_s,
        ),
        what=f"to say where {len(shared)} slots are" if shared else "",
    )
    for each, placement in zip(shared, placements, strict=True):
        found = succeeded(placement).ps_task
        if found != each.ps_task:
            raise InternalError(
                f"variable {each.spec.name} is on ps:{found}, but {each.spec.slot_of}, whose slot it is, on "
                f"ps:{each.ps_task}",
                variable=each.spec.name,
            )
    fanout.run_all(declares)
