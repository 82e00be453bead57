"""What became of gradients, as workers are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from ps_protocol.errors import ShardscopeError
from ps_protocol.operations import Reply, Result, Verdict
from ps_protocol.training.round_messages import Verdict as RoundVerdict
from worker_client.connection.fanout import succeeded
from worker_client.objects.round_operations import StepResult

_APPLIED: Final = Verdict.APPLIED  # looking a member up takes as long as a call
_IN_ROUND: Final = RoundVerdict.APPLIED


class Applied(NamedTuple):
    """What became of the gradient of one variable.

    Attributes:
        verdict: "applied"; or "skipped", if it was not finite and the optimizer was made with ``on_nonfinite="skip"``.
            Of a partitioned variable "skipped" if any of its parts was. With ``sync`` what became of the gradient in
            its round: "applied", "late", "stale" or "duplicate"; "pending", if the round has not committed yet; or
            "skipped", if the round is the average of those of the others.
        version: Of the variable after it; of a partitioned one those of its parts. With ``sync`` the number of the
            newest model that all ps tasks had then.
        round: With ``sync``, that it was handed in for; else 0.
        staleness: With ``sync``, how many rounds came between the model that it was computed on and the one that it was
            applied to: its data staleness.
        publish_lag: With ``sync``, how many of these came between its being handed in and its being applied.
    """

    verdict: Literal["applied", "skipped", "late", "stale", "duplicate", "pending"]
    version: int | tuple[int, ...]
    round: int = 0
    staleness: int = 0
    publish_lag: int = 0

    @property
    def counts(self) -> bool:
        """Whether that is all there is to do: not after "late" or "stale", when it can be computed on the newer model.

        If it is "pending", its round will have it; of a "duplicate" the one before counts.
        """
        return self.verdict not in ("late", "stale")


def in_round(result: StepResult, *, is_skipped: bool) -> Applied:
    """What became of a gradient that was handed in for a round.

    Args:
        result: What became of the gradients of all variables.
        is_skipped: Whether the round goes without this one, since it is not finite.
    """
    outcome = result.outcome
    if outcome is None:
        return Applied("skipped" if is_skipped else "pending", result.model, result.round)
    applied = Applied(outcome.verdict.value, result.model, result.round, outcome.staleness, outcome.publish_lag)
    return applied._replace(verdict="skipped") if is_skipped and outcome.verdict is _IN_ROUND else applied


def is_applied(reply: Reply) -> bool:
    """Whether the gradient of a part was applied."""
    return not isinstance(reply, ShardscopeError) and reply.verdict is _APPLIED


def outcomes_of(replies: Sequence[Reply], lengths: Sequence[int], stand_ins: Sequence[int]) -> list[Applied]:
    """Puts the replies of parts together; raises the first error when all have been looked at.

    The errors of parts that got NaN in place of their gradients come last: another one says where that is not finite.
    """
    if stand_ins:
        for number, reply in enumerate(replies):
            if number not in stand_ins:
                succeeded(reply)
    results = [succeeded(each) for each in replies]
    outcomes: list[Applied] = []
    start = 0
    for length in lengths:
        first = results[start]
        if length == 1:
            outcomes.append(Applied(_verdict(first), first.version))
        else:
            of_variable = results[start : start + length]
            skipped = [each for each in of_variable if each.verdict is not _APPLIED]
            verdict = _verdict(skipped[0] if skipped else first)
            outcomes.append(Applied(verdict, tuple([each.version for each in of_variable])))
        start += length
    return outcomes


def _verdict(result: Result) -> Literal["applied", "skipped"]:
    return "applied" if result.verdict is _APPLIED else "skipped"
