"""The state of a process of a pair that is on its disk as well, with the note of which member it is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from ps_server.durability.task import DurableTask
from ps_server.log.commit_log import CommitLog, RecordSink
from ps_server.log.records import LoggedRecord
from ps_server.log.state_image import StateImage
from ps_server.replication.member import Member, MemberFile, Part

_LOG = logging.getLogger(__name__)


class KeptState:
    """A ``follower.FollowedState`` that is on disk before the primary is answered. Thread-safe, but for its end.

    Args:
        durable: The state; owned.
        notes: Which member it is; the number has been drawn.
        returns: Whether the state was brought back, and may be of a member that is in the register.
    """

    is_on_disk: Final = True

    def __init__(self, durable: DurableTask, notes: MemberFile, *, returns: bool):
        self._durable = durable
        self.notes: Final = notes
        self.returns: Final = returns

    @property
    def member(self) -> Member:
        """Which member it is, as it was noted."""
        member = self.notes.member
        assert member is not None
        return member

    # -- while it follows ---------------------------------------------------------------------

    @property
    def replayed_position(self) -> int:
        return self._durable.state.replayed_position

    def adopt(self, store: UUID) -> None:
        # A process that ends before it has all of the state is no member, and must not take this for its own.
        self.notes.write(replace(self.member, epoch=0, part=Part.CATCHING_UP))
        self._durable.on_disk.directory.adopt_store_incarnation(store)
        self._durable.state.adopt(store)

    def restore(self, image: StateImage) -> None:
        try:
            self._durable.restore(image)
        except OSError:
            if self._durable.on_disk.directory.remove_what_was_set_aside():
                _LOG.warning("removed what was set aside, since the disk has no room for the primary's state")
            raise

    def replay(self, record: LoggedRecord) -> None:
        self._durable.replay(record)

    def make_safe(self) -> int:
        return self._durable.make_safe()

    # -- while it is served -------------------------------------------------------------------

    def serve(
        self, more_sinks: Sequence[RecordSink], *, on_fatal: Callable[[BaseException], None], is_given_up: bool
    ) -> CommitLog:
        """Starts the log; see ``DurableTask.serve``.

        Args:
            more_sinks: The link to the backup.
            on_fatal: Must end the process.
            is_given_up: Whether the state that the task had is given up, but for what is here of it.
        """
        loss, position = "", self._durable.last_position
        if is_given_up and position:
            self._durable.on_disk.directory.renew_store_incarnation()
            loss = f"the operator has let it go on with the state that one of its disks had, up to record {position}"
        return self._durable.serve(on_fatal=on_fatal, more_sinks=more_sinks, loss=loss).log

    def close(self, *, drained: bool, timeout_s: float) -> bool:
        """See ``DurableTask.close``."""
        return self._durable.close(drained=drained, timeout_s=timeout_s)
