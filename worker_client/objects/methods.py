"""What a connection offers for shared objects."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex
from uuid import UUID

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import InvalidArgumentError, PermissionDeniedError
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.service_types import Member
from ps_protocol.settings import POSITIVE_SECONDS
from ps_protocol.shared_objects import OBJECTS_PS_TASK, Json
from ps_protocol.task_id import TaskId
from ps_protocol.training.data_shards import NAMES, NAMES_KIND, SHARDS_KIND, shards_name
from worker_client.connection.fanout import Fanout
from worker_client.connection.handle import PsHandle
from worker_client.connection.settings import Settings
from worker_client.objects.barrier import WORKER_JOBS, Barrier
from worker_client.objects.departures import Departures, described
from worker_client.objects.shard_taking import Taking
from worker_client.objects.shared_object import ObjectConnection, SharedObject, WaitPlaces
from worker_client.objects.training_group import TAKING_PART
from worker_client.objects.training_report import NamedOptimizer, TrainingReport, named, training_report, wait_for_end


class SharedObjectMethods:
    """Methods of a connection, which has what they need. Thread-safe."""

    cluster_spec: ClusterSpec
    task: TaskId
    incarnation: UUID
    observer: Any
    settings: Settings
    fanout: Fanout
    _handles: Sequence[PsHandle]
    _wait_places: WaitPlaces
    _barriers: dict[str, Barrier]
    _shards: dict[str, Taking]
    _departures: Departures | None = None

    def barrier(self, name: str, timeout_s: float = 600.0, *, count: SupportsIndex | None = None) -> None:
        """Waits until all workers of the cluster have come to the barrier of that name, or so many of them.

        It can be used again and again: who comes after a meeting waits for the next one. A worker counts once, also
        when its reply was lost, or a ps was started again meanwhile; the ps task must have a journal or a backup for
        that, as for its variables. Who is missing is said in the log now and then.

        Workers that had died or left before this one has joined are waited for: they may be of an earlier run.

        After an interrupt, by Ctrl-C say, the worker is not waited for any more. If the others had met before, its next
        call returns at once, since it has met them.

        Args:
            name: Of the barrier.
            timeout_s: How long to wait for the others, in seconds. A ps task that is away is waited for besides, as
                operations wait for it.
            count: How many workers it takes; None for all of the cluster spec. All have to give the same.

        Raises:
            DeadlineExceededError: Not all have come in time; it says who is missing. This worker is not counted then.
            AbortedError: Workers have died or left, so that not enough others can come: all who wait are told so, with
                who that is and when it was last seen. Or another process is this task too, and has come in its place.
            InvalidArgumentError: Others wait there for another count; or the count is more than there are workers.
            FailedPreconditionError: Another thread of this worker waits there.
            PermissionDeniedError: This connection is an observer.
            StateLostError: The ps tasks were restored from a checkpoint meanwhile, or have lost their state.
        """
        workers = self.workers_of_spec()
        if self.observer:
            raise PermissionDeniedError(f"this connection is an observer, which no barrier counts ({name})")
        if workers and str(self.task) not in workers:
            raise InvalidArgumentError(
                f"barrier {name}: {self.task} is no worker of the cluster spec, which names {', '.join(workers)}"
            )
        wanted = _count(name, count, len(workers))
        seconds = POSITIVE_SECONDS.check(timeout_s, "timeout_s")
        barrier = self._barriers.get(name)
        if barrier is None:
            barrier = self._barriers.setdefault(name, self._opened_barrier(name, workers))
        barrier.wait(wanted, seconds)

    def training_report(self, name: str | NamedOptimizer) -> TrainingReport:
        """Returns how the workers are that train together with an optimizer: rounds, quorum, and all verdicts.

        Args:
            name: Of the optimizer, or the optimizer.

        Raises:
            InvalidArgumentError: It is neither.
            NotFoundError: Nobody has trained together with an optimizer of that name.
        """
        return training_report(self.fanout, self._wait_places, named(name))

    def finish_together(self, name: str | NamedOptimizer, timeout_s: float = 60.0) -> TrainingReport:
        """Tells the other workers that this one hands in no more, and waits until all of them have said so too.

        Who has died, has left or is silent beyond its lease is not waited for.

        Args:
            name: Of the optimizer by which they train together, or the optimizer.
            timeout_s: How long to wait, in seconds; it returns then whoever is missing, which is said in the log.

        Returns:
            How the group is then. ``str`` of it is a table of the verdicts, and ``first_finished`` says which one of
            the workers may print it.

        Raises:
            InvalidArgumentError: ``name`` is neither.
            NotFoundError: Nobody has trained together with an optimizer of that name; it says which there are.
        """
        name = named(name)
        seconds = POSITIVE_SECONDS.check(timeout_s, "timeout_s")
        part = TAKING_PART.get(self.fanout)
        for group in [] if part is None else part.groups:
            if group.name == name:
                group.finish()
        return wait_for_end(lambda: self.training_report(name), name, self._list_members, seconds)

    def shared_object(self, name: str, kind: str, settings: Json, *, ps_task: int = OBJECTS_PS_TASK) -> SharedObject:
        """Opens an object that all workers share, for those who know its kind; errors as of ``SharedObject``."""
        return SharedObject(
            self.fanout,
            self._wait_places,
            name=name,
            kind=kind,
            settings=settings,
            by=str(self.task),
            ps_task=ps_task,
        )

    def taking_shards(self, name: str, settings: Json) -> Taking:
        """Opens data shards; whoever opens those of a name again has the same ones. Errors as of ``SharedObject``."""
        found = self._shards.get(name)
        if found is None or found.settings != settings or found.store != found.shared.store:
            if len(self._handles) > 1:  # a save has to look at their receipts
                self.shared_object(NAMES, NAMES_KIND, {}).act({"do": "add", "name": name})
            found = self._shards[name] = Taking(
                self.shared_object(shards_name(name), SHARDS_KIND, settings),
                self.fanout,
                num_ps=len(self._handles),
                name=name,
                settings=settings,
                task=str(self.task),
                identity=str(self.incarnation),
                lease_s=self.settings.lease_s,
                list_members=self._list_members,
            )
        return found

    def object_on(self, ps_task: int | None, name: str, kind: str) -> ObjectConnection:
        """Returns the way to an object that has been opened; ``ps_task`` has it, None for this process's own store."""
        return ObjectConnection(self.fanout.handle(ps_task), self._wait_places, name=name, kind=kind)

    def workers_of_spec(self) -> list[str]:
        """Returns all workers that the cluster spec names."""
        return [
            str(TaskId(job, index))
            for job in WORKER_JOBS
            if job in self.cluster_spec.jobs
            for index in self.cluster_spec.task_indices(job)
        ]

    def gone_workers(self) -> dict[str, str]:
        """Returns which workers have died or left since this one has joined, each described with when it was seen."""
        members = {each.task: each for each in self._list_members()}
        if self._departures is None:
            self._departures = Departures(str(self.task), members.values())
        return {
            task: described(task, members)
            for task in self._departures.among(members)
            if task.partition(":")[0] in WORKER_JOBS
        }

    def _opened_barrier(self, name: str, workers: Sequence[str]) -> Barrier:
        return Barrier(
            self.shared_object(f"barrier/{name}", "barrier", {}),
            name=name,
            task=str(self.task),
            identity=str(self.incarnation),
            workers=workers,
            list_members=self._list_members,
        )

    def _list_members(self) -> Sequence[Member]:
        return self._handles[0].call(
            lambda service, timeout_s: service.list_members(timeout_s=timeout_s), what="to say who is missing"
        )


def _count(name: str, count: SupportsIndex | None, num_workers: int) -> int:
    if count is None:
        if not num_workers:
            raise InvalidArgumentError(
                f"barrier {name}: the cluster spec names no workers; say with count= how many it takes"
            )
        return num_workers
    try:
        number = operator.index(count)
    except TypeError as error:
        raise_interrupt(error)
        number = 0
    if number < 1 or (num_workers and number > num_workers):
        most = f"; the cluster spec names {num_workers} workers" if num_workers else ""
        raise InvalidArgumentError(f"barrier {name}: it takes {count!r} workers, but that should be 1 or more{most}")
    return number
