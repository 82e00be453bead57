"""What a ps keeps until a round commits, and what a reader of several ps tasks sees."""

from __future__ import annotations

import pytest

from ps_protocol.errors import AbortedError, DataLossError, FailedPreconditionError
from ps_protocol.training.round_messages import Decision, Part
from ps_protocol.training.round_operations import is_whole
from ps_server.rounds.staging import Slot, Staging, Stamp, begun, ended, staged


def _stage(state: Staging, seat: int, number: int, *, ticket: int = 1, since: int = 0, slots: int = 1) -> Staging:
    return staged(state, Part(seat, ticket, number), since=since, slots=slots)


def _commit(state: Staging, number: int, *parts: Part) -> Staging:
    after = begun(state, Decision(number, parts))
    assert after is not None
    return ended(after)


def test_a_ps_keeps_a_gradient_until_its_round_has_been_carried_out() -> None:
    state = _stage(Staging(), 0, 1)
    with pytest.raises(AbortedError, match="must have carried out round 1 before it takes a gradient for round 2"):
        _stage(state, 0, 2)
    state = _commit(state, 1, Part(0, 1, 1))
    assert _stage(state, 0, 2).slots == (Slot(0, 0, 1, 2),)


def test_a_worker_that_may_be_ahead_has_more_slots() -> None:
    state = _stage(_stage(Staging(), 0, 1, slots=2), 0, 2, slots=2)
    assert [(each.index, each.round) for each in state.slots] == [(0, 2), (1, 1)]
    with pytest.raises(AbortedError):
        _stage(state, 0, 3, slots=2)


def test_nothing_is_taken_before_earlier_runs_are_carried_out() -> None:
    with pytest.raises(AbortedError, match="must have carried out round 1"):
        _stage(Staging(), 0, 2, since=1, slots=9)


def test_an_older_gradient_does_not_take_the_place_of_a_newer_one() -> None:
    state = _stage(Staging(), 0, 1, ticket=2)
    with pytest.raises(FailedPreconditionError, match="another process has the place of this worker"):
        _stage(state, 0, 1, ticket=1)
    assert _stage(state, 0, 1, ticket=2) == state, "sent again"
    assert _stage(state, 0, 1, ticket=3) != state


def test_a_round_is_carried_out_once_and_in_order() -> None:
    state = _stage(Staging(), 0, 1)
    with pytest.raises(AbortedError, match="is to carry out round 2"):
        begun(state, Decision(2, (Part(0, 1, 1),)))
    state = _commit(state, 1, Part(0, 1, 1))
    assert begun(state, Decision(1, (Part(0, 1, 1),))) is None


def test_a_gradient_that_is_not_there_is_not_left_out() -> None:
    state = _stage(Staging(), 0, 1)
    for part in (Part(1, 1, 1), Part(0, 2, 1), Part(0, 1, 2)):
        with pytest.raises(DataLossError, match="which this ps does not have"):
            begun(state, Decision(1, (part,)))


def test_a_ps_that_gave_up_in_the_middle_of_a_round_goes_no_further() -> None:
    state = Staging(2, 1, (Slot(0, 0, 1, 2),))
    for number in (1, 2, 3):
        with pytest.raises(DataLossError, match="had no memory to finish round 2, of which it has made a part"):
            begun(state, Decision(number, (Part(0, 1, 2),)))
    with pytest.raises(DataLossError, match="had no memory to finish round 2"):
        _stage(state, 0, 3, slots=9)


# -- readers ------------------------------------------------------------------------------------

VARIABLES = 2
DECISIONS = tuple([Decision(number, (Part(0, 1, number),)) for number in (1, 2)])


def _whole_reads(two_stamps: bool = True) -> tuple[int, set[int]]:
    """Explores a reader of two ps tasks with two variables each, in every order with those who bring decisions.

    A ps carries a round out in steps: it begins, changes one variable after the other, and ends. The reader looks at
    the stamp of a ps, at its variables, and at its stamp again, and so at the other ps.

    Args:
        two_stamps: Whether a ps notes that it has begun; else the reader only sees what has ended.

    Returns:
        How many states there are, and the models that were taken.
    """
    reads = [(ps, what) for ps in (0, 1) for what in ("before", *range(VARIABLES), "after")]
    taken: set[int] = set()
    # Of each ps the number of small steps that it has made of all rounds; of the reader what it has read so far.
    length = VARIABLES + 2
    start: tuple[tuple[int, int], tuple[Stamp | int, ...]] = ((0, 0), ())
    seen, todo = {start}, [start]
    while todo:
        steps, read = todo.pop()
        after = []
        for ps in (0, 1):
            if steps[ps] < length * len(DECISIONS):
                moved = (steps[0] + (ps == 0), steps[1] + (ps == 1))
                after.append((moved, read))
        if len(read) < len(reads):
            ps, what = reads[len(read)]
            number, step = divmod(steps[ps], length)
            if isinstance(what, int):
                value: Stamp | int = number + (step > what + 1)
            else:
                state = _stage(Staging(number, number), 0, number + 1)
                if step:
                    begins = begun(state, DECISIONS[number])
                    assert begins is not None
                    state = begins
                value = state.stamp if two_stamps else (state.ended, state.ended)
            after.append((steps, (*read, value)))
        elif is_whole([each for each in read if isinstance(each, tuple)]):
            models = {each for each in read if isinstance(each, int)}
            assert len(models) == 1, f"half of a round was read: {models}"
            taken |= models
        for each in after:
            if each not in seen:
                seen.add(each)
                todo.append(each)
    return len(seen), taken


def test_a_reader_sees_a_round_on_all_ps_tasks_or_on_none() -> None:
    num_states, taken = _whole_reads()
    assert taken == {0, 1, 2}
    assert num_states > 1000


def test_a_stamp_that_is_only_written_behind_the_variables_would_not_do() -> None:
    with pytest.raises(AssertionError, match="half of a round was read"):
        _whole_reads(two_stamps=False)


def test_what_was_read_is_one_model_only_if_nothing_was_being_changed() -> None:
    assert is_whole([(3, 3), (3, 3)])
    assert not is_whole([(4, 3), (4, 3)])
    assert not is_whole([(3, 3), (4, 4)])
    assert not is_whole([])
