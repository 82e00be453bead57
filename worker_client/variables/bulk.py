"""Operations on many variables at once: one exchange for each ps task that holds any of them, all tasks at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Literal, overload

import numpy.typing as npt

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array, UpdateRule, reply_bytes
from worker_client.connection.fanout import Fanout, Routed
from worker_client.values.out_arrays import check_disjoint, check_not_read, received
from worker_client.values.wire_names import WireDTypeName
from worker_client.variables import part_reads
from worker_client.variables import prepared_updates as pushes
from worker_client.variables.mirror import Mirror
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.parts import (
    AnyVersion,
    AnyVersionedValue,
    EagerVariable,
    Pair,
    new_array,
    of_one_part,
    part_versions,
    parts_of,
    pieces_of,
    spec_of,
    whole_read,
)
from worker_client.variables.variable import Variable


class ManyVariables:
    """What a connection does with many variables; the part of ``Client`` that knows them. Thread-safe.

    Attributes:
        fanout: The way to the ps tasks.
    """

    fanout: Fanout

    def read_all(
        self,
        variables: Iterable[EagerVariable],
        *,
        out: Sequence[Array] | None = None,
        wire_dtype: WireDTypeName | None = None,
        copy: bool = True,
    ) -> list[Array]:
        """Returns the values of many variables: one exchange for each ps task, all tasks at once.

        Each value is of one version of its variable (of a partitioned variable, of each of its parts); the variables
        are not read at one instant. New arrays of 64 KiB to 2 MiB lie side by side in blocks of 4 MiB, and a block is
        in use as long as one of them is held; a process keeps up to 256 MiB of blocks to use again.

        Args:
            variables: What to read.
            out: One array for each variable, of which each is as in ``Variable.read_value`` and no two overlap in
                memory. The parts of a variable that is cut along its first dimension are read straight into their
                places. After an error the content of all is undefined.
            wire_dtype: The form in which the values travel, as in ``Variable.read_value``.
            copy: If not, the arrays are read-only, as in ``Variable.read_value``. Over shared memory the memory of all
                values that one ps task has sent is in use as long as one of them is held.

        Returns:
            One array for each variable: those of ``out``, or new ones.

        Raises:
            FailedPreconditionError: One of them has not been initialised.
            InvalidArgumentError: An array does not fit its variable, there are not as many as variables, or two
                overlap.
        """
        whole = list(variables)
        reads = [whole_read(*each, wire_dtype, view=not copy) for each in _with_outs(whole, out)]
        return part_reads.read(self.fanout, reads)

    def read_all_if_newer(
        self,
        variables: Iterable[EagerVariable],
        versions: Iterable[AnyVersion | None],
        *,
        out: Sequence[Array] | None = None,
        wire_dtype: WireDTypeName | None = None,
    ) -> list[AnyVersionedValue | None]:
        """Reads those of many variables that have changed, otherwise as ``read_all``.

        Args:
            variables: What to read.
            versions: For each the version known, as for its ``read_if_newer``.
            out: As in ``read_all``. The arrays of variables that have not changed are left as they are.
            wire_dtype: As in ``read_all``.

        Returns:
            For each variable the value and its version, or None if the version is still the one known.
        """
        whole, known = list(variables), list(versions)
        if len(known) != len(whole):
            raise InvalidArgumentError(
                f"there are {len(whole)} variables, but {len(known)} versions; give one for each"
            )
        reads = [whole_read(*each, wire_dtype) for each in _with_outs(whole, out)]
        parts = [part_versions(*each) for each in zip(whole, known, strict=True)]
        newer = part_reads.read_if_newer(self.fanout, reads, parts)
        return [
            each if each is None or isinstance(variable, PartitionedVariable) else of_one_part(each)
            for variable, each in zip(whole, newer, strict=True)
        ]

    def mirror(self, variables: Iterable[EagerVariable]) -> Mirror:
        """Returns copies of many variables, read now; ``pull`` reads what has changed in place.

        Raises:
            FailedPreconditionError: One of them has not been initialised.
        """
        mirror = Mirror(self.fanout, list(variables))
        mirror.pull()
        return mirror

    def gather_all(
        self,
        pairs: Iterable[tuple[Variable, npt.ArrayLike]],
        *,
        out: Sequence[Array] | None = None,
        wire_dtype: WireDTypeName | None = None,
    ) -> list[Array]:
        """Returns rows of many variables, given with their indices as for ``Variable.gather``.

        It makes one exchange for each ps task, all tasks at once; otherwise as ``read_all``.

        Raises:
            InvalidArgumentError: An index is out of range, or an array of ``out`` does not fit, or overlaps any of
                the indices in memory.
            DTypeMismatchError: Indices are not integers.
        """
        asked = list(pairs)
        outs = [each for _, each in _with_outs([variable for variable, _ in asked], out)]
        gathers = [
            variable.gathering(rows, out=each, wire_dtype=wire_dtype)
            for (variable, rows), each in zip(asked, outs, strict=True)
        ]
        check_not_read(
            [(each, variable.spec.name) for (variable, _), each in zip(asked, outs, strict=True) if each is not None],
            [gather.indices for gather in gathers],
        )
        routed = [
            Routed(variable.ps_task, gather, reply_bytes(gather, variable.spec))
            for (variable, _), gather in zip(asked, gathers, strict=True)
        ]
        return [received(result, each) for result, each in zip(self.fanout.run_all(routed), outs, strict=True)]

    @overload
    def assign_add_all(
        self, pairs: Iterable[Pair], *, wait: Literal[True] = True, wire_dtype: WireDTypeName | None = None
    ) -> None: ...
    @overload
    def assign_add_all(
        self, pairs: Iterable[Pair], *, wait: Literal[False], wire_dtype: WireDTypeName | None = None
    ) -> Future[None]: ...
    def assign_add_all(
        self, pairs: Iterable[Pair], *, wait: bool = True, wire_dtype: WireDTypeName | None = None
    ) -> Future[None] | None:
        """Adds to many variables: one exchange for each ps task, all tasks at once.

        All deltas are checked before any is sent. Each addition is atomic, all together are not.

        Args:
            pairs: Variables and their deltas, as for ``Variable.assign_add``.
            wait: Whether to wait until all are applied. If not, the deltas are copied and a future is returned.
            wire_dtype: The form in which the deltas travel, as in ``Variable.assign_add``.
        """
        return self._update_all(UpdateRule.ASSIGN_ADD, pairs, wait, wire_dtype)

    def assign_all(self, pairs: Iterable[Pair], *, wire_dtype: WireDTypeName | None = None) -> None:
        """Replaces the values of many variables; otherwise as ``assign_add_all``."""
        self._update_all(UpdateRule.ASSIGN, pairs, True, wire_dtype)

    def _update_all(
        self, rule: UpdateRule, pairs: Iterable[Pair], wait: bool, wire_dtype: WireDTypeName | None
    ) -> Future[None] | None:
        updates = [
            (part, part.update(rule, piece, copy=not wait, wire_dtype=wire_dtype))
            for variable, value in pairs
            for part, piece in zip(parts_of(variable), pieces_of(variable, value), strict=True)
        ]
        routed = pushes.prepared(updates)
        if not wait:
            return pushes.send_all_later(self.fanout, routed)
        pushes.send_all(self.fanout, routed)
        return None

    def push_buffers(self, variables: Iterable[EagerVariable]) -> list[Array]:
        """Returns an array to compute updates in for each variable, as ``Variable.push_buffer``.

        That of a variable of several parts is an ordinary array: no memory is shared with several ps tasks.
        """
        whole = list(variables)
        parts = [parts_of(variable) for variable in whole]
        return [
            each[0].push_buffer() if len(each) == 1 else new_array(variable)
            for variable, each in zip(whole, parts, strict=True)
        ]


def _with_outs(
    variables: Sequence[EagerVariable], outs: Sequence[Array] | None
) -> list[tuple[EagerVariable, Array | None]]:
    """Pairs variables with the arrays to read them into; InvalidArgumentError if those are not usable together."""
    if outs is None:
        return [(variable, None) for variable in variables]
    if len(outs) != len(variables):
        raise InvalidArgumentError(
            f"there are {len(variables)} variables, but {len(outs)} arrays in `out`; give one each"
        )
    pairs: list[tuple[EagerVariable, Array | None]] = list(zip(variables, outs, strict=True))
    check_disjoint(outs, [spec_of(variable).name for variable in variables])
    return pairs
