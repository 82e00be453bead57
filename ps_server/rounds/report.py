"""A group in words and rows, for ``shardscope workers``, logs and errors."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from ps_protocol.training.round_messages import Answer
from ps_server.rounds.group import awaited_workers
from ps_server.rounds.quorum import awaited, is_resting, next_round
from ps_server.rounds.state import GroupState, Member, Status

_SHOWN: Final = {Status.RESTS: Status.LIVE}


def under_way(state: GroupState) -> dict[str, Any]:
    """Returns the tickets and rounds of gradients that wait, and of decided ones that may not be carried out yet."""
    return {
        "pending": [[each.ticket, each.round] for each in state.pending],
        "decided": [[part.ticket, part.round] for each in state.decisions for part in each.parts],
    }


def rows(state: GroupState) -> list[dict[str, Any]]:
    """Returns a row for each worker, by seat: what it does, what became of its gradients, and how stale they were."""
    return [
        {
            "worker": each.worker,
            "seat": each.seat,
            "status": _SHOWN.get(each.status, each.status).value,
            "does": _does(state, each),
            "waits": each.status is Status.LIVE and each.base is None,
            "handed": each.handed,
            "last_seen_s": each.last_seen_s,
            "incarnation": each.incarnation,
            **each.tally._asdict(),
        }
        for each in state.members
    ]


def whole(state: GroupState) -> dict[str, Any]:
    """Returns all that people ask of a group: its policy, how far it is, for whom it waits, and a row for each worker.

    Before the first worker has joined, the policy is empty.
    """
    waits = bool(state.policy) and not state.to_join
    return {
        "policy": state.policy,
        "round": state.committed,
        "quorum": sum([each.status is Status.LIVE for each in state.members]),
        "to_join": state.to_join if state.policy else 0,
        "awaited": [asdict(each) for each in awaited_workers(state)] if waits else [],
        "workers": rows(state),
        "ended": state.why_over if state.over == state.tickets else "",
        "digest": state.variables.digest,
    }


def waiting_in_words(answer: Answer, now_s: float) -> str:
    """Says for whom a worker waits, and when each was last seen; empty if for nobody.

    Args:
        answer: The newest one.
        now_s: The time, in seconds since the epoch.
    """
    if answer.to_join:
        return f"{answer.to_join} more worker{'s' if answer.to_join > 1 else ''} to join before the first round"
    words = []
    for each in answer.awaited:
        seen = f"last seen {max(0.0, now_s - each.last_seen_s):.1f} s ago"
        words.append(f"{each.worker} ({'silent, ' if each.is_silent else ''}{seen})")
    return ", ".join(words)


def _does(state: GroupState, member: Member) -> str:
    if member.ticket <= state.over:
        return "is in no run"
    if member.status is Status.RESTS:
        return "waits for data"
    if member.status is not Status.LIVE:
        return (
            "rests" if is_resting(state) else "is not waited for" if member not in awaited(state) else "is waited for"
        )
    if member.base is not None:
        return f"computes for round {next_round(state, member)} on the model {member.base}"
    if state.to_join:
        return f"waits for {state.to_join} more to join"
    others = [each.worker for each in awaited(state) if each.seat != member.seat]
    return f"waits for {', '.join(others)}"
