"""What each event does to a group: ``(state, event) -> (state, answer)``, or an error, and then nothing.

``quorum`` decides what follows from it.
"""

from __future__ import annotations

from typing import Final

from ps_protocol.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from ps_protocol.training.round_messages import (
    Answer,
    Awaited,
    Back,
    Event,
    Finish,
    GivenUp,
    HandIn,
    Join,
    Look,
    Outcome,
    Rest,
    Silent,
    Verdict,
    decode_event,
)
from ps_protocol.training.sync_policy import MAX_WORKERS, OnMissing, SyncPolicy, contradiction
from ps_server.rounds.quorum import (
    awaited,
    counted,
    fits_budget,
    lacks_silent,
    next_round,
    oldest_model,
    settled,
    with_outcome,
)
from ps_server.rounds.state import GroupState, Member, Pending, Status, Variables

_MAX_NAME_LENGTH: Final = 255
_MAX_REPLACED: Final = 4
_TO_COME_BACK: Final = (Status.RESTS, Status.SILENT, Status.GONE)
"""Rounds go on without it, until it says that it is back."""
_IN_RUN: Final = (Status.LIVE, Status.RESTS, Status.SILENT)


def act(state: bytes, event: bytes) -> tuple[bytes, bytes]:
    """``step`` for state, event and answer in JSON; no state is that of a group which nobody has joined."""
    after, answer = step(GroupState.decode(state), decode_event(event))
    return after.encode(), answer.encode()


def step(state: GroupState, event: Event) -> tuple[GroupState, Answer]:
    """Carries out an event.

    Args:
        state: Of the group.
        event: What has happened, or is asked for.

    Returns:
        The state after it, the same object if nothing has changed; and how things are for the worker of the event.

    Raises:
        FailedPreconditionError: The worker is not counted: another incarnation has taken its place, its run is over, or
            it trains otherwise than its group.
        InvalidArgumentError: The event can never be right.
        NotFoundError: The worker has not joined.
        ResourceExhaustedError: The group is full.
    """
    match event:
        case Join():
            state = _join(state, event)
        case HandIn():
            state, verdict = _hand_in(state, event)
            return state, _answer_to_hand_in(state, event.worker, verdict)
        case Rest():
            member = _known(state, event.worker, event.incarnation)
            if member.status not in (Status.RESTS, Status.FINISHED):
                rests = member._replace(status=Status.RESTS, base=None, last_seen_s=event.now_s)
                state = _settled(state.with_member(rests), event.now_s)
        case Finish():
            member = _known(state, event.worker, event.incarnation)
            if member.status is not Status.FINISHED:
                finished = member._replace(status=Status.FINISHED, base=None, last_seen_s=event.now_s)
                state = _settled(state.with_member(finished), event.now_s)
        case Silent():
            state = _silent(state, event)
        case Back():
            if _is_of(state, event, *_TO_COME_BACK):
                state = settled(_awake(state, event))
        case GivenUp():
            state = _given_up(state, event)
        case Look():
            if event.worker:
                _known(state, event.worker, event.incarnation)
    return state, _answer(state, event.worker)


def waited_for(state: GroupState, worker: str, incarnation: str) -> Answer | None:
    """Returns how things are for a worker that may go on, or should say that it is back; None if it has to wait.

    Raises:
        FailedPreconditionError, NotFoundError: It is not counted, as in ``step``.
    """
    member = _known(state, worker, incarnation)
    has_to_wait = member.base is None and member.status not in _TO_COME_BACK
    return None if has_to_wait else _answer(state, worker)


def may_free(before: GroupState, after: GroupState) -> bool:
    """Whether ``waited_for`` may say something else of a worker that has to wait than it did."""
    if before.over != after.over or len(before.members) != len(after.members):
        return True
    for was, now in zip(before.members, after.members, strict=True):
        if was is now:
            continue
        is_told = (was.base is None and now.base is not None) or was.status is not now.status
        if is_told or was.incarnation != now.incarnation or was.worker != now.worker:
            return True
    return False


