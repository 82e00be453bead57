"""How fast Shardscope is meant to be, in ratios to its peers and to the machine, and whether a run shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

LIMIT = "limit"


@dataclass(frozen=True)
class Target:
    """A bound on one ratio.

    Attributes:
        transport: Ours.
        workload: As in ``workloads``.
        variant: Ours; None for the first.
        against: A peer: its time divided by ours is to be at least ``bound``. Or ``LIMIT``: our time divided by the
            machine's is to be at most ``bound``.
        bound: The ratio.
    """

    transport: str
    workload: str
    variant: str | None
    against: str
    bound: float

    def is_met(self, ratio: float) -> bool:
        """Whether a measured ratio is within the bound."""
        return ratio <= self.bound if self.against == LIMIT else ratio >= self.bound

    def __str__(self) -> str:
        return f"at most {self.bound:g}" if self.against == LIMIT else f"at least {self.bound:g}"


def _targets() -> Iterator[Target]:
    for workload in ("add", "read"):
        yield from _row("socket", workload, None, tensorflow=15, torch=8, ray=15, limit=4)
    yield from _row("socket", "pull", None, tensorflow=2.5, torch=2.2, limit=1.25)
    yield from _row("socket", "push", None, tensorflow=2.2, torch=2.2, ray=2, limit=1.6)
    for workload in ("pull161", "push161"):
        yield from _row("socket", workload, None, tensorflow=3, torch=1.5, limit=1.5)
    yield from _row("socket", "gather", None, tensorflow=6, torch=4, ray=6)
    for workload in ("scatter", "scatter_zipf"):
        yield from _row("socket", workload, None, tensorflow=4, torch=1.5, ray=10)
    yield from _row("shm", "pull", "view", tensorflow=7, ray=1.4, limit=1.3)
    yield from _row("shm", "pull", "copied", tensorflow=3.5)
    yield from _row("shm", "push", "in place", tensorflow=3, ray=2.5, limit=2.5)
    for workload in ("add", "read"):
        yield from _row("grpc", workload, None, tensorflow=2)
    for workload in ("pull", "push", "gather", "scatter", "scatter_zipf", "pull161", "push161"):
        yield from _row("grpc", workload, None, tensorflow=0.8)


def _row(transport: str, workload: str, variant: str | None, **bounds: float) -> Iterator[Target]:
    for against, bound in bounds.items():
        yield Target(transport, workload, variant, against, bound)


TARGETS = tuple(_targets())
