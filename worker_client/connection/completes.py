"""What an update says that it completes: a data shard, or a piece of one, whose hand-in goes with the update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeAlias

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Reply
from worker_client.connection.fanout import Routed, Settle


class Exchanges(Protocol):
    """The way to the ps tasks, as far as updates need it."""

    def exchange_all(self, routed: Sequence[Routed], settle: Settle | None = None) -> list[Reply]:
        """See ``Fanout.exchange_all``."""
        ...


class Completes(ABC):
    """A data shard or a piece of one, as ``completes=`` takes it."""

    @abstractmethod
    def exchange_all(self, runner: Exchanges, routed: Sequence[Routed], settle: Settle | None = None) -> list[Reply]:
        """Carries out operations together with the hand-in; arguments and result as of ``Fanout.exchange_all``.

        Raises:
            AbortedError: This worker has lost the shard to another one; nothing has changed.
            FailedPreconditionError: It has handed it in already; nothing has changed.
            ShardscopeError: One of the updates would be refused, and nothing has changed on its ps task.
        """


Exchange: TypeAlias = Callable[..., "list[Reply]"]


def exchange_of(runner: Exchanges, completes: object, *, wait: bool = True) -> Exchange:
    """Returns what carries out operations: that of the runner, or if they complete something that of what they do.

    Raises:
        InvalidArgumentError: ``completes`` is no shard and no piece of one, or the caller does not wait.
    """
    if completes is None:
        return runner.exchange_all
    if not isinstance(completes, Completes):
        raise InvalidArgumentError(
            f"completes= takes a shard of ss.data.Shards, or a piece of it as shard.up_to(64), not {completes!r}"
        )
    if not wait:
        raise InvalidArgumentError(
            "an update that completes a shard is waited for, since the hand-in on ps task 0 comes last; give "
            "completes= without wait=False"
        )
    return partial(completes.exchange_all, runner)
