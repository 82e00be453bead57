"""Bounded retries: what is tried again, how long, and what the error says at the end."""

from __future__ import annotations

import random
import traceback

import pytest

from ps_protocol.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    ResourceExhaustedError,
    ShardscopeError,
    UnavailableError,
)
from worker_client.connection.retry import Deadline, Reports, RetryPolicy


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now_s += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def policy(clock: Clock, **changes: float) -> RetryPolicy:
    return RetryPolicy(random=random.Random(0), sleep=clock.sleep, clock=clock, **changes)


def test_deadline_counts_down_to_zero(clock: Clock) -> None:
    deadline = Deadline(5, clock)
    clock.sleep(2)
    assert (deadline.remaining_s(), deadline.elapsed_s()) == (3, 2)
    clock.sleep(9)
    assert deadline.remaining_s() == 0


def test_tries_again_until_it_succeeds(clock: Clock) -> None:
    failures = iter([UnavailableError("away"), DeadlineExceededError("slow"), ResourceExhaustedError("full")])

    def attempt(_: float) -> str:
        for error in failures:
            raise error
        return "done"

    assert policy(clock).call(attempt, timeout_s=60, what="it") == "done"
    assert len(clock.pauses) == 3


def test_a_final_error_is_raised_at_once(clock: Clock) -> None:
    def attempt(_: float) -> None:
        raise InvalidArgumentError("never")

    with pytest.raises(InvalidArgumentError, match="never"):
        policy(clock).call(attempt, timeout_s=60, what="it")
    assert clock.pauses == []


def test_gives_up_in_time_and_says_what_it_waited_for(clock: Clock) -> None:
    def attempt(_: float) -> None:
        raise UnavailableError("connection refused", task="ps:1")

    with pytest.raises(
        DeadlineExceededError, match=r"ps:1 at h:1 to answer; last failure: connection refused"
    ) as caught:
        policy(clock).call(attempt, timeout_s=10, what="ps:1 at h:1 to answer")
    assert sum(clock.pauses) <= 10
    assert caught.value.task == "ps:1"
    assert isinstance(caught.value.last_failure, UnavailableError)
    assert "".join(traceback.format_exception(caught.value)).count("Traceback") == 1


def test_pauses_grow_to_a_limit_and_vary(clock: Clock) -> None:
    error = UnavailableError("away")
    drawn = [policy(clock).backoff_s(failures, error) for failures in (1, 2, 50)]  # the same number each time
    wide = RetryPolicy(random=random.Random(1))
    late = [wide.backoff_s(50, error) for _ in range(200)]
    early = [wide.backoff_s(1, error) for _ in range(200)]
    assert drawn == sorted(drawn)
    assert max(early) <= 0.05
    assert 1.5 < max(late) <= 2.0
    assert len(set(late)) == 200


def test_waits_as_long_as_the_error_asks(clock: Clock) -> None:
    assert policy(clock).backoff_s(1, ResourceExhaustedError("full", retry_after_s=3)) == 3


@pytest.mark.parametrize(("size_bytes", "seconds"), [(0, 20), (100_000_000, 30), (10**12, 60)])
def test_a_try_gets_time_for_its_bytes_but_not_beyond_the_deadline(
    clock: Clock, size_bytes: int, seconds: float
) -> None:
    given: list[float] = []
    policy(clock).call(given.append, timeout_s=60, what="it", size_bytes=size_bytes)
    assert given == [seconds]


def test_a_try_that_was_made_already_counts_as_the_first(clock: Clock) -> None:
    tries: list[float] = []
    first = UnavailableError("cut", retry_after_s=3)
    told: list[str] = []
    policy(clock).call(
        tries.append, timeout_s=60, what="it", failure=first, on_failure=lambda error, _: told.append(error.message)
    )
    assert (len(tries), clock.pauses, told) == (1, [3], ["cut"])
    with pytest.raises(DeadlineExceededError, match=r"after 1 try in 0\.0 s waiting for the ps; last failure: cut"):
        policy(clock).call(tries.append, timeout_s=2, what=lambda: "the ps", failure=first)
    assert len(tries) == 1


@pytest.mark.parametrize(
    ("error", "is_worth_it"),
    [
        (UnavailableError("x"), True),
        (DeadlineExceededError("x"), True),
        (UnavailableError("x", retryable=False), False),
        (InvalidArgumentError("x"), False),
    ],
)
def test_what_is_worth_repeating(error: ShardscopeError, is_worth_it: bool) -> None:
    assert RetryPolicy.is_worth_repeating(error) is is_worth_it


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("the task at h:1 cannot be reached (Connection refused). Check that it is running.", "Connection refused"),
        ("the task at h:1 did not answer in time (Deadline Exceeded). It may be busy.", "did not answer in time"),
        ("the process at h:1 is ps:0 now", "the process at h:1 is ps:0 now"),
        ("it is draining (shardscope shutdown). Wait.", "it is draining"),
    ],
)
def test_the_line_of_one_who_waits_is_short(message: str, reason: str) -> None:
    line = Reports.line("ps:1", "h:1", 3.2, 60.0, UnavailableError(message))
    assert line == f"waiting for ps:1 at h:1, 3 s of up to 60 s: {reason}"


def test_the_line_of_one_who_waits_no_longer_says_so() -> None:
    line = Reports.line("ps:1", "h:1", 119.0, 60.0, UnavailableError("it is draining"))
    assert line == "ps:1 at h:1 is not waited for any longer, after 60 s: it is draining"
