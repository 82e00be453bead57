"""How long a ps has not heard of a worker, as far as that can be known."""

from __future__ import annotations

from worker_client.objects.departures import Unheard


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def seen_at(unheard: Unheard, clock: Clock, *times_s: float) -> list[float]:
    found = []
    for each in times_s:
        clock.now_s = 100.0 + each
        found.append(unheard.for_s("a"))
    return found


def test_it_counts_from_the_first_look_on() -> None:
    clock = Clock()
    assert seen_at(Unheard(clock), clock, 0, 2, 4, 10) == [0, 2, 4, 10]


def test_a_worker_that_was_heard_of_begins_anew_and_others_do_not() -> None:
    clock = Clock()
    unheard = Unheard(clock)
    unheard.for_s("b")
    seen_at(unheard, clock, 0, 2)
    unheard.heard("a")
    unheard.heard("nobody")
    assert seen_at(unheard, clock, 4, 5) == [0, 1]
    assert unheard.for_s("b") == 5


def test_time_in_which_nobody_looked_does_not_count() -> None:
    """The ps may have been told of it then, and have been started again since."""
    clock = Clock()
    assert seen_at(Unheard(clock), clock, 0, 2, 13, 15, 17) == [0, 2, 0, 2, 4]
