"""What a task does more when its state is to survive its process: records, images, and waiting until both are safe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from ps_protocol.errors import ShardscopeError
from ps_protocol.fault_points import fault_point
from ps_protocol.operations import Batch, BatchReply
from ps_protocol.service_types import Placement, Proposal
from ps_server.batch_runner import BatchRunner
from ps_server.commit_log import CommitLog
from ps_server.cut_gate import CutGate
from ps_server.directory import Directory
from ps_server.durable_batches import DurableBatches
from ps_server.durable_store import DurableStore
from ps_server.records import ClientJoined, ClientLeft, LoggedRecord, Placed
from ps_server.replay import Replay
from ps_server.state_image import StateImage
from ps_server.update_ledger import GOODBYE, UpdateLedger

_CLIENT_BYTES: Final = 256
_PLACEMENT_BYTES: Final = 256


class Durability:
    """Keeps the records of one task. Thread-safe once it has been started.

    First the state is brought back: ``restore`` once, ``replay`` for each record after it, ``start``. Then the task
    serves.

    Args:
        store: Empty.
        runner: Carries out operations on it.
        ledger: Empty.
        directory: Empty; None on tasks that keep none.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        store: DurableStore,
        runner: BatchRunner,
        ledger: UpdateLedger,
        directory: Directory | None,
        clock: Callable[[], float],
    ):
        self._store = store
        self._runner = runner
        self._ledger = ledger
        self._directory = directory
        self._clock = clock
        self._gate = CutGate()
        self._replay = Replay(store, runner, ledger, directory, now_s=clock())
        self._log: CommitLog | None = None
        self._batches: DurableBatches | None = None

    # -- before the task serves ---------------------------------------------------------------

    def restore(self, image: StateImage) -> None:
        """Brings back what an image holds; its arrays become the store's own.

        Raises:
            ResourceExhaustedError: The variables are beyond the memory limit.
        """
        for variable in image.variables:
            self._store.restore(variable)
        for client in image.clients:
            self._ledger.restore_client(client, self._clock())
        for gone, reason in image.departed:
            self._ledger.restore_departure(gone, reason)
        if self._directory is not None:
            self._directory.restore(image.placements)
        self._replay.position = image.position

    def replay(self, record: LoggedRecord) -> None:
        """Carries out the next record; ReplayError if it is not, or does not do what it did the first time."""
        self._replay.apply(record)

    @property
    def replayed_position(self) -> int:
        """Position of the newest record that was brought back."""
        return self._replay.position

    def start(self, log: CommitLog) -> None:
        """Keeps records in a log from here on, which begins after ``replayed_position``. The log stays the caller's."""
        self._log = log
        for client in self._ledger.images():
            self._ledger.check_known(client.client, self._clock())  # its idle time begins anew
        self._store.note = log.append
        if self._directory is not None:
            self._directory.note = self._note_placements
        self._batches = DurableBatches(self._store, self._runner, log, task=self._runner.task, clock=self._clock)

    # -- while it serves ----------------------------------------------------------------------

    @property
    def log(self) -> CommitLog:
        """The log that was started."""
        if self._log is None:
            raise RuntimeError("the task's state is still being brought back")
        return self._log

    def exchange(self, batch: Batch, deadline_s: float, now_s: float, *, lend_values: bool) -> BatchReply:
        """Carries out a batch; returns when its effect, and all that the reply depends on, is safe.

        Raises:
            DeadlineExceededError: It was not safe in time; asked again, the ledger gives the answer.
            ResourceExhaustedError: Too much waits to be made safe; nothing was applied.
            ShardscopeError: As the ledger raises.
        """
        if self._batches is None:
            raise RuntimeError("the task's state is still being brought back")
        batches, log, operations = self._batches, self.log, batch.operations
        if not batch.mutates:
            return batches.read(operations, deadline_s, lend_values=lend_values)
        position = 0

        def apply() -> BatchReply:
            nonlocal position
            reply, position = batches.apply(batch.client, batch.sequence, operations, deadline_s, room)
            return reply

        with batches.reserve(operations, deadline_s) as room, self._gate.passed(self._remaining_s(deadline_s)):
            reply = self._ledger.apply_once(
                batch.client, batch.sequence, apply, timeout_s=self._remaining_s(deadline_s), now_s=now_s
            )
        # Of an answer that is given again it is not known which record it belongs to: it is one of those there are.
        log.wait_committed(position or log.last_position, self._remaining_s(deadline_s))
        fault_point("batch.before_reply")
        return reply

    def place(
        self, directory: Directory, proposals: Sequence[Proposal], timeout_s: float
    ) -> list[Placement | ShardscopeError]:
        """Asks the directory; returns when what it has recorded is safe."""
        deadline_s = self._clock() + timeout_s
        with self._gate.passed(timeout_s):
            placements = directory.place(proposals)
        self.wait_for_all(self._remaining_s(deadline_s))
        return placements

    def hello(self, client: UUID, task: str, timeout_s: float) -> None:
        """Makes a client known, and safely so."""
        deadline_s = self._clock() + timeout_s
        with self._gate.passed(timeout_s):
            if self._ledger.hello(client, task, self._clock()):
                self.log.append(ClientJoined(client, task), _CLIENT_BYTES)
        self.wait_for_all(self._remaining_s(deadline_s))

    def goodbye(self, client: UUID, timeout_s: float) -> None:
        """Forgets a client; that a crash may bring it back does no harm."""
        with self._gate.passed(timeout_s):
            if self._ledger.goodbye(client):
                self.log.append(ClientLeft(client, GOODBYE), _CLIENT_BYTES)

    def wait_for_all(self, timeout_s: float) -> None:
        """Waits until everything appended so far is safe; DeadlineExceededError if it is not in time."""
        self.log.wait_committed(self.log.last_position, timeout_s)

    def take_image(self, timeout_s: float) -> StateImage:
        """Returns the whole state as of one position; changes are held back for as long as it takes to lend all values.

        Raises:
            DeadlineExceededError: Changes that had begun did not end in time.
        """
        with self._gate.cut(timeout_s):
            return StateImage(
                self.log.last_position,
                self._store.images(),
                self._ledger.images(),
                self._ledger.departures(),
                () if self._directory is None else self._directory.in_order(),
            )

    def _note_placements(self, placements: Sequence[Placement]) -> None:
        self.log.append(Placed(tuple(placements)), _PLACEMENT_BYTES * len(placements))

    def _remaining_s(self, deadline_s: float) -> float:
        return deadline_s - self._clock()