def _answer(state: GroupState, worker: str, verdict: Verdict | None = None) -> Answer:
    common = Answer(
        state.policy,
        state.committed,
        state.since,
        decisions=state.decisions,
        awaited=awaited_workers(state) if state.policy else (),
        to_join=state.to_join if state.policy else 0,
    )
    member = state.member(worker)
    if member is None:
        return common
    return common._replace(
        seat=member.seat,
        ticket=member.ticket,
        next_round=next_round(state, member),
        base=member.base,
        is_silent=member.status in _TO_COME_BACK,
        verdict=verdict,
        outcomes=member.outcomes,
    )


def _answer_to_hand_in(state: GroupState, worker: str, verdict: Verdict | None) -> Answer:
    """In short, if the worker has to wait: it is answered again when it may go on."""
    member = state.member(worker)
    if member is None or member.base is not None:
        return _answer(state, worker, verdict)
    return Answer(
        state.policy,
        state.committed,
        state.since,
        seat=member.seat,
        ticket=member.ticket,
        next_round=next_round(state, member),
        is_silent=member.status in (Status.SILENT, Status.GONE),
        verdict=verdict,
    )


def awaited_workers(state: GroupState) -> tuple[Awaited, ...]:
    """Without whom the next round cannot commit, as it is told to others."""
    return tuple(
        [
            Awaited(each.worker, each.status is Status.SILENT, each.last_seen_s, each.incarnation)
            for each in awaited(state)
        ]
    )


# -- joining ------------------------------------------------------------------------------------


def _join(state: GroupState, event: Join) -> GroupState:
    policy, variables = _checked(event)
    known = state.member(event.worker)
    if known is not None and event.incarnation in known.replaced:
        raise FailedPreconditionError(_was_replaced(known, event.incarnation))
    in_run = [each for each in state.members if each.ticket > state.over]
    others = [each for each in in_run if each.worker != event.worker]
    was_in = known in in_run and known is not None and known.status in _IN_RUN
    difference = _difference(state, event, policy, variables)
    if difference and any(each in others for each in counted(state)):
        there = ", ".join([each.worker for each in counted(state) if each in others])
        raise FailedPreconditionError(f"{difference}; {there} still {'train' if ',' in there else 'trains'} that way")
    is_left = not was_in and not any(each.status in _IN_RUN for each in others)
    if difference or is_left:
        state = _new_run(state, event, policy, variables)
    elif was_in and known is not None and known.incarnation == event.incarnation:
        return state if known.status is Status.LIVE else settled(_awake(state, event))
    return settled(_seated(state, event, known))


def _seated(state: GroupState, event: Join, known: Member | None) -> GroupState:
    goes_on = known is not None and known.ticket > state.over
    member = Member(
        event.worker,
        event.incarnation,
        _free_seat(state) if known is None else known.seat,
        state.tickets + 1,
        last_seen_s=event.now_s,
    )
    if known is not None:
        earlier = known.replaced if known.incarnation == event.incarnation else (*known.replaced, known.incarnation)
        member = member._replace(replaced=earlier[-_MAX_REPLACED:], tally=known.tally)
    if known is not None and goes_on:  # what it has handed in stays handed in
        member = member._replace(handed=known.handed, applied=known.applied)
    state = state.with_member(member)
    return state._replace(tickets=member.ticket, joined=state.joined + (not goes_on))


def _checked(event: Join) -> tuple[SyncPolicy, Variables]:
    for name, value in (("name", event.worker), ("incarnation", event.incarnation)):
        if not 0 < len(value) <= _MAX_NAME_LENGTH:
            raise InvalidArgumentError(
                f"the {name} of a worker has {len(value)} characters; give 1 to {_MAX_NAME_LENGTH}"
            )
    policy = SyncPolicy.parse(event.policy)
    if 0 < event.workers < policy.workers_to_start:
        raise InvalidArgumentError(
            f"{event.worker} asks for {policy}, whose rounds need {policy.workers_to_start} workers; its cluster spec "
            f"has {event.workers}, and so no backups. Start {policy.workers_to_start} workers, or ask for fewer"
        )
    return policy, Variables(event.variables, event.digest, event.tasks)


def _difference(state: GroupState, event: Join, policy: SyncPolicy, variables: Variables) -> str:
    """In what a worker that joins differs from its group; empty if in nothing."""
    if not state.joined:
        return ""
    if variables != state.variables:
        return (
            f"{event.worker} trains {variables}, the group trains {state.variables} since {state.started_by} joined. "
            f"All workers of a group need the same model; give the optimizer of another one another name"
        )
    said = contradiction(policy, event.worker, state.sync, state.started_by)
    return f"{said}. Give all workers of a group the same sync=, or this optimizer another name" if said else ""


