"""What workers tell the rounds of their group, and what they are answered: dataclasses, and JSON of them.

Rounds are counted from 1: round 1 turns the model 0 into the model 1. What a worker hands in for round 5 it has
computed on the model 4, or on an older one that the policy allows. Without rounds (policy async) each gradient is a
round of its own; the number under which a worker hands it in is that of the model that it was told to compute on, plus
1, and the round in which it is applied is that or a later one.

Nothing here knows a clock: the time, in seconds since the epoch, comes with the events.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.training.json_records import as_record, from_json, from_record, to_json


class Verdict(enum.StrEnum):
    """What became of a gradient that was handed in.

    ``APPLIED``: its round has committed with it. ``STALE``: it was computed on an older model than the policy allows.
    ``LATE``: its round has committed without it. ``DUPLICATE``: the same worker had handed in for this round already,
    and what it was told then counts. None of the last three changes the model.
    """

    APPLIED = "applied"
    STALE = "stale"
    LATE = "late"
    DUPLICATE = "duplicate"


class Outcome(NamedTuple):
    """What became of one gradient.

    Attributes:
        round: The round that it was handed in for.
        verdict: What became of it.
        applied_in: The round that it is part of; 0 if it was not applied.
        staleness: Data staleness: rounds between the model that it was computed on and the one that it was applied to,
            or would have been; 0 if nobody knows on which one that was.
        publish_lag: Rounds that committed between its being handed in and its being applied.
    """

    round: int
    verdict: Verdict
    applied_in: int = 0
    staleness: int = 0
    publish_lag: int = 0


class Part(NamedTuple):
    """One gradient of a round: each ps has it in the slot of the seat.

    Attributes:
        seat: Of the worker.
        ticket: Under which the worker had joined when it handed it in.
        round: Under which it was staged.
    """

    seat: int
    ticket: int
    round: int


class Decision(NamedTuple):
    """A round that has committed: each ps is to apply the average of the parts, in their order, once.

    Attributes:
        round: Which; a ps carries them out one after the other.
        parts: By seat.
        shards: Full names of the data shards of which some parts complete pieces: ps task 0 hands these in with it.
    """

    round: int
    parts: tuple[Part, ...]
    shards: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Awaited:
    """A worker without which a round cannot commit.

    Attributes:
        worker: Which, as "worker:1".
        is_silent: Whether its lease has run out.
        last_seen_s: When its newest event came, in seconds since the epoch.
        incarnation: Of its process, the newest one that has joined.
    """

    worker: str
    is_silent: bool = False
    last_seen_s: float = 0.0
    incarnation: str = ""


# -- events -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Join:
    """A worker joins, or joins again; the same incarnation may ask twice.

    Attributes:
        worker: Which task, as "worker:1".
        incarnation: Of its process.
        policy: As ``SyncPolicy.parse`` reads it.
        variables: How many variables it trains.
        digest: Of their names, shapes and dtypes.
        tasks: Of how many ps tasks they are.
        workers: How many workers its cluster spec has; 0 if it does not say.
        now_s: When.
    """

    worker: str
    incarnation: str
    policy: str
    variables: int = 0
    digest: str = ""
    tasks: int = 1
    workers: int = 0
    now_s: float = 0.0


@dataclass(frozen=True, slots=True)
class HandIn:
    """A worker has staged its gradient for a round at every ps of the group.

    Attributes:
        worker: Which.
        incarnation: Of its process.
        round: Which round it is for.
        computed_on: The model; if it has read different ones from the ps tasks, the oldest of them. None if nobody
            knows, as it was read before the worker had joined: that is stale, and nothing is staged.
        now_s: When.
        shards: Full name of the data shards of which it completes a piece; their event is in the same batch.
    """

    worker: str
    incarnation: str
    round: int
    computed_on: int | None
    now_s: float = 0.0
    shards: str = ""


@dataclass(frozen=True, slots=True)
class Rest:
    """A worker waits for data: rounds do without it until it is heard of again."""

    worker: str
    incarnation: str
    now_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Finish:
    """A worker hands in no more; rounds do without it at once."""

    worker: str
    incarnation: str
    now_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Silent:
    """The lease of a worker has run out."""

    worker: str
    incarnation: str
    now_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Back:
    """A silent worker is heard of again."""

    worker: str
    incarnation: str
    now_s: float = 0.0


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A worker was missing for as long as the policy waits; without a worker: some that have never joined were."""

    worker: str = ""
    now_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Look:
    """Somebody wants to know how things are; changes nothing. Without a worker the answer is for none in particular."""

    worker: str = ""
    incarnation: str = ""


