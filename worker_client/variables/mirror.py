"""Copies of many variables that a worker keeps up to date: the pull of a training step, without allocating."""

from __future__ import annotations

from collections.abc import Sequence

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.not_copied import NotCopied
from ps_protocol.operations import Array, Reply, Result
from worker_client.connection.direct import MAX_DIRECT_BYTES
from worker_client.connection.fanout import Fanout, Routed, succeeded
from worker_client.connection.whole_reads import WHOLE_READS
from worker_client.values.out_arrays import received
from worker_client.values.versions import Version, unless_version
from worker_client.variables.parts import EagerVariable, new_array


class Mirror(
    NotCopied,
    bound_to="a connection of this process",
    instead="connect in the other process and make one there, or pass on its values",
):
    """Arrays that hold the values of variables as of the last ``pull``. Made by ``Client.mirror``.

    Not thread-safe: while one thread pulls no other may pull or use the arrays, which change in place.

    Args:
        fanout: The way to the ps tasks.
        variables: What to keep copies of.
        trained_by: Names of optimizers whose rounds are to be seen whole, besides those of this connection.
        out: One array for each variable, of its dtype and shape, which share no memory; None for new ones.

    Attributes:
        variables: The variables, in the order given.
        values: One array for each, always the same ones, of its dtype and shape: those of ``out``, where that is given.
            They may be changed: what is written there stays until the variable changes.
    """

    def __init__(
        self,
        fanout: Fanout,
        variables: Sequence[EagerVariable],
        trained_by: Sequence[str] = (),
        out: Sequence[Array] | None = None,
    ):
        self.variables = tuple(variables)
        self.values = tuple([new_array(variable) for variable in self.variables] if out is None else out)
        reads = [variable.whole_read(out) for variable, out in zip(self.variables, self.values, strict=True)]
        self._fanout = fanout
        self._trained_by = (trained_by,) if isinstance(trained_by, str) else tuple(trained_by)
        self._parts = [part for each in reads for part in each.parts]
        self._is_small = sum([each.part.spec.size_bytes for each in self._parts]) <= MAX_DIRECT_BYTES
        # Of all, whatever is known. A gradient may be a view of what was pulled, and be sent after the first replies.
        self._reads = [each.beside().routed() for each in self._parts] if self._is_small else []
        self._owners = [index for index, each in enumerate(reads) for _ in each.parts]
        self._versions: list[Version | None] = [None] * len(self._parts)
        self._changed: set[int] = set()  # positions of variables that have changed and were not reported yet

    def pull(self) -> list[EagerVariable]:
        """Reads what has changed since the last pull, in place: one exchange for each ps task, all at once.

        Of a partitioned variable only the parts that have changed travel. If workers train some of the variables
        together, with an optimizer of this connection or one that the mirror was made for, the values are those of one
        round on all ps tasks.

        Returns:
            The variables that have changed, in their order; those read for the first time among them.

        Raises:
            FailedPreconditionError: One of them has not been initialised. The others are up to date.
            DeadlineExceededError: Rounds came too fast to read one of them whole.
            NotFoundError: An optimizer that the mirror was made for trains nothing, and another one some of these.
            ShardscopeError: A ps task has failed. The arrays may hold old and new values mixed until a pull succeeds.
        """
        whole_reads = WHOLE_READS.get(self._fanout)
        if whole_reads is None:
            self._read(())
        else:
            whole_reads.read([each.part.spec.name for each in self._parts], self._trained_by, self._read)
        changed, self._changed = sorted(self._changed), set()
        return [self.variables[index] for index in changed]

    def _read(self, looks: Sequence[Routed]) -> list[Reply]:
        known = [
            unless_version(version, self._fanout.store(each.part.ps_task), each.part.spec.name)
            for each, version in zip(self._parts, self._versions, strict=True)
        ]
        routed = [each.routed(version) for each, version in zip(self._parts, known, strict=True)]
        # Until it is known what has arrived, any of the arrays may have been written in part.
        self._versions = [None] * len(self._parts)
        replies = self._fanout.exchange_all([*looks, *routed, *looks])
        end = len(looks) + len(routed)
        self._take(replies[len(looks) : end], known)
        return [*replies[: len(looks)], *replies[end:]]

    # -- behind updates -----------------------------------------------------------------------

    def begin_behind(self, fanout: Fanout) -> Sequence[Routed]:
        """Begins a pull in the exchange of somebody's updates; ``end_behind`` ends it, and changes the arrays.

        Args:
            fanout: Carries out the updates.

        Returns:
            The reads that go with them; none if the values are large. Those are pulled in an exchange of their own,
            since a ps remembers what it has answered to an update, and a journal writes it down.

        Raises:
            InvalidArgumentError: The mirror is of another connection.
        """
        if fanout is not self._fanout:
            raise InvalidArgumentError("the mirror to pull is of another connection than the variables to update")
        if not self._is_small:
            return ()
        self._versions = [None] * len(self._parts)
        return self._reads

    def end_behind(self, replies: Sequence[Reply]) -> None:
        """Takes the replies to the reads that went with updates, or pulls if none did; errors as for ``pull``."""
        if self._is_small:
            self._take(replies, [None] * len(replies))
        else:
            self._read(())

    def _take(self, replies: Sequence[Reply], known: Sequence[int | None]) -> None:
        """Puts into their places what has come; raises the first error then."""
        for index, (each, reply) in enumerate(zip(self._parts, replies, strict=True)):
            if isinstance(reply, Result):
                if reply.tensor is not None or known[index] is None:
                    received(reply, each.place)
                    self._changed.add(self._owners[index])
                self._versions[index] = Version(reply.version, self._fanout.store(each.part.ps_task))
        for reply in replies:
            succeeded(reply)
