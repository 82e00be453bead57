"""Operations on many variables at once: one exchange for each ps task that holds any of them, all tasks at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Literal, overload

import numpy.typing as npt

from ps_protocol.dtype_traits import is_number
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operation_kinds import not_computable
from ps_protocol.operations import Array, ScatterRule, UpdateRule
from worker_client.connection.completes import Completes, exchange_of
from worker_client.connection.fanout import Fanout, Routed
from worker_client.values.conversion import IndexedSlices
from worker_client.values.out_arrays import check_disjoint, check_not_read
from worker_client.values.wire_names import WireDTypeName
from worker_client.variables import part_reads, part_rows
from worker_client.variables import prepared_updates as pushes
from worker_client.variables.mirror import Mirror
from worker_client.variables.parts import (
    AnyVersion,
    AnyVersionedValue,
    EagerVariable,
    Key,
    NamedOrVariable,
    Pair,
    Pairs,
    check_of_cluster,
    some_pairs,
    some_variables,
)


class ManyVariables:
    """What a connection does with many variables; the part of ``Client`` that knows them. Thread-safe.

    Attributes:
        fanout: The way to the ps tasks.
    """

    fanout: Fanout

    def _find(self, name: str) -> EagerVariable:
        """Finds a variable of the cluster by its name; NotFoundError if there is none."""
        raise NotImplementedError

    def _some(self, function: str, variables: object) -> list[EagerVariable]:
        found = some_variables(function, variables, self._find)
        check_of_cluster(function, found, self.fanout)
        return found

    def _some_pairs(self, function: str, pairs: object, what: str = "its value") -> list[tuple[Any, Any]]:
        found = some_pairs(function, pairs, self._find, what)
        check_of_cluster(function, [variable for variable, _ in found], self.fanout)
        return found

    @overload
    def read_all(  # type: ignore[overload-overlap] # a dictionary is more than what is iterated over
        self,
        variables: Mapping[Key, NamedOrVariable],
        *,
        out: Mapping[Key, Array] | None = None,
        wire_dtype: WireDTypeName | None = None,
        copy: bool = True,
    ) -> dict[Key, Array]: ...
    @overload
    def read_all(
        self,
        variables: Iterable[NamedOrVariable],
        *,
        out: Sequence[Array] | None = None,
        wire_dtype: WireDTypeName | None = None,
        copy: bool = True,
    ) -> list[Array]: ...
    def read_all(
        self,
        variables: Any,
        *,
        out: Any = None,
        wire_dtype: WireDTypeName | None = None,
        copy: bool = True,
    ) -> Any:
        """Returns the values of many variables: one exchange for each ps task, all tasks at once.

        Each value is of one version of its variable (of a partitioned variable, of each of its parts); the variables
        are not read at one instant. New arrays of 64 KiB to 2 MiB lie side by side in blocks of 4 MiB, and a block is
        in use as long as one of them is held; a process keeps up to 256 MiB of blocks to use again.

        Args:
            variables: What to read: a list of variables or of their names, or a dictionary whose values are such.
            out: One array for each variable, of which each is as in ``Variable.read_value`` and no two overlap in
                memory; for a dictionary, one with the same keys. The parts of a variable that is cut along its first
                dimension are read straight into their places. After an error the content of all is undefined.
            wire_dtype: The form in which the values travel, as in ``Variable.read_value``.
            copy: If not, the arrays are read-only, as in ``Variable.read_value``. Over shared memory the memory of all
                values that one ps task has sent is in use as long as one of them is held.

        Returns:
            One array for each variable: those of ``out``, or new ones; for a dictionary, one with the same keys.

        Raises:
            FailedPreconditionError: One of them has not been initialised.
            InvalidArgumentError: An array does not fit its variable, there are not as many as variables, two overlap,
                or ``variables`` holds anything else, or a variable of another cluster.
            NotFoundError: There is no variable of a name.
        """
        if isinstance(variables, Mapping):
            outs = None if out is None else _in_order_of(variables, out)
            values = self.read_all(list(variables.values()), out=outs, wire_dtype=wire_dtype, copy=copy)
            return dict(zip(variables, values, strict=True))
        whole = self._some("read_all", variables)
        reads = [each.whole_read(array, wire_dtype, view=not copy) for each, array in _with_outs(whole, out)]
        return part_reads.read(self.fanout, reads)

    @overload
    def read_all_if_newer(  # type: ignore[overload-overlap] # as above
        self,
        variables: Mapping[Key, NamedOrVariable],
        versions: Mapping[Key, AnyVersion | None],
        *,
        out: Mapping[Key, Array] | None = None,
        wire_dtype: WireDTypeName | None = None,
    ) -> dict[Key, AnyVersionedValue | None]: ...
    @overload
    def read_all_if_newer(
        self,
        variables: Iterable[NamedOrVariable],
        versions: Iterable[AnyVersion | None],
        *,
        out: Sequence[Array] | None = None,
        wire_dtype: WireDTypeName | None = None,
    ) -> list[AnyVersionedValue | None]: ...
    def read_all_if_newer(
        self,
        variables: Any,
        versions: Any,
        *,
        out: Any = None,
        wire_dtype: WireDTypeName | None = None,
    ) -> Any:
        """Reads those of many variables that have changed, otherwise as ``read_all``.

        Args:
            variables: What to read.
            versions: For each the version known, as for its ``read_if_newer``; for a dictionary, one with its keys.
            out: As in ``read_all``. The arrays of variables that have not changed are left as they are.
            wire_dtype: As in ``read_all``.

        Returns:
            For each variable the value and its version, or None if the version is still the one known; for a
            dictionary, one with the same keys.
        """
        if isinstance(variables, Mapping):
            outs = None if out is None else _in_order_of(variables, out)
            known = _in_order_of(variables, versions, "`versions`")
            found = self.read_all_if_newer(list(variables.values()), known, out=outs, wire_dtype=wire_dtype)
            return dict(zip(variables, found, strict=True))
        whole, known = self._some("read_all_if_newer", variables), list(versions)
        if len(known) != len(whole):
            raise InvalidArgumentError(
                f"there are {len(whole)} variables, but {len(known)} versions; give one for each"
            )
        reads = [each.whole_read(array, wire_dtype) for each, array in _with_outs(whole, out)]
        parts = [each.part_versions(version) for each, version in zip(whole, known, strict=True)]
        newer = part_reads.read_if_newer(self.fanout, reads, parts)
        return [None if each is None else variable.versioned(each) for variable, each in zip(whole, newer, strict=True)]

    @overload
    def mirror(
        self,
        variables: Mapping[Key, NamedOrVariable],
        *,
        trained_by: Sequence[str] = (),
        out: Mapping[Key, Array] | None = None,
    ) -> Mirror: ...
    @overload
    def mirror(
        self,
        variables: Iterable[NamedOrVariable],
        *,
        trained_by: Sequence[str] = (),
        out: Sequence[Array] | None = None,
    ) -> Mirror: ...
    def mirror(self, variables: Any, *, trained_by: Sequence[str] = (), out: Any = None) -> Mirror:
        """Returns copies of many variables, read now; ``pull`` reads what has changed in place.

        Args:
            variables: Which; those of a dictionary come in its order.
            trained_by: Names of optimizers with ``sync`` by which others train them: then what is read is one round, on
                all ps tasks. Those of this connection need not be named.
            out: One array for each variable, as in ``read_all``, which the mirror keeps and reads into: the memory of a
                model, say. They stay the caller's, and change with each pull; those that are not in C order are read
                over a temporary array. Without it the mirror makes new ones.

        Raises:
            FailedPreconditionError: One of them has not been initialised.
            InvalidArgumentError: An array of ``out`` does not fit, as in ``read_all``.
        """
        outs = _in_order_of(variables, out) if isinstance(variables, Mapping) and out is not None else out
        whole = self._some("mirror", _in_a_row(variables))
        if outs is not None:
            outs = [array for _, array in _with_outs(whole, outs)]
        mirror = Mirror(self.fanout, whole, trained_by, outs)
        mirror.pull()
        return mirror

    @overload
    def gather_all(  # type: ignore[overload-overlap] # as above
        self,
        pairs: Mapping[Key, npt.ArrayLike],
        *,
        out: Mapping[Key, Array] | None = None,
        wire_dtype: WireDTypeName | None = None,
    ) -> dict[Key, Array]: ...
    @overload
    def gather_all(
        self,
        pairs: Iterable[Pair],
        *,
        out: Sequence[Array] | None = None,
        wire_dtype: WireDTypeName | None = None,
    ) -> list[Array]: ...
    def gather_all(
        self,
        pairs: Any,
        *,
        out: Any = None,
        wire_dtype: WireDTypeName | None = None,
    ) -> Any:
        """Returns rows of many variables, given with their indices as for ``Variable.gather``.

        It makes one exchange for each ps task, all tasks at once; otherwise as ``read_all``. A dictionary from
        variables, or their names, to indices gives one with the same keys.

        Raises:
            InvalidArgumentError: An index is out of range, or an array of ``out`` does not fit, or overlaps any of
                the indices in memory.
            DTypeMismatchError: Indices are not integers.
        """
        if isinstance(pairs, Mapping):
            in_order = None if out is None else _in_order_of(pairs, out)
            found = self.gather_all(list(pairs.items()), out=in_order, wire_dtype=wire_dtype)
            return dict(zip(pairs, found, strict=True))
        asked = self._some_pairs("gather_all", pairs, "its indices")
        outs = [each for _, each in _with_outs([variable for variable, _ in asked], out)]
        reads = [variable.rows_read(rows, each, wire_dtype) for (variable, rows), each in zip(asked, outs, strict=True)]
        check_not_read(
            [
                (each, variable.whole_spec.name)
                for (variable, _), each in zip(asked, outs, strict=True)
                if each is not None
            ],
            [indices for each in reads for indices in each.indices],
        )
        return part_rows.read(self.fanout, reads)

    @overload
    def assign_add_all(
        self,
        pairs: Pairs,
        *,
        wait: Literal[True] = True,
        wire_dtype: WireDTypeName | None = None,
        completes: Completes | None = None,
    ) -> None: ...
    @overload
    def assign_add_all(
        self, pairs: Pairs, *, wait: Literal[False], wire_dtype: WireDTypeName | None = None
    ) -> Future[None]: ...
    def assign_add_all(
        self,
        pairs: Pairs,
        *,
        wait: bool = True,
        wire_dtype: WireDTypeName | None = None,
        completes: Completes | None = None,
    ) -> Future[None] | None:
        """Adds to many variables: one exchange for each ps task, all tasks at once.

        All deltas are checked before any is sent. Each addition is atomic, all together are not.

        Args:
            pairs: Variables, or their names, and their deltas, as for ``Variable.assign_add``, or ``IndexedSlices`` for
                some rows: pairs, or a dictionary.
            wait: Whether to wait until all are applied. If not, the deltas are copied and a future is returned.
            wire_dtype: The form in which the deltas travel, as in ``Variable.assign_add``.
            completes: As in ``Variable.assign_add``.
        """
        return self._update_all(UpdateRule.ASSIGN_ADD, pairs, wait, wire_dtype, completes)

    @overload
    def assign_all(
        self, pairs: Pairs, *, wait: Literal[True] = True, wire_dtype: WireDTypeName | None = None
    ) -> None: ...
    @overload
    def assign_all(
        self, pairs: Pairs, *, wait: Literal[False], wire_dtype: WireDTypeName | None = None
    ) -> Future[None]: ...
    def assign_all(
        self, pairs: Pairs, *, wait: bool = True, wire_dtype: WireDTypeName | None = None
    ) -> Future[None] | None:
        """Replaces the values of many variables; otherwise as ``assign_add_all``."""
        return self._update_all(UpdateRule.ASSIGN, pairs, wait, wire_dtype)

    def _update_all(
        self,
        rule: UpdateRule,
        pairs: Pairs,
        wait: bool,
        wire_dtype: WireDTypeName | None,
        completes: Completes | None = None,
    ) -> Future[None] | None:
        exchange = exchange_of(self.fanout, completes, wait=wait)
        updates: list[Any] = []
        of_rows: list[Routed] = []
        for variable, value in self._some_pairs(f"{rule.name.lower()}_all", pairs):
            adds = rule is UpdateRule.ASSIGN_ADD
            if adds and not is_number(variable.whole_spec.dtype):  # a ps would refuse it when others have added theirs
                raise not_computable(variable.whole_spec, rule.name.lower())
            if adds and isinstance(value, IndexedSlices):
                of_rows += variable.part_scatters(ScatterRule.ADD, value, copy=not wait, wire_dtype=wire_dtype)
            else:
                updates += variable.part_updates(rule, value, copy=not wait, wire_dtype=wire_dtype)
        routed = pushes.prepared(updates)
        if not wait:
            return pushes.send_all_later(self.fanout, routed, of_rows)
        pushes.send_all(exchange, routed, of_rows)
        return None

    @overload
    def push_buffers(self, variables: Mapping[Key, NamedOrVariable]) -> dict[Key, Array]: ...  # type: ignore[overload-overlap] # as above
    @overload
    def push_buffers(self, variables: Iterable[NamedOrVariable]) -> list[Array]: ...
    def push_buffers(self, variables: Any) -> Any:
        """Returns an array to compute updates in for each variable, as ``Variable.push_buffer``.

        Those of a dictionary come as one with the same keys. That of a variable of several parts is an ordinary array:
        no memory is shared with several ps tasks.
        """
        if isinstance(variables, Mapping):
            return dict(zip(variables, self.push_buffers(list(variables.values())), strict=True))
        return [variable.push_buffer() for variable in self._some("push_buffers", variables)]


def _in_a_row(variables: object) -> object:
    return list(variables.values()) if isinstance(variables, Mapping) else variables


def _with_outs(
    variables: Sequence[EagerVariable], outs: Sequence[Array] | None
) -> list[tuple[EagerVariable, Array | None]]:
    """Pairs variables with the arrays to read them into; InvalidArgumentError if those are not usable together."""
    if outs is None:
        return [(variable, None) for variable in variables]
    if not isinstance(outs, Sequence):
        raise InvalidArgumentError(f"`out` takes a list with one array for each variable, not {type(outs).__name__}")
    if len(outs) != len(variables):
        raise InvalidArgumentError(
            f"there are {len(variables)} variables, but {len(outs)} arrays in `out`; give one each"
        )
    pairs: list[tuple[EagerVariable, Array | None]] = list(zip(variables, outs, strict=True))
    check_disjoint(outs, [variable.whole_spec.name for variable in variables])
    return pairs


def _in_order_of(variables: Mapping[Any, Any], given: object, what: str = "`out`") -> list[Any]:
    """Returns what a dictionary has for each variable of another, in the order of the latter."""
    if not isinstance(given, Mapping) or given.keys() != variables.keys():
        raise InvalidArgumentError(f"the variables are given as a dictionary; give {what} as one with the same keys")
    return [given[key] for key in variables]
