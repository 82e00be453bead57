"""How one connection takes data shards, and what its threads have taken and not handed in."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from ps_protocol.errors import (
    InternalError,
)
from ps_protocol.forks import new_lock
from ps_protocol.operations import Declare, VariableSpec
from ps_protocol.service_types import Member, Proposal
from ps_protocol.shared_objects import OBJECT_DTYPE, OBJECTS_PS_TASK, Act, Json, encode_json
from ps_protocol.training.data_shards import (
    RECEIPTS_KIND,
    SHARDS_KIND,
    receipts_name,
)
from worker_client.connection.fanout import Fanout, Routed, succeeded
from worker_client.objects.departures import LOOK_EVERY_S, Unheard
from worker_client.objects.shared_object import SharedObject, opening

_ANSWER_BYTES: Final = 4096


class Taken(Protocol):
    """A shard that was taken."""

    @property
    def busy_with(self) -> tuple[int, int] | None:
        """Its epoch and its place in that, as long as this worker has it and it is not complete."""
        ...


class Taking:
    """How one connection takes shards of a name. Thread-safe.

    Args:
        shared: The object.
        fanout: The way to the ps tasks.
        num_ps: How many there are.
        name: Of the shards.
        settings: What they are made with.
        task: This client's task, as "worker:1".
        identity: Of this client, where the cluster lists none.
        lease_s: How long it may be silent, in seconds.
        list_members: Lists the members of the cluster.

    Attributes:
        groups: Names of those that train together in whose rounds pieces of these were handed in.
    """

    def __init__(
        self,
        shared: SharedObject,
        fanout: Fanout,
        *,
        num_ps: int,
        name: str,
        settings: Json,
        task: str,
        identity: str,
        lease_s: float,
        list_members: Callable[[], Sequence[Member]],
    ):
        self.shared: Final = shared
        self.fanout: Final = fanout
        self.name: Final = name
        self.settings: Final = settings
        self.task: Final = task
        self.store: Final = shared.store
        self.list_members: Final = list_members
        self._lease_s = lease_s
        self._num_ps = num_ps
        own = [each for each in list_members() if each.task == task]
        self._id = str(own[0].incarnation) if own else identity
        self._process = f"{own[0].host}:{own[0].pid}" if own else f"process {os.getpid()}"
        self._open_receipts(settings)
        self.unheard: Final = Unheard()
        self.groups: Final[set[str]] = set()  # an addition, and a look into it, are atomic
        self._lock = new_lock()  # guards: all below
        self._looked_s = -LOOK_EVERY_S
        self._busy: dict[threading.Thread, Taken] = {}
        self._dropped: dict[int, tuple[int, list[int]]] = {}  # by ps task, receipts that are not needed any more

    def _open_receipts(self, settings: Json) -> None:
        tasks = [each for each in range(self._num_ps) if each != OBJECTS_PS_TASK]
        specs = [
            VariableSpec(receipts_name(self.name, each), OBJECT_DTYPE, (), object_kind=RECEIPTS_KIND) for each in tasks
        ]
        if not specs:
            return
        directory = self.fanout.handle(OBJECTS_PS_TASK)
        placements = directory.call(
            lambda service, timeout_s: service.place(
                [Proposal(spec, ps_task) for spec, ps_task in zip(specs, tasks, strict=True)],
                store=directory.welcome.store,
                timeout_s=timeout_s,
            ),
            what=f"to say where the receipts of {self.name} are",
        )
        for spec, ps_task, placement in zip(specs, tasks, placements, strict=True):
            if succeeded(placement).ps_task != ps_task:
                raise InternalError(f"variable {spec.name} is on ps:{succeeded(placement).ps_task}, not ps:{ps_task}")
        self.fanout.run_all(
            [
                Routed(ps_task, operation)
                for spec, ps_task in zip(specs, tasks, strict=True)
                for operation in (Declare(spec), opening(spec, settings, self.task))
            ]
        )

    def should_look(self) -> bool:
        """Whether it is time to look again who is gone; then that counts as done."""
        now_s = time.monotonic()
        with self._lock:
            if now_s - self._looked_s < LOOK_EVERY_S:
                return False
            self._looked_s = now_s
        return True

    # -- events -------------------------------------------------------------------------------

    def hand_in(self, event: Json) -> Routed:
        """What goes to ps task 0 before its part of an update."""
        act = Act(self.shared.name, SHARDS_KIND, encode_json(event))
        return Routed(OBJECTS_PS_TASK, act, _ANSWER_BYTES)

    def receipt(self, ps_task: int | None, event: Json) -> Routed:
        """What goes to another ps task before its part."""
        assert ps_task is not None
        with self._lock:
            epoch, dropped = self._dropped.pop(ps_task, (0, []))
        more = {"dropped": dropped} if dropped and epoch == event["epoch"] else {}
        act = Act(receipts_name(self.name, ps_task), RECEIPTS_KIND, encode_json({**event, **more}))
        return Routed(ps_task, act, _ANSWER_BYTES)

    def take(self) -> Json | None:
        """Asks for a shard; returns what the ps has answered."""
        return self.shared.act(
            {
                "do": "take",
                "by": self.task,
                "id": self._id,
                "store": self.shared.store,
                "now": time.time(),
                "lease": self._lease_s,
                "process": self._process,
                "busy": self.busy(),
            }
        )

    def question(self) -> Json:
        """Answered when there is a shard to take, or none will be any more."""
        return {"ask": "take", "id": self._id, "busy": self.busy()}

    def fence(self, place: Json) -> None:
        """Makes sure that no ps task takes anything more from who had the shard before.

        Raises:
            AbortedError: Another worker has it by now.
        """
        event = {"do": "fence", "by": self.task, **{name: place[name] for name in ("epoch", "place", "ticket")}}
        fences = [self.receipt(each, event) for each in range(self._num_ps) if each != OBJECTS_PS_TASK]
        for reply in self.fanout.exchange_all(fences):
            succeeded(reply)

    # -- what this connection works on --------------------------------------------------------

    def busy(self) -> list[int]:
        """The places of those shards that its threads work on."""
        with self._lock:
            shards = [each for thread, each in self._busy.items() if thread.is_alive()]
        found = [each.busy_with for each in shards]
        return sorted([each[1] for each in found if each is not None])

    def of_this_thread(self) -> Taken | None:
        """What this thread has taken and not handed in."""
        with self._lock:
            shard = self._busy.get(threading.current_thread())
        return None if shard is None or shard.busy_with is None else shard

    def taken(self, shard: Taken) -> None:
        """Notes what this thread has taken."""
        with self._lock:
            others = {thread: each for thread, each in self._busy.items() if thread.is_alive()}
            self._busy = {**others, threading.current_thread(): shard}

    def drop(self) -> None:
        """This thread begins anew: what it has taken and not handed in it is given again."""
        with self._lock:
            self._busy.pop(threading.current_thread(), None)

    def forget(self, shard: Taken) -> None:
        """Notes that a thread works on a shard no longer."""
        with self._lock:
            self._busy = {thread: each for thread, each in self._busy.items() if each is not shard}

    def completed(self, shard: Taken, epoch: int, place: int, receipts: Iterable[int]) -> None:
        """Notes a shard that is handed in, and the ps tasks that need no receipt of it any more."""
        self.forget(shard)
        with self._lock:
            for ps_task in receipts:
                before, places = self._dropped.get(ps_task, (epoch, []))
                self._dropped[ps_task] = (epoch, [*(places if before == epoch else ()), place])
