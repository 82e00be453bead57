"""The values that a session keeps of variables with a caching device, read again when they are stale.

Each run still asks the ps, but names the version that it has a copy of; the value itself travels only if the variable
has changed since. So a run never works on a stale value.
"""

from __future__ import annotations

from ps_protocol.forks import new_lock
from ps_protocol.operations import Reply, Result
from worker_client.graph.computation import AccessedVariable
from worker_client.values.versions import VersionedValue


class ValueCache:
    """The copies of one session, at most one for each variable; read-only, and shared by all runs. Thread-safe."""

    def __init__(self) -> None:
        self._lock = new_lock()  # guards: _values
        self._values: dict[AccessedVariable, VersionedValue[int]] = {}

    def find(self, variable: AccessedVariable) -> VersionedValue[int] | None:
        """Returns the copy of a variable, None if there is none."""
        with self._lock:
            return self._values.get(variable)

    def refreshed(self, variable: AccessedVariable, cached: VersionedValue[int] | None, reply: Reply) -> Reply:
        """Returns the reply to a read with a tensor in it, which is read-only: its own, or that of the copy.

        Args:
            variable: What was read.
            cached: The copy whose version the read named, and which another run may have replaced since.
            reply: To that read; its tensor becomes the copy.
        """
        if not isinstance(reply, Result):
            return reply
        if reply.tensor is None:
            return reply if cached is None else Result(reply.version, reply.initialized, cached.value)
        reply.tensor.flags.writeable = False
        with self._lock:
            newest = self._values.get(variable)
            if newest is None or newest.version < reply.version:  # a reply to another run may have overtaken this one
                self._values[variable] = VersionedValue(reply.tensor, reply.version)
        return reply

    def clear(self) -> None:
        """Drops all copies."""
        with self._lock:
            self._values.clear()