Event: TypeAlias = Join | HandIn | Rest | Finish | Silent | Back | GivenUp | Look

EVENTS: Final[dict[str, type[Event]]] = {
    "join": Join,
    "hand_in": HandIn,
    "finish": Finish,
    "silent": Silent,
    "back": Back,
    "given_up": GivenUp,
    "look": Look,
    "rest": Rest,
}
_NAMES: Final = {cls: name for name, cls in EVENTS.items()}


_ANSWER: Final = "answer about the rounds of a group"


class Answer(NamedTuple):
    """How things are after an event, for the worker that it concerns.

    Attributes:
        policy: Of the group.
        committed: The newest round that has committed, which is the number of the newest model.
        since: The round before the first one of this run of the group.
        seat: Of the worker.
        ticket: Of the worker, which goes with what it stages.
        next_round: The round that the worker hands in for next.
        base: The newest model when the worker was told to go on; it computes on that or a newer one. None: it waits.
        is_silent: Whether its lease had run out, or it rests, so that rounds go on without it until it is back.
        verdict: Of the gradient that was handed in; None while its round has not committed, and for other events.
        outcomes: What became of the newest gradients of the worker, oldest first.
        decisions: The newest rounds that have committed, oldest first: all that any ps may not have carried out yet.
        awaited: Without whom the next round cannot commit, or the worker cannot go on.
        to_join: How many workers have to join before the first round can commit.
    """

    policy: str
    committed: int
    since: int = 0
    seat: int = 0
    ticket: int = 0
    next_round: int = 0
    base: int | None = None
    is_silent: bool = False
    verdict: Verdict | None = None
    outcomes: tuple[Outcome, ...] = ()
    decisions: tuple[Decision, ...] = ()
    awaited: tuple[Awaited, ...] = ()
    to_join: int = 0

    def encode(self) -> bytes:
        """Returns it as JSON."""
        return to_json(self)

    @classmethod
    def decode(cls, content: bytes) -> Answer:
        """Reads it back; InvalidArgumentError if it is none."""
        return from_json(cls, content, _ANSWER)

    @classmethod
    def of_record(cls, said: Any) -> Answer:
        """Reads it from what ``as_record`` makes of it; InvalidArgumentError if it is none."""
        return from_record(cls, said, _ANSWER)


def encode_event(event: Event) -> bytes:
    """Returns an event as JSON."""
    return json.dumps(event_record(event), sort_keys=True).encode()


def event_record(event: Event) -> dict[str, Any]:
    """Returns an event as JSON has it."""
    return {"event": _NAMES[type(event)], **as_record(event)}


def decode_event(content: bytes) -> Event:
    """Reads an event.

    Raises:
        InvalidArgumentError: It is none, or one that this version does not know.
    """
    try:
        said: Any = json.loads(content)
    except (ValueError, RecursionError):
        raise _no_event(content) from None
    return event_of(said)


def event_of(said: Any) -> Event:
    """Reads an event that is in JSON already; errors as of ``decode_event``."""
    if not isinstance(said, dict) or not isinstance(said.get("event"), str) or said["event"] not in EVENTS:
        raise _no_event(said)
    name = said["event"]
    return from_record(EVENTS[name], {key: value for key, value in said.items() if key != "event"}, f"event {name!r}")


def _no_event(said: object) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{said!r:.100} is no event of the rounds of a group; this version knows {', '.join(EVENTS)}"
    )