def _new_run(state: GroupState, event: Join, policy: SyncPolicy, variables: Variables) -> GroupState:
    why = f"{event.worker} has started this group again, with {policy}, when nobody trained in it; join it again"
    members = [each._replace(status=Status.GONE, base=None, outcomes=()) for each in state.members]
    return state._replace(
        policy=f"{policy}",
        variables=variables,
        started_by=event.worker,
        since=state.committed,
        joined=0,
        over=state.tickets,
        why_over=why if state.joined else state.why_over,
        members=tuple(members),
        pending=(),
    )


def _free_seat(state: GroupState) -> int:
    in_use = {each.seat for each in state.members if each.status in _IN_RUN}
    in_use |= {each.seat for each in state.pending}
    seat = next(seat for seat in range(len(in_use) + 1) if seat not in in_use)
    if seat >= MAX_WORKERS:
        raise ResourceExhaustedError(
            f"the group has {MAX_WORKERS} workers, which is the most; end some, or train in groups of other names",
            retryable=False,
        )
    return seat


# -- handing in ---------------------------------------------------------------------------------


def _hand_in(state: GroupState, event: HandIn) -> tuple[GroupState, Verdict | None]:
    member = _known(state, event.worker, event.incarnation)
    if member.status is Status.FINISHED:
        raise FailedPreconditionError(f"{event.worker} has finished, and hands in for round {event.round}; join again")
    model = event.computed_on
    if event.round < 1 or not (model is None or 0 <= model <= state.committed):
        raise InvalidArgumentError(
            f"{event.worker} hands in for round {event.round} what it has computed on the model {model}; "
            f"the models are those from 0 to {state.committed}"
        )
    state = _awake(state, event)
    member = _known(state, event.worker, event.incarnation)
    verdict, staleness = _judged(state, member, event)
    if verdict is not Verdict.DUPLICATE:  # what is said of a round is what became of the newest gradient for it
        member = member._replace(outcomes=tuple([each for each in member.outcomes if each.round != event.round]))
    if verdict is None:
        assert model is not None  # or else it is stale
        pending = Pending(event.round, member.seat, member.ticket, model, state.committed, event.shards)
        state = state.with_member(member._replace(handed=event.round, base=None))
        state = state._replace(
            pending=tuple(sorted([*state.pending, pending], key=lambda each: (each.round, each.seat))),
            # It has seen the model on every ps, so that each has carried out that round and those before.
            decisions=tuple([each for each in state.decisions if each.round > model]),
        )
    elif verdict is Verdict.DUPLICATE:
        tally = member.tally.with_outcome(Outcome(event.round, verdict))
        state = state.with_member(member._replace(tally=tally))
    else:
        outcome = Outcome(event.round, verdict, staleness=staleness)
        state = state.with_member(with_outcome(state, member, outcome)._replace(base=None))
    state = settled(state)
    after = state.member(event.worker)
    if verdict is None and after is not None and after.outcomes and after.outcomes[-1].round == event.round:
        verdict = after.outcomes[-1].verdict
    return state, verdict


def _judged(state: GroupState, member: Member, event: HandIn) -> tuple[Verdict | None, int]:
    """What is known at once of a gradient, None if it may be applied; and its staleness."""
    if event.round <= member.handed:
        return Verdict.DUPLICATE, 0
    model, is_lone = event.computed_on, not state.sync.has_rounds
    if is_lone and (event.round > state.committed + 1 or any(each.seat == member.seat for each in state.pending)):
        raise InvalidArgumentError(_too_early(state, member, event))
    if not is_lone and event.round > next_round(state, member):
        raise InvalidArgumentError(_too_early(state, member, event))
    if model is None:
        return Verdict.STALE, 0
    if is_lone:
        fits = model >= member.applied and fits_budget(state, member, model)
        return None if fits else Verdict.STALE, state.committed - model
    if event.round <= state.committed:
        return Verdict.LATE, state.committed - model
    return Verdict.STALE if model < oldest_model(state, event.round) else None, event.round - 1 - model


