"""A group of workers that train together, as tests drive it."""

from __future__ import annotations

from ps_protocol.training.round_messages import (
    Answer,
    Back,
    Event,
    Finish,
    HandIn,
    Join,
    Look,
    Silent,
)
from ps_server.rounds.group import step
from ps_server.rounds.state import GroupState


class Group:
    """A group whose workers are numbers."""

    def __init__(self, policy: str, joined: int = 0):
        self.policy = policy
        self.state = GroupState()
        self.now_s = 100.0
        for worker in range(joined):
            self.join(worker)

    def tell(self, event: Event) -> Answer:
        self.state, answer = step(self.state, event)
        return answer

    def join(
        self, worker: int, incarnation: str = "a", *, policy: str = "", workers: int = 0, variables: int = 2
    ) -> Answer:
        text = policy or self.policy
        name = f"worker:{worker}"
        return self.tell(Join(name, incarnation, text, variables, "d", 2, workers=workers, now_s=self.now_s))

    def hand_in(self, worker: int, number: int, computed_on: int | None = None, incarnation: str = "a") -> Answer:
        model = number - 1 if computed_on is None else computed_on
        return self.tell(HandIn(f"worker:{worker}", incarnation, number, model, self.now_s))

    def finish(self, worker: int) -> Answer:
        return self.tell(Finish(f"worker:{worker}", "a", self.now_s))

    def silent(self, worker: int, incarnation: str = "a") -> Answer:
        return self.tell(Silent(f"worker:{worker}", incarnation, self.now_s))

    def back(self, worker: int) -> Answer:
        return self.tell(Back(f"worker:{worker}", "a", self.now_s))

    def look(self, worker: int, incarnation: str = "a") -> Answer:
        return self.tell(Look(f"worker:{worker}", incarnation))

    def seats(self) -> list[tuple[int, list[int]]]:
        """Of the rounds that are kept, who is in them."""
        return [(each.round, [part.seat for part in each.parts]) for each in self.state.decisions]
