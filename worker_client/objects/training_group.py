"""The steps of one worker in a group that trains together: three round trips each.

A worker stages its gradient at every other ps, hands in at ps task 0, which decides and carries the round out, and
reads there in the same message, or when it may go on. At the others it reads when whoever made the round commit has
brought it, or brings it (``docs/decisions/rounds.md``). What it stages at ps task 0 goes there with the hand-in, if it
is small. Whatever ends in between, the next step begins with what ps task 0 knows, and counts nothing twice.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from ps_protocol.errors import (
    AbortedError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    StateLostError,
)
from ps_protocol.forks import new_lock
from ps_protocol.interrupts import Turn
from ps_protocol.operations import PsOperation, Read, Reply, Result
from ps_protocol.shared_objects import OBJECTS_PS_TASK, Json
from ps_protocol.training.data_shards import NAMES_KIND
from ps_protocol.training.round_messages import (
    Answer,
    Back,
    Event,
    Finish,
    HandIn,
    Join,
    Look,
    Outcome,
    Rest,
    Verdict,
    event_record,
)
from ps_protocol.training.round_operations import (
    GROUP_KIND,
    GROUP_NAMES,
    group_name,
    stamp_name,
)
from ps_protocol.training.sync_policy import SyncPolicy
from ps_protocol.weak_table import WeakTable
from worker_client.connection.completes import CompletesInRound
from worker_client.connection.direct import MAX_DIRECT_BYTES
from worker_client.connection.fanout import Fanout, Routed, succeeded
from worker_client.connection.retry import Deadline
from worker_client.connection.whole_reads import WHOLE_READS
from worker_client.objects.group_watch import GroupWatch, waits_elsewhere
from worker_client.objects.round_operations import RoundOperations, RoutedStep, StepResult
from worker_client.objects.round_reads import (
    Pull,
    Seen,
    ended,
    is_not_yet,
    is_there,
    look_at_stamp,
    reads_behind,
    reads_early,
)
from worker_client.objects.shared_object import FIRST_WAIT_S, SharedObject
from worker_client.objects.taking_part import TakingPart
from worker_client.objects.training_report import TrainingReport, training_report
from worker_client.placement.beside import declare_beside

_LOG = logging.getLogger(__name__)

_MOST_NEWS: Final = 8
"""How often a ps may know of no decision that others have brought it, in one step, before something must be wrong."""

_WAIT_FOR_OTHERS_S: Final = 0.05
"""How long a worker waits for another one to bring a decision, before it does so itself: the other may have died."""

_WAIT_BEHIND_S: Final = 0.05
"""How long a worker waits in the batch of its hand-in, which holds up other changes that it makes at ps task 0. It does
not wait so in a step before which it has made others."""


TAKING_PART: Final[WeakTable[Fanout, TakingPart[TrainingGroup]]] = WeakTable()
"""What each connection of this process is, by its way to the ps tasks."""


class TrainingGroup:
    """A group as one of its workers sees it. Thread-safe; one thread at a time makes a step.

    Args:
        fanout: The way to the ps tasks.
        name: Of the group.
        policy: How it trains.
        digest: Of what it trains.
        steps: Some steps: names of all its variables, and where they are.
        wall_clock: Seconds since the epoch.

    Raises:
        PermissionDeniedError: The connection is an observer.
        InvalidArgumentError: There is something else of that name.
    """

    def __init__(
        self,
        fanout: Fanout,
        *,
        name: str,
        policy: SyncPolicy,
        digest: str,
        steps: Sequence[RoutedStep],
        wall_clock: Callable[[], float] = time.time,
    ):
        part = TAKING_PART.get(fanout)
        if part is None or part.is_observer:
            raise PermissionDeniedError(f"this connection is no worker, and cannot train together with others ({name})")
        self._fanout = fanout
        self._part = part
        self._name = name
        self._policy = policy
        self._digest = digest
        self._wall_clock = wall_clock
        self._trained = {each.step.name for each in steps}
        self._turn = Turn()
        self._lock = new_lock()  # guards: _is_joined, which another thread looks at when the connection ends
        self._is_joined = False
        # All below is of whose turn it is.
        self._is_ready = False  # whether there is room for its gradients; an interrupt may come before that
        self._object: SharedObject | None = None
        self._incarnation = ""
        self._store = ""
        self._answer = Answer("", 0)
        self._is_sure = False  # whether the newest answer is that to the newest event
        self._rounds = RoundOperations(name, policy, steps, part.num_ps)
        self._thread: threading.Thread | None = None  # which has made the newest step
        self._num_changes = 0  # those to ps task 0 when it had handed in
        self._computes_on: int | None = None  # the oldest model that it may have read; None: read before it joined
        part.groups.append(self)
        whole_reads = WHOLE_READS.get(fanout)
        if whole_reads is not None:
            whole_reads.follow(name, self._trained)

    @classmethod
    def of(
        cls, fanout: Fanout, *, name: str, policy: SyncPolicy, digest: str, steps: Sequence[RoutedStep]
    ) -> TrainingGroup:
        """Returns the group that an optimizer like this one has on the connection, or a new one; errors as of those."""
        part = TAKING_PART.get(fanout)
        for each in () if part is None else part.groups:
            if (each.name, each._policy, each._digest) == (name, policy, digest):
                return each
        return cls(fanout, name=name, policy=policy, digest=digest, steps=steps)

    @property
    def name(self) -> str:
        """That of its optimizer."""
        return self._name

    # -- a step -------------------------------------------------------------------------------

    def step(
        self,
        steps: Sequence[RoutedStep],
        pull: Pull | None,
        left_out: Container[str] = (),
        piece: CompletesInRound | None = None,
    ) -> StepResult:
        """Hands in gradients for the next round, and waits until this worker may go on.

        Args:
            steps: One for each variable of the group.
            pull: What to read behind the newest model.
            left_out: Names of variables of which the round takes the gradients of the others alone.
            piece: Of a data shard, which counts when the gradients do.

        Raises:
            AbortedError: This worker has lost the shard; nothing was handed in.
            InvalidArgumentError: They are not of the variables of the group, or one is not finite.
            DeadlineExceededError: Others did not come in time; it says who.
            FailedPreconditionError: The run of the group is over, or another process has the place of this worker.
            ShardscopeError: A ps has failed.
        """
        mine = threading.Lock()
        with mine:
            self._take_turn(mine)
            self._check_same(steps)
            is_sure, self._is_sure = self._is_sure, False
            try:
                counted = [each for each in steps if each.step.name not in left_out]
                result = self._step(counted, pull, is_sure=is_sure, piece=piece)
            except (FailedPreconditionError, NotFoundError, StateLostError) as error:
                if piece is None or not piece.is_refused_by(error):
                    self._set_joined(False)  # whoever calls again means to join again
                raise
            self._is_sure = True
            return result

    def join(self, steps: Sequence[RoutedStep], pull: Pull | None) -> int:
        """Joins, unless it has, and reads the newest model, so that the next gradient is of that.

        Args:
            steps: Of the variables of the group; their gradients do not matter.
            pull: What to read.

        Returns:
            The number of the model.

        Raises:
            ShardscopeError: As of ``step``.
        """
        mine = threading.Lock()
        with mine:
            self._take_turn(mine)
            self._check_same(steps)
            is_sure, self._is_sure = self._is_sure, False
            try:
                self._go_on(is_sure=is_sure)
                self._bring(pull)
            except (FailedPreconditionError, NotFoundError, StateLostError):
                self._set_joined(False)
                raise
            self._computes_on, self._is_sure = min(self._rounds.ended), True
            return self._computes_on

    @property
    def is_of_this_thread(self) -> bool:
        """Whether this thread has made the newest step."""
        return self._thread is threading.current_thread()

    def rest(self) -> None:
        """Tells the group that this worker waits for data: rounds go on without it until its next step.

        It reads no newer model: what it computes next may be of the one that it has.
        """
        mine = threading.Lock()
        with mine:
            if self._turn.take(mine) and self._is_joined and self._is_ready:
                self._is_sure = False
                # Its next step is told so, too; or the ps is of an earlier version, which has it waited for.
                with contextlib.suppress(FailedPreconditionError, NotFoundError, InvalidArgumentError):
                    self._answer = self._act(Rest(self._part.task, self._incarnation, self._wall_clock()))
                    self._bring(None)

    def finish(self) -> None:
        """Hands in no more: nobody waits for it, and each ps has what is decided by then. Its next step joins again."""
        mine = threading.Lock()
        with mine:
            self._take_turn(mine)
            if self._is_joined:
                self._set_joined(False)
                with contextlib.suppress(NotFoundError):  # it was interrupted before it had joined
                    self._answer = self._act(Finish(self._part.task, self._incarnation, self._wall_clock()))
                    self._bring(None)

    def finish_later(self) -> None:
        """Does what ``finish`` does soon, whatever comes of that."""
        with self._lock:
            is_joined, self._is_joined = self._is_joined, False
        if is_joined and self._object is not None:
            self._object.act_later(event_record(Finish(self._part.task, self._incarnation, self._wall_clock())))

    def report(self) -> TrainingReport:
        """How it is: rounds, quorum, verdicts of all workers."""
        return training_report(self._fanout, self._part.places, self._name)

    def _take_turn(self, mine: threading.Lock) -> None:
        if not self._turn.take(mine):
            raise FailedPreconditionError(
                f"{self._name}: another thread of {self._part.task} makes a step; a worker hands in one gradient "
                f"for a round, so let one thread do that"
            )

    def _go_on(self, *, is_sure: bool) -> None:
        """Joins if it has not, and waits until it may begin the next step."""
        self._thread = threading.current_thread()
        if not (self._is_joined and self._is_ready) or self._opened().store != self._store:  # a restore has no rounds
            self._join()
        elif not is_sure:
            self._answer = self._act(Look(self._part.task, self._incarnation))
        self._wait_to_go_on(())

    def _step(
        self, steps: Sequence[RoutedStep], pull: Pull | None, *, is_sure: bool, piece: CompletesInRound | None
    ) -> StepResult:
        self._go_on(is_sure=is_sure)
        number, is_new = self._answer.next_round, True
        reads = () if pull is None else pull.begin_behind(self._fanout)
        seen: dict[int, Seen] = {}
        if self._computes_on is None:
            _LOG.warning(
                "%s has joined %s while others train: its first gradient, which it had computed before, is stale; "
                "optimizer.join, before the first gradient, reads the newest model",
                self._part.task,
                self._name,
            )
            self._answer = self._act(HandIn(self._part.task, self._incarnation, number, None, self._wall_clock()))
        else:
            is_new, seen = self._stage_and_hand_in(number, steps, self._computes_on, piece, reads)
        others_bring = self._answer.verdict is not Verdict.APPLIED
        if not others_bring and not self._bring_later(seen):
            seen = {ps: read for ps, read in seen.items() if ps == OBJECTS_PS_TASK}  # it sees what it has decided
        if self._answer.base is None and (read := self._wait_to_go_on(reads)) is not None:
            seen[OBJECTS_PS_TASK] = read
        outcome = next((each for each in self._answer.outcomes if each.round == number), None)
        if not is_new:
            outcome = Outcome(number, Verdict.DUPLICATE)
        self._bring(pull, seen, others_bring=others_bring)
        self._computes_on = min(self._rounds.ended)
        return StepResult(outcome, number, self._computes_on)

    def _check_same(self, steps: Sequence[RoutedStep]) -> None:
        names = {each.step.name for each in steps}
        if names != self._trained:
            only = sorted(names.symmetric_difference(self._trained))
            raise InvalidArgumentError(
                f"{self._name} trains {', '.join(sorted(self._trained)[:5])} together with others, all of them in "
                f"each step, its global_step= too; {', '.join(only[:5])} {'is' if len(only) == 1 else 'are'} only in "
                f"this one or only in the first one. Train others with an optimizer of another name",
                variable=only[0],
            )

    # -- the three trips ----------------------------------------------------------------------

    def _stage_and_hand_in(
        self,
        number: int,
        steps: Sequence[RoutedStep],
        computed_on: int,
        piece: CompletesInRound | None,
        reads: Sequence[Routed],
    ) -> tuple[bool, dict[int, Seen]]:
        """Stages the gradients everywhere, and hands in; whoever lacks a decision is brought it first.

        Returns:
            False if what it completes was handed in before, so that nothing was now; and what was read by ps task: at
            ps task 0 behind the newest model, if this worker may go on, at others what it may compute on then.
        """
        by_task = [tuple([each.step for each in steps if each.ps_task == ps]) for ps in range(self._part.num_ps)]
        deciding = by_task[OBJECTS_PS_TASK]
        goes_along = (
            self._part.num_ps == 1
            or sum([tensor.nbytes for step in deciding for tensor in step.tensors]) <= MAX_DIRECT_BYTES
        )
        early = reads_early(self._name, self._rounds.early_tasks(), reads)
        for _ in range(_MOST_NEWS):
            news = self._rounds.news(self._answer.decisions, but_sent=True)
            staged = self._rounds.staged(number, by_task, self._answer)
            with_hand_in = staged.pop(OBJECTS_PS_TASK).operation if goes_along and not news else None
            routed = [*news, *staged]
            replies = self._fanout.exchange_all([*routed, *early.routed]) if routed else []
            if self._lacks_news(replies[: len(routed)]):
                continue
            for reply in replies[: len(routed)]:
                succeeded(reply)
            seen = early.seen(replies[len(routed) :])
            if news:
                self._rounds.ended = [self._answer.committed] * self._part.num_ps
            event = HandIn(self._part.task, self._incarnation, number, computed_on, self._wall_clock())
            if piece is not None:
                is_new = self._hand_in_piece(event, with_hand_in, piece)
                if is_new is None:
                    continue
                return is_new, seen
            behind = reads_behind(self._name, reads)
            among = self._opened().act_among(
                () if with_hand_in is None else (with_hand_in,),
                event_record(event),
                (self._rounds.commit_next(number),),
                self._question(),
                behind.operations,
                wait_s=_WAIT_BEHIND_S if self._opened().num_changes == self._num_changes else 0.0,
                expected_bytes=behind.expected_bytes,
            )
            self._num_changes = self._opened().num_changes
            if self._lacks_news(among.before):
                continue
            for reply in among.before:
                succeeded(reply)
            self._answer = self._answered(among.answer)
            if among.later is None:
                return True, seen
            if self._answer.base is None:  # it was told to go on meanwhile
                self._answer = Answer.of_record(among.later)
            if (read := behind.read(among.read)) is not None:
                seen[OBJECTS_PS_TASK] = read
            return True, seen
        raise self._behind()

    def _hand_in_piece(self, event: HandIn, stage: PsOperation | None, piece: CompletesInRound) -> bool | None:
        """Hands in what completes a piece of a shard; returns whether it is new, None if it is to be tried again."""
        guard = piece.guard(self._name, self._answer.ticket, event.round)
        said = event_record(replace(event, shards=piece.shards))
        firsts = [guard] if stage is None else [guard, stage]
        noted, *staged, handed_in = self._opened().act_behind_all(firsts, said)
        is_new = piece.is_new(noted)
        if is_new is False:
            self._answer = self._act(Look(self._part.task, self._incarnation))
            return False
        if is_new is None or self._lacks_news(staged):
            return None
        for reply in staged:
            succeeded(reply)
        self._answer = self._answered(self._opened().answer_in(handed_in))
        if self._answer.verdict in (None, Verdict.APPLIED):
            piece.handed_in()
        return True

    def _question(self) -> Json:
        return {"worker": self._part.task, "incarnation": self._incarnation}

    def _bring_later(self, seen: Mapping[int, Seen]) -> bool:
        """Brings a round soon, without waiting, if this worker is the only one that the others wait for already.

        So the slowest one makes a trip less than those who are a round ahead.

        Args:
            seen: What was read already, by ps task; it need not read there again.

        Returns:
            Whether it is.
        """
        is_last = [each.worker for each in self._answer.awaited] == [self._part.task]
        if not is_last or len(self._answer.decisions[-1].parts) == 1:
            return False
        for ps_task, operation, *_ in self._news():
            if ps_task is not None and ps_task != OBJECTS_PS_TASK and ps_task in seen:
                self._fanout.handle(ps_task).submit((operation,), expected_reply_bytes=0).let_go()
                self._rounds.sent[ps_task] = self._answer.committed
        return True

    def _bring(self, pull: Pull | None, seen: Mapping[int, Seen] | None = None, *, others_bring: bool = False) -> None:
        """Brings the decisions to every ps that lacks them, and reads behind them.

        Args:
            pull: What to read.
            seen: What was read already, by ps task.
            others_bring: Whether another worker is about to do so, which is waited for a little.
        """
        for _ in range(_MOST_NEWS):
            committed = self._answer.committed
            there = self._rounds.new_enough(seen or {}, self._answer)
            others_bring &= OBJECTS_PS_TASK in there  # or else it has gradients of workers that were not known here
            lack = [ps for ps in range(self._part.num_ps) if ps not in there]
            news = [] if others_bring else [each for each in self._news() if each.ps_task in lack]
            wait_s = _WAIT_FOR_OTHERS_S if others_bring else 0.0
            looks = [Routed(ps, look_at_stamp(self._name, ps, committed, wait_s)) for ps in lack]
            stamps = [Routed(ps, Read(stamp_name(self._name, ps))) for ps in lack]
            reads = () if pull is None else pull.begin_behind(self._fanout)
            kept: dict[int | None, Iterator[Reply]] = {}
            kept.update({ps: iter(each.replies) for ps, each in there.items() if each.replies is not None})
            others = [each for each in reads if each.ps_task not in kept]
            routed = [*news, *looks, *stamps, *others]
            replies = iter(self._fanout.exchange_all(routed) if routed else ())
            of_news, of_looks, of_stamps = [list(islice(replies, len(each))) for each in (news, looks, stamps)]
            if others_bring and [each for each in of_looks if not is_there(each)]:
                others_bring = False  # it may have died
                continue
            for ps, reply in zip(lack, of_looks, strict=True):
                self._rounds.answers_stamps[ps] = isinstance(reply, Result)
            if self._lacks_news(of_news):
                continue
            for reply in of_news:
                succeeded(reply)
            if self._lacks_news(of_looks):
                continue
            for ps, reply in zip(lack, of_stamps, strict=True):
                self._rounds.ended[ps] = ended(reply)
            for ps, read in there.items():
                self._rounds.ended[ps] = read.ended
            if pull is not None:
                pull.end_behind([next(kept.get(each.ps_task, replies)) for each in reads])
            of_run = [each for each in self._answer.decisions if each.round > self._answer.since]
            self._rounds.seats.update([part.seat for each in of_run for part in each.parts])
            return
        raise self._behind()

    def _news(self) -> list[Routed]:
        return self._rounds.news(self._answer.decisions)

    def _lacks_news(self, replies: Sequence[Reply]) -> bool:
        """Whether a ps has to be brought decisions that this worker has not heard of; it has then."""
        if not [each for each in replies if isinstance(each, AbortedError) or is_not_yet(each)]:
            return False
        self._answer = self._act(Look(self._part.task, self._incarnation))
        self._rounds.forget()
        return True

    def _behind(self) -> InternalError:
        return InternalError(
            f"{self._name}: a ps task lacks decisions that ps task 0 does not know any more; restore a checkpoint"
        )

    # -- coming and waiting -------------------------------------------------------------------

    def _join(self) -> None:
        part, self._is_ready = self._part, False
        group = self._object = SharedObject(
            self._fanout, part.places, name=group_name(self._name), kind=GROUP_KIND, settings={}, by=part.task
        )
        self._store = group.store
        self._incarnation = part.incarnation
        for each in part.groups:
            if each is not self and each.name == self._name:  # of an optimizer that trains otherwise
                each._set_joined(False)
        event = Join(
            part.task,
            self._incarnation,
            f"{self._policy}",
            variables=len(self._trained),
            digest=self._digest,
            tasks=part.num_ps,
            workers=part.num_workers,
            now_s=self._wall_clock(),
        )
        self._set_joined(True)  # an interrupt may come before the answer: then it has to finish as well
        try:
            self._answer = self._act(event)
        except FailedPreconditionError:  # others train otherwise; but maybe all of them are dead
            if not self._watch().tell_of_dead():
                raise
            self._answer = self._act(event)
        self._rounds.begin(self._answer.seat)
        declare_beside(self._fanout, self._rounds.places(self._answer.seat))
        listed = SharedObject(self._fanout, part.places, name=GROUP_NAMES, kind=NAMES_KIND, settings={}, by=part.task)
        listed.act({"do": "add", "name": self._name})
        self._bring(None)
        is_first = self._answer.committed == self._answer.since
        self._computes_on, self._is_ready = self._answer.committed if is_first else None, True

    def _wait_to_go_on(self, reads: Sequence[Routed]) -> Seen | None:
        """Waits until the worker may go on; returns what was read at ps task 0 behind the newest model then."""
        watch: GroupWatch | None = None
        read: Seen | None = None
        while self._answer.base is None:
            if self._answer.is_silent:
                self._answer = self._act(Back(self._part.task, self._incarnation, self._wall_clock()))
                continue
            watch = watch or self._watch()
            behind = reads_behind(self._name, reads)
            said, replies = self._opened().wait_and_read(
                self._question(),
                watch.deadline,
                watch.look,
                behind.operations,
                first_s=FIRST_WAIT_S,
                expected_bytes=behind.expected_bytes,
            )
            if said is None:
                raise watch.late()
            self._answer = Answer.of_record(said)
            read = behind.read(replies)
        return read

    def _watch(self) -> GroupWatch:
        part = self._part
        return GroupWatch(
            self._name,
            self._policy,
            task=part.task,
            lease_s=part.lease_s,
            look=self._look,
            act=self._act,
            list_members=part.list_members,
            wall_clock=self._wall_clock,
            waits_elsewhere=lambda: waits_elsewhere(self._fanout, part.places, self._elsewhere(), part.task),
        )

    def _elsewhere(self) -> list[TrainingGroup]:
        return [each for each in self._part.groups if each._is_joined and each.name != self._name]

    def _look(self) -> Answer:
        """How things are, for nobody in particular."""
        said = self._opened().wait({}, Deadline(0.0))
        if said is None:
            raise InternalError(f"{self._name}: ps task 0 did not say how its group is")
        return Answer.of_record(said)

    def _act(self, event: Event) -> Answer:
        return self._answered(self._opened().act(event_record(event)))

    def _answered(self, said: Json | None) -> Answer:
        if said is None:
            raise InternalError(f"{self._name}: ps task 0 has neither taken nor refused what {self._part.task} said")
        return Answer.of_record(said)

    def _opened(self) -> SharedObject:
        if self._object is None:
            raise InternalError(f"{self._name} was not joined")
        return self._object

    def _set_joined(self, is_joined: bool) -> None:
        with self._lock:
            self._is_joined = is_joined