def _too_early(state: GroupState, member: Member, event: HandIn) -> str:
    return (
        f"{event.worker} hands in for round {event.round}, but what it hands in next is for round "
        f"{next_round(state, member)}, when it was told to go on; {state.committed} rounds have committed"
    )


# -- coming and going ---------------------------------------------------------------------------


def _silent(state: GroupState, event: Silent) -> GroupState:
    member = state.member(event.worker)
    if member is not None and _is_of(state, event, Status.RESTS):
        return _settled(state.with_member(member._replace(status=Status.GONE)), event.now_s)
    if member is None or not _is_of(state, event, Status.LIVE):
        return state
    state = state.with_member(member._replace(status=Status.SILENT, base=None))
    if state.sync.on_missing is not OnMissing.SHRINK and not lacks_silent(state):
        # Rounds are as they were asked for without it, and must not wait for it when others finish.
        state = state.with_member(member._replace(status=Status.GONE, base=None))
    return _settled(state, event.now_s)


def _settled(state: GroupState, now_s: float) -> GroupState:
    """``settled``, or the end of the run, if it is not to go on without those who are missing."""
    if state.sync.on_missing is OnMissing.FAIL and lacks_silent(state):
        silent = [each for each in state.members if each.status is Status.SILENT]
        return _ended(state, f"{_last_seen(silent, now_s)}, and on_missing=fail")
    return settled(state)


def _given_up(state: GroupState, event: GivenUp) -> GroupState:
    if not event.worker:
        if not state.joined or not state.to_join:
            return state
        there = [each.worker for each in state.members if each.ticket > state.over]
        return _ended(
            state,
            f"{state.policy} needs {state.sync.workers_to_start} workers for its first round, and only {len(there)} "
            f"came within {state.sync.missing_timeout_s:g} s: {', '.join(there)}",
        )
    member = state.member(event.worker)
    if member is None or member.status is not Status.SILENT:
        return state
    if state.sync.on_missing is OnMissing.WAIT and lacks_silent(state):
        return _ended(
            state,
            f"{_last_seen([member], event.now_s)}, and on_missing=wait ended after {state.sync.missing_timeout_s:g} s",
        )
    return settled(state.with_member(member._replace(status=Status.GONE)))


def _ended(state: GroupState, why: str) -> GroupState:
    """The run is over for all who are in it."""
    return state._replace(
        since=state.committed,
        joined=0,
        over=state.tickets,
        why_over=f"training stopped after round {state.committed}: {why}. Join again to go on from there",
        members=tuple([each._replace(status=Status.GONE, base=None) for each in state.members]),
        pending=(),
    )


def _last_seen(members: list[Member], now_s: float) -> str:
    seen = [f"{each.worker} (last seen {max(0.0, now_s - each.last_seen_s):.1f} s before)" for each in members]
    return f"{', '.join(seen)} {'is' if len(members) == 1 else 'are'} missing"


def _awake(state: GroupState, event: HandIn | Back | Join) -> GroupState:
    """A worker is heard of: if rounds went on without it, they count on it again."""
    member = _known(state, event.worker, event.incarnation)
    return state.with_member(member._replace(status=Status.LIVE, last_seen_s=event.now_s))


def _known(state: GroupState, worker: str, incarnation: str) -> Member:
    """Returns the worker of an event, if it is counted."""
    member = state.member(worker)
    if member is None:
        raise NotFoundError(f"{worker} has not joined this group, or somebody else has its place; it must join first")
    if member.incarnation != incarnation:
        raise FailedPreconditionError(_was_replaced(member, incarnation))
    if member.ticket <= state.over:
        raise FailedPreconditionError(state.why_over)
    return member


def _is_of(state: GroupState, event: Silent | Back, *statuses: Status) -> bool:
    """Whether news of a worker are of its newest incarnation, in this run, and it is in one of these statuses."""
    member = state.member(event.worker)
    is_newest = member is not None and member.incarnation == event.incarnation and member.ticket > state.over
    return member is not None and is_newest and member.status in statuses


def _was_replaced(member: Member, incarnation: str) -> str:
    return (
        f"{member.worker} is the process {member.incarnation} now; the process {incarnation}, which had this place "
        f"before, is not counted any more, and should end"
    )
