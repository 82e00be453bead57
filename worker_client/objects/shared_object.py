"""A shared object as one client sees it: it has something happen to it, and waits for its answers."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from ps_protocol.errors import ShardscopeError
from ps_protocol.forks import new_lock
from ps_protocol.operations import Declare, PsOperation, Reply, Result, VariableSpec
from ps_protocol.service_types import Proposal
from ps_protocol.shared_objects import (
    OBJECT_DTYPE,
    OBJECTS_PS_TASK,
    OPEN,
    Act,
    Array,
    Json,
    Look,
    decode_json,
    encode_json,
    unpacked,
)
from worker_client.connection.fanout import Fanout, succeeded
from worker_client.connection.handle import PsHandle
from worker_client.connection.retry import Deadline

FIRST_WAIT_S: Final = 0.5
"""How long the first wait at the ps is: then it is time to see who is missing."""

_LATER_WAIT_S: Final = 2.0
_FIRST_PAUSE_S: Final = 0.005
_LONGEST_PAUSE_S: Final = 0.1
_EXPECTED_BYTES: Final = 4096


class WaitPlaces:
    """How many calls of a client may wait at the ps tasks at a time; each keeps a connection. Thread-safe.

    A place is taken as long as the caller holds the lock that it was taken with, in a ``with`` statement.

    Args:
        number: Of places: they leave connections to the client's batches.
    """

    def __init__(self, number: int = 4):
        self._lock = new_lock()  # guards: _holders
        self._holders = [threading.Lock() for _ in range(number)]

    def take(self, mine: threading.Lock) -> bool:
        """Takes a place, and returns whether there was one; ``mine`` is held by the caller."""
        with self._lock:
            for index, holder in enumerate(self._holders):
                if not holder.locked():
                    self._holders[index] = mine
                    return True
        return False


class Among(NamedTuple):
    """What has become of an event that came with others.

    Attributes:
        before: Replies to what came before it.
        answer: To the event; None also if the guard was refused, and then nothing has happened.
        later: The answer to the question behind it; None if there was none yet.
        read: Replies to what was read behind that; nothing if there was no answer.
    """

    before: Sequence[Reply]
    answer: Json | None
    later: Json | None = None
    read: Sequence[Reply] = ()


class ObjectConnection:
    """The way to one object that has been opened. Thread-safe.

    Args:
        handle: Of the ps task that has it.
        places: Of the client.
        name: Full name of its variable.
        kind: Which kind of object it is.
        pause: Waits for so many seconds.
    """

    def __init__(
        self,
        handle: PsHandle,
        places: WaitPlaces,
        *,
        name: str,
        kind: str,
        pause: Callable[[float], None] = time.sleep,
    ):
        self.name: Final = name
        self._handle = handle
        self._kind = kind
        self._places = places
        self._pause = pause
        self._random = random.Random()  # noqa: S311 - no secret

    @property
    def store(self) -> str:
        """Identity of the state that the object is part of; another one after a restore."""
        return str(self._handle.welcome.store)

    @property
    def num_changes(self) -> int:
        """How many batches that change something this client has sent to the ps task that has it."""
        return self._handle.num_changes

    def act(self, event: Json, *, expected_bytes: int = _EXPECTED_BYTES) -> Json | None:
        """Has something happen to it, once; returns the answer, None if that is not possible yet.

        Raises:
            ShardscopeError: The object has refused it, or as of ``PsHandle.exchange``.
        """
        return _answer(self._acted(event, expected_bytes))

    def take(self, event: Json, *, expected_bytes: int) -> list[Array] | None:
        """Has something happen to it that it answers with arrays, once; as ``act``.

        Args:
            event: What happens.
            expected_bytes: Of the answer, about.
        """
        tensor = self._acted(event, expected_bytes).tensor
        return None if tensor is None else unpacked(tensor, f"the answer of {self.name}")[1]

    def act_among(
        self,
        before: Sequence[PsOperation],
        event: Json,
        behind: Sequence[PsOperation] = (),
        question: Json | None = None,
        reads: Sequence[PsOperation] = (),
        *,
        wait_s: float = 0.0,
        expected_bytes: int = 0,
    ) -> Among:
        """Has something happen to it, once, in one batch with operations on the same ps task.

        Args:
            before: Operations of which the first one guards the rest: a ``Stage``.
            event: What happens.
            behind: What follows from it.
            question: What it is asked then.
            reads: What is read as soon as that is answered, by operations that change nothing.
            wait_s: How long to wait for that, in seconds.
            expected_bytes: Of all that is read, about.

        Raises:
            ShardscopeError: As of ``act``, or the question was refused.
        """
        asks = () if question is None else (Look(self.name, self._kind, encode_json(question), wait_s), *reads)
        replies = self._handle.exchange(
            (*before, self._act(event), *behind, *asks), expected_reply_bytes=2 * _EXPECTED_BYTES + expected_bytes
        )
        first, end = len(before), len(before) + 1 + len(behind)
        if [each for each in replies[:first] if isinstance(each, ShardscopeError)]:
            return Among(replies[:first], None)
        answer = _answer(succeeded(replies[first]))
        later = None if question is None else _answer(succeeded(replies[end]))
        return Among(replies[:first], answer, later, replies[end + 1 :] if later is not None else ())

    def act_behind_all(self, firsts: Sequence[PsOperation], event: Json) -> list[Reply]:
        """As ``act_behind``, behind several operations; returns the replies to them, and that to the event."""
        return list(self._handle.exchange((*firsts, self._act(event)), expected_reply_bytes=_EXPECTED_BYTES))

    @staticmethod
    def answer_in(reply: Reply) -> Json | None:
        """Returns the answer that a reply has, as of ``act``; raises it if it is an error."""
        return _answer(succeeded(reply))

    def act_later(self, event: Json) -> None:
        """Has something happen to it soon, whatever comes of that."""
        self._handle.submit((self._act(event),), expected_reply_bytes=_EXPECTED_BYTES).let_go()

    def wait(
        self,
        question: Json,
        deadline: Deadline,
        meanwhile: Callable[[], None] | None = None,
        *,
        first_s: float = _LATER_WAIT_S,
    ) -> Json | None:
        """Waits until it has an answer to a question; None if it has none when time is over.

        A ps that is away is waited for as operations wait for it, if that is longer.

        Args:
            question: What it is asked.
            deadline: When time is over.
            meanwhile: Called each time that it has no answer yet; may raise.
            first_s: How long to wait before that is called first, in seconds.

        Raises:
            ShardscopeError: The object has refused the question, or as of ``PsHandle.ask``.
        """
        return self.wait_and_read(question, deadline, meanwhile, first_s=first_s)[0]

    def wait_and_read(
        self,
        question: Json,
        deadline: Deadline,
        meanwhile: Callable[[], None] | None = None,
        reads: Sequence[PsOperation] = (),
        *,
        first_s: float = _LATER_WAIT_S,
        expected_bytes: int = 0,
    ) -> tuple[Json | None, Sequence[Reply]]:
        """Waits until it has an answer to a question, and reads behind that; errors as of ``wait``.

        Args:
            question: As of ``wait``.
            deadline: As of ``wait``.
            meanwhile: As of ``wait``.
            reads: What to read on the same ps task, by operations that change nothing.
            first_s: As of ``wait``.
            expected_bytes: Of all that is read, about.

        Returns:
            The answer, None if it has none when time is over; and what was read, which is nothing if many wait there.
        """
        asked, longest_s, pause_s = encode_json(question), first_s, _FIRST_PAUSE_S
        while True:
            began = Deadline(min(longest_s, deadline.remaining_s()))
            mine = threading.Lock()
            with mine:
                wait_s = began.timeout_s if self._places.take(mine) else 0.0
                look = Look(self.name, self._kind, asked, wait_s)
                reply, *read = self._handle.ask(
                    look, *reads, expected_reply_bytes=expected_bytes + (_EXPECTED_BYTES if reads else 0)
                )
            answer = _answer(succeeded(reply))
            if answer is not None or not deadline.remaining_s():
                return answer, read
            if meanwhile is not None:
                meanwhile()
            if began.elapsed_s() >= began.timeout_s / 2:
                longest_s, pause_s = _LATER_WAIT_S, _FIRST_PAUSE_S
            else:  # too many wait there; or it is of an earlier version, and waits only for who reads nothing besides
                reads = ()
                self._pause(min(self._random.uniform(pause_s / 2, pause_s), deadline.remaining_s()))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _acted(self, event: Json, expected_bytes: int) -> Result:
        (reply,) = self._handle.exchange((self._act(event),), expected_reply_bytes=expected_bytes)
        return succeeded(reply)

    def _act(self, event: Json) -> Act:
        return Act(self.name, self._kind, encode_json(event))


class SharedObject(ObjectConnection):
    """One object, opened. Thread-safe.

    Args:
        fanout: The way to the ps tasks.
        places: Of the client.
        name: Full name of its variable.
        kind: Which kind of object it is.
        settings: What it is made with; those of all clients must be equal.
        by: This client's task.
        ps_task: Which has it, unless it is there on another one.
        pause: Waits for so many seconds.

    Raises:
        InvalidArgumentError: There is something else of that name, or it was made with other settings.
        ShardscopeError: It cannot be opened.
    """

    def __init__(
        self,
        fanout: Fanout,
        places: WaitPlaces,
        *,
        name: str,
        kind: str,
        settings: Json,
        by: str,
        ps_task: int = OBJECTS_PS_TASK,
        pause: Callable[[float], None] = time.sleep,
    ):
        spec = VariableSpec(name, OBJECT_DTYPE, (), object_kind=kind)
        directory = fanout.handle(OBJECTS_PS_TASK)
        (placement,) = directory.call(
            lambda service, timeout_s: service.place(
                [Proposal(spec, ps_task)], store=directory.welcome.store, timeout_s=timeout_s
            ),
            what=f"to say where {name} is",
        )
        super().__init__(fanout.handle(succeeded(placement).ps_task), places, name=name, kind=kind, pause=pause)
        for reply in self._handle.exchange((Declare(spec), opening(spec, settings, by))):
            succeeded(reply)


def opening(spec: VariableSpec, settings: Json, by: str) -> Act:
    """Returns what opens an object.

    Args:
        spec: Of its variable.
        settings: What it is made with.
        by: The client's task.
    """
    return Act(spec.name, spec.object_kind, encode_json({OPEN: settings, "by": by}))


def _answer(result: Result) -> Json | None:
    return None if result.tensor is None else decode_json(result.tensor, "the answer")
