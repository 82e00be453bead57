"""When a round commits, and who may go on: what the policies differ in.

- With rounds, the next one commits when every worker that is counted on has handed in for it; with
  ``replicas_to_aggregate`` when that many have, or all there are if they are fewer.
- A worker may start the step for a round when the newest model is at most ``bound`` rounds older than the one before
  that round. So no gradient is ever more than ``bound`` rounds old, and a bound of 0 is bsp.
- Without rounds, each gradient commits alone as soon as it was handed in. With a budget of staleness it waits if a
  gradient that another worker is computing would become too old by that; and a worker waits before it starts if its
  own would. The oldest one under way never waits, so that somebody can always go on.
- A round commits from what was handed in, never from nothing. If nobody is live and somebody is silent, the group
  rests: whoever comes back first finds the round as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ps_protocol.training.round_messages import Decision, Outcome, Part, Verdict
from ps_protocol.training.sync_policy import OnMissing
from ps_server.rounds.state import GroupState, Member, Pending, Status


def settled(state: GroupState) -> GroupState:
    """Commits every round that can, and then tells every worker to go on that may."""
    while parts := next_parts(state):
        state = _committed(state, parts)
    return _started(state)


def next_parts(state: GroupState) -> Sequence[Pending]:
    """Returns the gradients of the round that commits next; none if it cannot commit yet."""
    if state.to_join or is_resting(state):
        return ()
    return _round_parts(state) if state.sync.has_rounds else _lone_part(state)


def next_round(state: GroupState, member: Member) -> int:
    """The round that a worker hands in for next."""
    if not state.sync.has_rounds:
        return 1 + (state.committed if member.base is None else member.base)
    return 1 + max(state.committed, member.handed)


def counted(state: GroupState) -> list[Member]:
    """The workers that a round waits for."""
    waits = state.sync.on_missing is OnMissing.WAIT
    return [each for each in state.members if each.status is Status.LIVE or (waits and each.status is Status.SILENT)]


def is_resting(state: GroupState) -> bool:
    """Whether nobody is live, but somebody may come back; who waits for data is there, and may wait for the round."""
    statuses = {each.status for each in state.members}
    return Status.SILENT in statuses and not statuses & {Status.LIVE, Status.RESTS}


def lacks_silent(state: GroupState) -> bool:
    """Whether rounds as they were asked for cannot do without the silent workers."""
    live = sum([each.status is Status.LIVE for each in state.members])
    silent = sum([each.status is Status.SILENT for each in state.members])
    return live < min(state.sync.replicas_to_aggregate or live + silent, live + silent)


def oldest_model(state: GroupState, round_number: int) -> int:
    """The oldest model that a gradient for a round may have been computed on."""
    return max(state.since, round_number - 1 - state.sync.bound)


def fits_budget(state: GroupState, member: Member, computed_on: int) -> bool:
    """Whether a gradient that a worker without rounds hands in can be applied before it, or another one, is too old."""
    others = _models_under_way([each for each in state.members if each.seat != member.seat], state.pending)
    return _keeps_budget(state, state.committed, [*others, computed_on])


def awaited(state: GroupState) -> list[Member]:
    """The workers without which the next round cannot commit, or nobody else can go on."""
    if state.sync.has_rounds:
        handed = {each.seat for each in state.pending if each.round == state.committed + 1}
        waits_for = state.members if is_resting(state) else counted(state)
        return [each for each in waits_for if each.seat not in handed and each.status in (Status.LIVE, Status.SILENT)]
    under_way = [each for each in state.members if each.status is Status.LIVE and each.base is not None]
    oldest = min([each.base or 0 for each in under_way], default=0)
    return [each for each in under_way if state.sync.max_staleness is not None and each.base == oldest]


# -- what commits -------------------------------------------------------------------------------


def _round_parts(state: GroupState) -> Sequence[Pending]:
    parts = [each for each in state.pending if each.round == state.committed + 1]
    seats = {each.seat for each in parts}
    needed = {each.seat for each in counted(state)}
    if state.sync.replicas_to_aggregate is None:
        return parts if needed <= seats else ()
    return parts if len(seats) >= min(state.sync.replicas_to_aggregate, len(needed | seats)) else ()


def _lone_part(state: GroupState) -> Sequence[Pending]:
    for part in sorted(state.pending, key=lambda each: (each.computed_on, each.seat)):
        others = _models_under_way(state.members, [each for each in state.pending if each is not part])
        if _keeps_budget(state, state.committed + 1, others):
            return [part]
    return ()


def _models_under_way(members: Iterable[Member], pending: Iterable[Pending]) -> list[int]:
    computing = [each.base for each in members if each.base is not None]
    return [*computing, *[each.computed_on for each in pending]]


def _keeps_budget(state: GroupState, committed: int, models: Iterable[int]) -> bool:
    """Whether gradients on these models can all be applied in time: the one on the oldest model next, and so on."""
    most = state.sync.max_staleness
    return most is None or all(committed + place - model <= most for place, model in enumerate(sorted(models)))


def _committed(state: GroupState, parts: Sequence[Pending]) -> GroupState:
    number = state.committed + 1
    parts = sorted(parts, key=lambda each: each.seat)
    shards = tuple(sorted({each.shards for each in parts if each.shards}))
    decision = Decision(number, tuple([Part(each.seat, each.ticket, each.round) for each in parts]), shards)
    members = {each.seat: each for each in state.members}
    for part in parts:
        outcome = Outcome(
            part.round,
            Verdict.APPLIED,
            applied_in=number,
            staleness=state.committed - part.computed_on,
            publish_lag=state.committed - part.handed_at,
        )
        members[part.seat] = with_outcome(state, members[part.seat], outcome)._replace(applied=number)
    return state._replace(
        committed=number,
        members=tuple(members.values()),
        pending=tuple([each for each in state.pending if each not in parts]),
        decisions=(*state.decisions, decision),
    )


def with_outcome(state: GroupState, member: Member, outcome: Outcome) -> Member:
    """Counts what became of a gradient of a worker; as many outcomes are kept as it may not know yet."""
    outcomes = (*member.outcomes, outcome)[-state.sync.staging_slots :]
    return member._replace(outcomes=outcomes, tally=member.tally.with_outcome(outcome))


# -- who may go on ------------------------------------------------------------------------------


def _started(state: GroupState) -> GroupState:
    # Whoever has handed in least lately comes first, or else two workers could take turns while a third one waits.
    for member in sorted(state.members, key=lambda each: (each.handed, each.seat)):
        if member.status is Status.LIVE and member.base is None and _may_start(state, member):
            state = state.with_member(member._replace(base=state.committed))
    return state


def _may_start(state: GroupState, member: Member) -> bool:
    if state.sync.has_rounds:
        return next_round(state, member) - 1 - state.committed <= state.sync.bound
    if any(each.seat == member.seat for each in state.pending):
        return False
    under_way = _models_under_way(state.members, state.pending)
    return _keeps_budget(state, state.committed, [*under_way, state.committed])
