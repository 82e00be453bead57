"""The updates of a step, each carried out once, also if another task finishes the step of one that has died."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from ps_protocol.operations import Array
from ps_protocol.shared_objects import Act, Json, encode_json
from ps_protocol.training.round_operations import STEP_RECEIPTS_KIND
from worker_client.connection.fanout import Routed
from worker_client.graph.computation import TrainingHome
from worker_client.objects.shared_object import ObjectConnection

_ANSWER_BYTES: Final = 4096

_MOST_NOTED_BYTES: Final = 64
"""Of a value that is noted: powers and rates, from which the updates of other variables follow."""


class Receipts:
    """What each ps task knows of the updates that it has carried out. For one thread.

    Args:
        home: Of the session.
        name: Of the queue of tokens.
    """

    def __init__(self, home: TrainingHome, name: str):
        self._home = home
        self._name = name
        self._opened: dict[int | None, ObjectConnection] = {}

    def before(self, ps_task: int | None, event: Json) -> Routed:
        """Returns what goes to a ps task before its part of an update."""
        name = self._on(ps_task).name
        return Routed(ps_task, Act(name, STEP_RECEIPTS_KIND, encode_json(event)), _ANSWER_BYTES)

    def fence(self, ps_task: int | None, ticket: int) -> Json:
        """Has a ps task carry out nothing more for those who have made the steps before; returns what it has."""
        answer = self._on(ps_task).act({"do": "fence", "ticket": ticket})
        assert answer is not None
        return answer

    def _on(self, ps_task: int | None) -> ObjectConnection:
        if ps_task not in self._opened:
            name = f"receipts/{self._name}/{ps_task}"
            self._opened[ps_task] = self._home.opened_on(ps_task, name, STEP_RECEIPTS_KIND)
        return self._opened[ps_task]


class StepUpdates:
    """The updates of one run that makes a step. Used once, by one thread.

    Args:
        receipts: Those of the session.
        of: Which step it is.
        ticket: With which it is made.
        reads_again: Whether what was read before it was known which step it is may have changed.
        noted: What was read for it by who has begun it, as hexadecimal digits.
        ended: Called when the run has ended, with what it has failed of.
    """

    def __init__(
        self,
        receipts: Receipts,
        of: str,
        ticket: int,
        *,
        reads_again: bool,
        noted: Mapping[str, str],
        ended: Callable[[BaseException | None], None],
    ):
        self._receipts = receipts
        self._event: Final = {"do": "update", "of": of, "ticket": ticket}
        self.reads_again = reads_again
        self._noted = noted
        self._ended = ended
        self._part = 0

    def guards(self, ps_tasks: Iterable[int | None], noted: Mapping[str, Array]) -> Sequence[Any]:
        """Returns what goes before the updates that are made now."""
        small = {name: each.tobytes().hex() for name, each in noted.items() if each.nbytes <= _MOST_NOTED_BYTES}
        event = {**self._event, "part": self._part, "noted": small}
        self._part += 1
        return [self._receipts.before(each, event) for each in sorted([each for each in ps_tasks if each is not None])]

    def as_read_before(self, name: str, value: Array) -> Array:
        """Returns what was read by who has begun the step; else the value that is given."""
        noted = self._noted.get(name)
        return value if noted is None else np.frombuffer(bytes.fromhex(noted), value.dtype).reshape(value.shape)

    def end(self, error: BaseException | None) -> None:
        """The run has ended."""
        self._ended(error)
