"""The parts of one ps task's state.

To add a part: its image is a field of ``StateImage``, taken and restored below; each of its changes is a kind of
``Record``, which is appended before any client can see the change, and which ``Replay`` carries out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from ps_protocol.cluster_spec import PS_JOB, ClusterSpec, TaskId
from ps_protocol.fault_points import fault_point
from ps_protocol.service_types import Placement
from ps_protocol.training.round_operations import NOT_SAVED
from ps_server.background.loops import Troubles
from ps_server.batches.runner import BatchRunner
from ps_server.batches.update_ledger import LedgerLimits, UpdateLedger
from ps_server.cluster.directory import Directory
from ps_server.log.records import ClientJoined, ClientLeft, Declared, Placed, Record
from ps_server.log.restore_mark import RestoreMark
from ps_server.log.state_image import StateImage
from ps_server.rules.built_in_functions import BUILT_IN_FUNCTIONS
from ps_server.rules.functions import Functions
from ps_server.store.stored_variable import VariableImage
from ps_server.store.variable_store import VariableStore

AppendRecord = Callable[[Record], int]
"""Appends a record to the log, and returns its position."""


class StateParts:
    """The parts, all empty. Each is thread-safe; ``restore`` and ``keep_records`` come before any client.

    Args:
        cluster_spec: The cluster; must have ps tasks.
        task_index: Which ps task this is; task 0 keeps the directory.
        memory_limit_bytes: The most that the values may take together; 0 for no limit.
        second_limit_bytes: The most that second values take beside a save; None for a part of the values.
        ledger_limits: What is remembered of updates; None for the defaults.
        clock: Monotonic seconds.
        functions: Those that operations can call by name.

    Attributes:
        store: The variables.
        runner: Carries out operations on them.
        ledger: The clients, and the answers to their updates.
        directory: Where variables are; None on tasks that keep none.
        restored: The newest restore of a checkpoint; None if there was none. Set and read as a whole.
        troubles: What troubles the task's work in the background, which is no part of the state.

    Raises:
        ValueError: The cluster spec has no ps tasks, or none of this index.
    """

    def __init__(
        self,
        cluster_spec: ClusterSpec,
        task_index: int,
        *,
        memory_limit_bytes: int = 0,
        second_limit_bytes: int | None = None,
        ledger_limits: LedgerLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        functions: Functions = BUILT_IN_FUNCTIONS,
    ):
        cluster_spec.task_address(PS_JOB, task_index)
        self.task: Final = str(TaskId(PS_JOB, task_index))
        self.clock: Final = clock
        self.troubles: Final = Troubles()
        self._append: AppendRecord = lambda _record: 0
        self.store: Final = VariableStore(
            memory_limit_bytes=memory_limit_bytes,
            second_limit_bytes=second_limit_bytes,
            note=lambda operation: self._append(Declared(operation)),
        )
        self.runner: Final = BatchRunner(self.store, task=self.task, clock=clock, functions=functions)
        self.restored: RestoreMark | None = None
        self.ledger: Final = UpdateLedger(
            ledger_limits,
            note_gone=lambda client, reason: self._append(ClientLeft(client, reason)),
            note_back=lambda client, task: self._append(ClientJoined(client, task)),
        )
        num_ps = len(cluster_spec.ps_addresses())
        self.directory: Final = (
            None if task_index else Directory(num_ps, note=lambda new: self._append(Placed(tuple(new))))
        )

    def image(self, position: int) -> StateImage:
        """The image of all parts, as of a record; called while nothing changes them. Large values are lent."""
        return StateImage(
            position,
            self.store.variables.images(),
            self.ledger.images(),
            self.ledger.departures(),
            () if self.directory is None else self.directory.in_order(),
            self.restored,
        )

    def restore(self, image: StateImage) -> None:
        """Restores an image; its arrays become values of the store.

        Raises:
            ResourceExhaustedError: The variables are beyond the memory limit.
        """
        for variable in image.variables:
            self.store.variables.restore(variable)
        for client in image.clients:
            self.ledger.restore_client(client, self.clock())
        for gone, reason in image.departed:
            self.ledger.restore_departure(gone, reason)
        if self.directory is not None:
            self.directory.restore(image.placements)
        self.restored = image.restored

    def switch(
        self, images: Sequence[VariableImage], mark: RestoreMark, placements: Sequence[Placement], position: int
    ) -> None:
        """Puts what a restore has staged in the place of what is there; called while nothing changes the parts.

        Batches that only read go on meanwhile. The mark is there before the first value is, so that a read that has
        seen one finds another incarnation of the store behind it, and is refused.

        Args:
            images: The variables, whose memory has been counted; their arrays become values of the store.
            mark: Of the restore.
            placements: What the directory has besides, if there is one.
            position: Of the record about it.
        """
        self.restored = mark
        for image in images:
            fault_point("restore.switching")
            self.store.variables.put(image, position)
        self.store.variables.empty(NOT_SAVED, position)
        if self.directory is not None:
            self.directory.restore(placements)

    def keep_records(self, append: AppendRecord) -> None:
        """From here on appends a record of each change outside of batches; the part's lock is held then."""
        self._append = append
