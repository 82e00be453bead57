"""Replays records on the state that the records before them made: after a restart, and on a backup task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from ps_protocol.errors import ShardscopeError
from ps_protocol.operation_kinds import KINDS, Logged, names_of
from ps_protocol.operations import Apply, BatchReply, PsOperation, Reply, Result
from ps_server.batches.remembered_answers import ClientImage
from ps_server.log.records import (
    AppliedBatch,
    ClientJoined,
    ClientLeft,
    Declared,
    LoggedRecord,
    Placed,
    Restored,
    Staged,
)
from ps_server.log.state_parts import StateParts

_NO_DEADLINE_S: Final = 1e9  # no other thread works, so nothing has to wait


class ReplayError(Exception):
    """A record does not fit the state that the records before it made; the message names its position."""


class MissingFunctionError(ReplayError):
    """A record calls a function that this process was started without."""


class Replay:
    """Applies records in order. One thread at a time, while no other thread changes the state; others may ``read``.

    Args:
        parts: Restored from an image, or empty.

    Attributes:
        position: Position of the newest record whose effect is in them.
    """

    def __init__(self, parts: StateParts):
        self._runner = parts.runner
        self._variables = parts.store.variables
        self._ledger = parts.ledger
        self._directory = parts.directory
        self._clock = parts.clock
        self._parts = parts
        self._staged: list[Staged] = []
        self.position = 0

    def apply(self, logged: LoggedRecord) -> None:
        """Carries out the next record.

        Raises:
            MissingFunctionError: It calls a function that this process does not know.
            ReplayError: It is not the next one, or has another effect than the first time.
        """
        if logged.position != self.position + 1:
            raise ReplayError(
                f"record {logged.position} was found where {self.position + 1} should be: records between are missing"
            )
        record = logged.record
        if not isinstance(record, Staged | Restored):
            self._staged.clear()  # of a restore that was given up: nothing comes between those that count
        match record:
            case AppliedBatch():
                self._apply_batch(logged.position, record)
            case Declared():
                self._check(logged.position, record.operation, self._run(record.operation))
                self._variables.find(record.operation.name).position = logged.position
            case Placed():
                self._place(logged.position, record)
            case ClientJoined():
                self._ledger.restore_client(ClientImage(record.client, record.task, 0, 0, ()), self._clock())
            case Staged():
                self._stage(logged.position, record)
            case Restored():
                self._switch(logged.position, record)
            case ClientLeft():
                self._ledger.restore_departure(record.client, record.reason)
        self.position = logged.position

    def read(self, operations: Sequence[PsOperation], deadline_s: float, *, lend_values: bool) -> BatchReply:
        """Carries out a batch that changes nothing, between two records: it sees each of them whole or not at all.

        Arguments and errors are those of ``BatchRunner.read``.
        """
        with self._variables.locked(names_of(operations)):
            return self._runner.read(operations, deadline_s, lend_values=lend_values)

    def _apply_batch(self, position: int, record: AppliedBatch) -> None:
        with self._variables.locked(names_of(record.operations)):
            for operation, recorded in zip(record.operations, record.reply.replies, strict=True):
                # A refused operation has changed nothing; a Describe stands for one that has a record of its own.
                if isinstance(recorded, Result) and KINDS[type(operation)].logged is Logged.AS_ITSELF:
                    self._run_again(position, operation, recorded)
        self._ledger.restore_answer(record.client, record.sequence, record.reply, record.checksum)

    def _run_again(self, position: int, operation: PsOperation, recorded: Result) -> None:
        self._check_function(position, operation)
        reply = self._run(operation)
        self._check(position, operation, reply)
        if isinstance(reply, Result) and reply.version != recorded.version:
            raise ReplayError(
                f"record {position} took variable {operation.name} to version {recorded.version}, but takes it to "
                f"{reply.version} now"
            )
        for variable in self._variables.find_all(operation):
            variable.position = position

    def _check_function(self, position: int, operation: PsOperation) -> None:
        if isinstance(operation, Apply) and not self._runner.calls.knows(operation.function):
            raise MissingFunctionError(
                f"record {position} calls the function {operation.function!r} on variable {operation.name}, which this "
                f"process does not know; start it with the --functions module that has it, as before"
            )

    def _run(self, operation: PsOperation) -> Reply:
        return self._runner.run([operation], _NO_DEADLINE_S).replies[0]

    @staticmethod
    def _check(position: int, operation: PsOperation, reply: Reply) -> None:
        if isinstance(reply, ShardscopeError):
            raise ReplayError(
                f"record {position} cannot be carried out again on variable {operation.name}: {reply.message}"
            ) from reply

    def _stage(self, position: int, record: Staged) -> None:
        spec, value = record.image.spec, record.image.value
        if value is not None:
            if value.shape != spec.shape or value.dtype != spec.dtype:
                raise ReplayError(f"record {position} has a value for variable {spec} that does not fit it")
            value = np.array(value, order="C")  # the record's lies in memory that is used again
        if self._staged and self._staged[0].restore != record.restore:
            self._staged.clear()
        self._staged.append(replace(record, image=replace(record.image, value=value)))

    def _switch(self, position: int, record: Restored) -> None:
        before, mark = self._parts.restored, record.mark
        staged = [each.image for each in self._staged if each.restore == mark.restore]
        self._staged.clear()
        if before is not None and before.restore == mark.restore:
            self._parts.restored = mark
            return
        for image in staged:
            self._variables.take_memory(image.spec)
        self._parts.switch(staged, mark, record.placements, position)

    def _place(self, position: int, record: Placed) -> None:
        if self._directory is None:
            raise ReplayError(f"record {position} is of the directory of placements, which only ps:0 keeps")
        self._directory.restore(record.placements)
