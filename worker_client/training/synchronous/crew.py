"""Who trains together: how many gradients a step takes when workers are gone, and who makes the steps."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final
from uuid import uuid4

from ps_protocol.errors import (
    AbortedError,
    CancelledError,
    DeadlineExceededError,
    InvalidArgumentError,
    OutOfRangeError,
    ShardscopeError,
    UnavailableError,
)
from ps_protocol.forks import new_lock
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import Array
from ps_protocol.shared_objects import Act, Json, encode_json
from worker_client.connection.fanout import Routed
from worker_client.connection.retry import Deadline
from worker_client.graph.computation import GraphObject, TrainingHome
from worker_client.objects.shared_object import ObjectConnection
from worker_client.resources.accumulators import Taking
from worker_client.training.monitored.log import LOG
from worker_client.training.monitored.session_manager import MAX_WAIT_S
from worker_client.training.synchronous.receipts import Receipts, StepUpdates

KEPT_ROUNDS: Final = 4
"""Of how many rounds the tokens stay that nobody has taken: those of workers that are late, or dead."""

LOOK_S: Final = 0.5
"""So often a session that waits looks who is gone."""

_MAYBE_CARRIED_OUT: Final = (AbortedError, CancelledError, DeadlineExceededError, UnavailableError)
"""Errors after which it is not known how much of a step was made."""

PATIENCE_S: Final = 2.0
"""So long the first worker waits for its token before it makes the steps that nobody makes; the next twice as long."""


class Crew:
    """The workers of one ``SyncReplicasOptimizer``, as one session sees them. Thread-safe.

    Args:
        home: Of the session.
        tokens: The queue of tokens.
        accumulators: Those that the steps take from.
        aggregate: How many gradients a step takes at least.
        total: How many workers there are to be.
        steps: Makes a step; what the chief's queue runner runs.
        global_step: Counts them.

    Attributes:
        name: Of this worker.
        is_shared: Whether there is a cluster.
        ticket: That with which this session makes the steps; None if it does not.
    """

    def __init__(
        self,
        home: TrainingHome,
        *,
        tokens: GraphObject,
        accumulators: Sequence[GraphObject],
        aggregate: int,
        total: int,
        steps: Any,
        global_step: Any,
    ):
        self._home = home
        self._tokens = tokens
        self._accumulators = accumulators
        self._aggregate = aggregate
        self._total = total
        self._steps = steps
        self._global_step = global_step
        self.is_shared: Final = home.worker is not None
        self.name: Final = home.worker or "the session"
        self._caller: Final = {"by": self.name, "session": str(uuid4())}
        self.ticket: int | None = None
        self._lock = new_lock()  # guards: ticket, and all below
        self._has_joined = False
        self._needs_no_token = False
        self._is_stopped = False
        self._was_dropped = False
        self._said_s = -math.inf
        self._looked_s = -math.inf
        self._gone: dict[str, str] = {}
        self._told: set[str] = set()
        self._crew: Json = {
            "leader": None,
            "ticket": 0,
            "left": [],
            "replaced": 0,
            "lacking": [],
            "closed": False,
            "waits": False,
            "workers": [],
        }
        self._owes_tokens = False
        self._waits_since_s = math.inf
        self._nobody_since_s: float | None = None
        self._maker: threading.Thread | None = None  # that is in the midst of a step
        self._receipts = Receipts(home, tokens.spec.name)
        self._has_taken_up = self._begins = False
        self._number = 0
        self._finishes: str | None = None
        self._noted: Json = {}
        self._reads_again = False
        self._thread: threading.Thread | None = None
        self._failure: ShardscopeError | None = None

    # -- who is there -------------------------------------------------------------------------

    def join(self) -> None:
        """Says that this worker takes part; it leaves when its session is closed."""
        if not self._has_joined:
            self._check_numbers()
            self._has_joined = True
            tokens = self._connection()
            answer = tokens.act({"do": "join", **self._caller})
            self._home.at_close(lambda: tokens.act_later({"do": "leave", **self._caller}))
            if answer is not None and answer["waits"]:
                self._needs_no_token = True
                LOG.warning(
                    "training has come to its end; if there is more to do, %s waits for the chief to begin", self.name
                )

    def step_without_token(self) -> int | None:
        """The step from which a worker goes on without a token; None if it needs one.

        Who comes when training has come to its end goes on once, so that it sees whether there is more to do for it.
        """
        if not self._needs_no_token:
            return None
        self._needs_no_token = self._was_dropped = False
        return self._step()

    def pushed(self, answer: Json) -> None:
        """Hears what an accumulator has answered to a gradient of this worker.

        If that was dropped, since the accumulator's step was a later one, no step of the others need follow which has
        a token for this worker: the chief has set the step, or is about to. Then this worker asks for one.
        """
        if answer.get("stale"):
            self._was_dropped = True

    def has_token(self) -> None:
        """This worker has been given a token, and is to hand in again."""
        self._was_dropped = False

    def required(self) -> int:
        """How many gradients a step takes now: no more than there are workers left to hand some in."""
        self._look()
        if self._finishes is not None:
            return 1  # there were enough
        number = max(self._total, len(self._crew["workers"]))
        if not self._gone or self._aggregate < 1:
            return self._aggregate
        live = number - len(self._gone)
        if self._total >= self._aggregate:
            return min(self._aggregate, max(1, live))
        return max(1, math.ceil(self._aggregate * live / number))

    def _check_numbers(self) -> None:
        workers = self._home.workers
        if workers and len(workers) < self._aggregate <= self._total:
            raise InvalidArgumentError(
                f"SyncReplicasOptimizer is to aggregate {self._aggregate} gradients of {self._total} replicas, and the "
                f"cluster spec names {len(workers)} workers ({', '.join(workers)}): no step would have them all. Give "
                f"replicas_to_aggregate={len(workers)}, or total_num_replicas={len(workers)} so that each worker hands "
                f"in several"
            )

    def who_leads(self) -> str:
        """Says who makes the steps, for the log and for errors."""
        leader = self._crew["leader"]
        if self._crew["waits"]:
            return "is of another run than that which has come to its end: start the chief"
        if leader is None:
            return "nobody makes: start the chief, or its queue runner"
        missing = ", ".join(self._gone.values())
        return f"{leader} makes when it has {self._aggregate} gradients" + (f"; {missing}" if missing else "")

    def _look(self) -> None:
        """Looks who is gone, now and then."""
        with self._lock:
            now_s = time.monotonic()
            if now_s - self._looked_s < LOOK_S:
                return
            self._looked_s = now_s
        crew = self._asked_crew(self._connection())
        gone = self._home.gone_workers() if self.is_shared else {}
        gone |= {worker: f"{worker} has ended its session" for worker in crew["left"] if worker not in gone}
        gone.pop(self.name, None)
        if self._home.workers:
            gone = {worker: gone[worker] for worker in gone if worker in self._home.workers}
        with self._lock:
            has_other = self._total < self._aggregate and crew["replaced"] != self._crew["replaced"]
            self._crew, self._gone = crew, gone
            news = [gone[worker] for worker in sorted(gone) if worker not in self._told]
            self._told = set(gone)
            owes_tokens = self._owes_tokens or has_other or bool(news) or bool(crew["lacking"])
            self._owes_tokens = self.ticket is not None and owes_tokens
        if news and self.ticket is not None:
            LOG.warning("%s: steps go on without", ", ".join(news))

    def _asked_crew(self, tokens: ObjectConnection) -> Json:
        return tokens.wait({"ask": "crew", "by": self.name}, Deadline(0.0)) or self._crew

    def _connection(self) -> ObjectConnection:
        self._home.place([self._tokens])
        connection: ObjectConnection = self._home.shared(self._tokens)
        return connection

    # -- who makes the steps ------------------------------------------------------------------

    def check(self) -> None:
        """Makes sure that this session still is to make steps, and that who is there can hand in for the next one.

        The tokens of workers that are gone are lost. So others get as many once more, who may wait without a gradient
        that is pending. Whoever has one wastes another.

        Raises:
            CancelledError: The tokens are closed: training has come to its end; or the session is made again.
            AbortedError: Another task makes them.
        """
        self._look()
        if self._crew["closed"]:
            raise CancelledError("training has come to its end: the tokens of its workers are closed")
        if self._is_stopped:
            raise CancelledError("the session is made again")
        if self._was_replaced():
            raise AbortedError(f"{self._crew['leader']} makes the steps now, in the place of {self.name}")
        if self.ticket is None or self._maker is not threading.current_thread():
            raise AbortedError(f"this thread of {self.name} makes the steps no longer")
        with self._lock:
            owes_tokens, self._owes_tokens = self._owes_tokens, False
        if owes_tokens:
            self._hand_out(self._step(), KEPT_ROUNDS)

    def stop(self) -> None:
        """Has this session make no more steps, nor wait for any: it is made again."""
        self._is_stopped = True
        self.resign()

    def resign(self, of: int | None = None) -> None:
        """Has others make the steps, though this session is there.

        Args:
            of: Only if it does so with that ticket.
        """
        with self._lock:
            ticket = self.ticket if of is None else of
            if ticket is None or ticket != self.ticket:
                return
            self.ticket = None
        try:
            self._connection().act({"do": "resign", "by": self.name, "ticket": ticket})
        except (ShardscopeError, RuntimeError) as error:  # its lease will run out, or the session is closed
            raise_interrupt(error)
            LOG.debug("nobody is told that %s makes no more steps: %s", self.name, error)

    def _was_replaced(self) -> bool:
        """Whether another task makes the steps that this session made; if so it is no longer to make any."""
        with self._lock:
            if self.ticket is None or self._crew["ticket"] <= self.ticket:
                return False
            self.ticket = None
            return True

    def lead(self, *, after_another: bool = False, makes: bool = False) -> None:
        """Makes this session the one that makes the steps; of its threads, the one that comes last.

        Args:
            makes: Whether this thread makes one now.
            after_another: Whether to give it up if another one has become so since this one has looked.

        Raises:
            CancelledError: The session is made again.
        """
        if self._is_stopped:
            raise CancelledError("the session is made again")
        with self._lock:
            me = threading.current_thread()
            if self.ticket is not None and (self._maker in (None, me) or not makes):
                self._maker = me if makes else self._maker
                return
        self._check_numbers()
        tokens = self._connection()
        crew = self._asked_crew(tokens)
        if after_another and crew["ticket"] != self._crew["ticket"]:
            return
        ticket = crew["ticket"]
        while True:
            answer = tokens.act({"do": "lead", **self._caller, "instead_of": ticket})
            assert answer is not None
            if answer["leads"]:
                break
            if after_another:
                return
            ticket = answer["ticket"]
        with self._lock:
            self.ticket, self._looked_s = answer["ticket"], -math.inf
            self._maker = threading.current_thread() if makes else None
            self._has_taken_up, self._begins = False, answer["begins"]
            self._number, self._finishes = 0, None
        self.join()  # so that it is known when this session is closed
        crew = self._asked_crew(tokens)
        with self._lock:
            self._crew = crew  # who has come before is no news

    def take_up(self) -> None:
        """Before a step: finds out once whether this session has to finish that which the one before has begun.

        What it has taken is kept, if it died before it was done. Then the same is taken again, with the rest, and what
        it has not updated is updated. From here on it takes nothing itself, and no update of it is carried out.
        """
        ticket = self.ticket
        if self._has_taken_up or ticket is None:
            return
        self._home.place([*self._accumulators, self._global_step])
        finishes = self.is_shared and self._finds_a_step(ticket)
        if not finishes and not self._begins:
            self._repair()
        self._has_taken_up = self._reads_again = True

    def _finds_a_step(self, ticket: int) -> bool:
        fence = {"do": "fence", "ticket": ticket}
        found = [self._home.shared(each).act(fence) for each in self._accumulators]
        kept = {each["of"] for each in found if each["kept"]}
        of = next(iter(kept)) if len(kept) == 1 else None
        is_whole = not [each for each in found if not (each["kept"] or (each["of"] != of and each["count"]))]
        if of is not None and is_whole and of.startswith(self._steps_of_store):
            self._finishes = of
            LOG.warning("%s makes the steps now, and finishes that which was begun", self.name)
        begun = [each for each in [self._receipts.fence(task, ticket) for task in self._ps_tasks()] if each["of"] == of]
        self._noted = max(begun, key=lambda each: int(each["parts"]), default={"noted": {}})["noted"]
        return self._finishes is not None

    def _ps_tasks(self) -> list[int]:
        """Where the updates of a step are."""
        placed = [*self._accumulators, self._global_step]
        return sorted({task for task in [self._home.route(each) for each in placed] if task is not None})

    def _repair(self) -> None:
        """Has the step made again in the midst of which the one before may have died: all hand in once more."""
        step = self._step()
        for each in self._accumulators:
            self._home.shared(each).act({"do": "set_step", "step": step, "ticket": self.ticket})
        self._hand_out(step, 0)
        LOG.warning("%s makes the steps now, from step %d on", self.name, step)

    # -- a step is made whole -----------------------------------------------------------------

    @property
    def _steps_of_store(self) -> str:
        """What the names of steps begin with; another one after a restore, so that none from before is finished."""
        return f"{self._connection().store}/"

    @property
    def of(self) -> str | None:
        """Name of the step that is made; None without a cluster, where nobody would finish it."""
        if not self.is_shared:
            return None
        return self._finishes or f"{self._steps_of_store}{self.ticket}.{self._number}"

    def is_idle(self) -> None:
        """This thread makes no step just now."""
        with self._lock:
            if self._maker is threading.current_thread():
                self._maker = None

    def updates(self, of: str | None, ticket: int | None) -> StepUpdates | None:
        """What has each update of this step carried out once."""
        if of is None or ticket is None:
            self.is_idle()
            return None
        reads_again, noted = False, {}
        if ticket == self.ticket:
            reads_again, self._reads_again = self._reads_again, False
            noted = self._noted if self._finishes else {}
        return StepUpdates(
            self._receipts,
            of,
            ticket,
            reads_again=reads_again,
            noted=noted,
            ended=partial(self._ended, of, ticket),
        )

    def _ended(self, of: str, ticket: int, error: BaseException | None) -> None:
        """A step was made, or has failed: if it was refused, it is given up, and all hand in once more."""
        self.is_idle()
        if ticket != self.ticket:
            return  # another one makes the steps now
        is_refused = isinstance(error, ShardscopeError) and not isinstance(error, _MAYBE_CARRIED_OUT)
        self._has_taken_up, self._begins = error is None and self._finishes is None, False
        if error is not None and not is_refused:
            return  # it is finished by the next run, here or elsewhere
        self._number, self._finishes = self._number + 1, None
        content = encode_json({"do": "release", "of": of, "ticket": ticket})
        released = [(each, Act(each.spec.name, each.spec.object_kind, content)) for each in self._accumulators]
        try:
            self._home.exchange_later([Routed(self._home.route(each), act) for each, act in released])
        except ShardscopeError as failure:  # then they keep it until the next step
            raise_interrupt(failure)
            LOG.debug("what was taken for a step is kept on: %s", failure)

    def _hand_out(self, step: int, kept_rounds: int) -> None:
        number = max(self._total, self._aggregate)
        self._connection().act({"do": "put", "steps": [step] * number, "keep": kept_rounds * number})

    def _step(self) -> int:
        return int(self._home.session.run(self._global_step))

    def see_to_steps(self) -> None:
        """On behalf of a worker that waits: makes the steps if nobody does, and raises what they have failed of."""
        if self._failure is not None:
            raise self._failure
        if self._is_stopped:
            raise AbortedError("the session is made again", retryable=True)
        self._look()
        self._say_what_lacks()
        crew = self._crew
        if crew["closed"] or (self.ticket is not None and not self._was_replaced()):
            return
        is_free = crew["leader"] is None or crew["leader"] in self._gone
        now_s = time.monotonic()
        with self._lock:
            self._waits_since_s = min(self._waits_since_s, now_s) if crew["waits"] else math.inf
            if now_s - self._waits_since_s > MAX_WAIT_S:
                raise DeadlineExceededError(
                    f"training had come to its end when {self.name} came, and no chief has begun another run within "
                    f"{MAX_WAIT_S:.0f} s; start the chief, or end this worker",
                    retryable=False,
                )
            if not is_free:
                self._nobody_since_s = None
                return
            if self._nobody_since_s is None:
                self._nobody_since_s = now_s
            if now_s - self._nobody_since_s < PATIENCE_S * self._place():
                return
        self.lead(after_another=True)
        if self.ticket is not None:
            self._thread = threading.Thread(target=self._make_steps, name="steps of all workers", daemon=True)
            self._thread.start()

    def _say_what_lacks(self) -> None:
        """Asks for a token if the gradients of this worker were dropped, so that it has none that is pending."""
        now_s = time.monotonic()
        if not (self.is_shared and self._was_dropped) or now_s - self._said_s < LOOK_S:
            return
        self._said_s = now_s
        self._connection().act({"do": "lack", "by": self.name})

    def _place(self) -> float:
        """How many times longer than the chief this worker waits until it makes the steps.

        It does so if none of those does who come before it, since they wait for nothing or have not come. Another run
        is begun by the chief alone.
        """
        if self._home.is_chief or not self._home.workers:
            return 1
        if self._crew["waits"]:
            return math.inf
        live = [each for each in self._home.workers if each not in self._gone]
        return 1 + (live.index(self.name) if self.name in live else len(live))

    def _make_steps(self) -> None:
        session, ticket = self._home.session, self.ticket
        try:
            while True:
                session.run(self._steps)
        except (CancelledError, OutOfRangeError, AbortedError, ReferenceError) as error:
            raise_interrupt(error)
            LOG.debug("the steps have come to their end: %s", error)
        except ShardscopeError as error:
            raise_interrupt(error)
            self._failure = error
            LOG.error("no more steps are made: %s", error)
        except RuntimeError as error:  # the session is closed
            LOG.debug("the steps have come to their end: %s", error)
        finally:
            self.resign(-1 if ticket is None else ticket)


class StepTaking:
    """Takes the gradients of one variable for a step, as soon as all variables have enough.

    Args:
        crew: Who trains together.
        taking: Takes them.
    """

    def __init__(self, crew: Crew, taking: Taking):
        self._crew = crew
        self._taking = taking

    @property
    def waits_for(self) -> str:
        """What is waited for, for the log and for errors."""
        return self._taking.waits_for

    def begin(self, shared: ObjectConnection) -> None:
        """Makes this session the one that makes steps."""
        del shared
        self._crew.lead(makes=True)
        self._update()

    def updates(self) -> StepUpdates | None:
        """What has each update of the step carried out once."""
        return self._crew.updates(self._taking.of, self._taking.ticket)

    def give_up(self) -> None:
        """The run has ended without a step."""
        self._crew.is_idle()

    def attempt(self, shared: ObjectConnection) -> tuple[Array, ...] | None:
        """Takes the gradient; None if there are not enough."""
        return self._taking.attempt(shared)

    def question(self) -> Json:
        """What the accumulator answers when there are enough."""
        return self._taking.question()

    def meanwhile(self, shared: ObjectConnection) -> None:
        """Looks who is gone."""
        del shared
        self._update()

    def _update(self) -> None:
        self._crew.check()
        self._crew.take_up()
        self._taking.ticket = self._crew.ticket
        self._taking.of = self._crew.of
        self._taking.number = self._crew.required()
