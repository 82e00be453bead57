"""What holds for all folders of checkpoints and all retentions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ps_protocol.checkpoints.retention import Keepable, Retention, to_remove

HOUR_S = 3600.0
NOW_S = 1e9

RETENTIONS = st.builds(
    lambda last, hours, age, best: Retention(
        last=last, every_hours=hours, max_age_hours=age, best=best, metric="accuracy" if best else ""
    ),
    st.integers(0, 4),
    st.sampled_from([0.0, 0.5, 2.0]),
    st.sampled_from([0.0, 3.0, 10.0]),
    st.integers(0, 3),
)
FOLDERS = st.lists(
    st.tuples(
        st.floats(-1, 12), st.one_of(st.none(), st.floats(0, 1), st.just(float("nan"))), st.sampled_from([True, False])
    ),
    max_size=12,
).map(
    lambda rows: [
        Keepable(f"{index}", NOW_S - hours * HOUR_S, {} if value is None else {"accuracy": value}, is_pinned)
        for index, (hours, value, is_pinned) in enumerate(sorted(rows, key=lambda row: -row[0]))
    ]
)


@given(FOLDERS, RETENTIONS)
def test_the_newest_and_pinned_stay_and_a_second_look_removes_nothing(
    folder: list[Keepable], retention: Retention
) -> None:
    gone = to_remove(folder, retention, NOW_S)
    left = [each for each in folder if each.name not in gone]
    assert [each.name for each in folder[-1:] if each.name in gone] == []
    assert [each.name for each in folder if each.is_pinned and each.name in gone] == []
    assert to_remove(left, retention, NOW_S) == []


@given(FOLDERS, st.integers(1, 4), st.sampled_from([0.5, 2.0]))
def test_what_hours_keep_does_not_depend_on_when_one_looks(folder: list[Keepable], last: int, hours: float) -> None:
    """Removing after each save leaves at least what removing once at the end does."""
    retention, there = Retention(last=last, every_hours=hours), []
    for each in folder:
        there.append(each)
        gone = to_remove(there, retention, each.saved_at_s)
        there = [one for one in there if one.name not in gone]
    gone = to_remove(folder, retention, NOW_S)
    assert there == [each for each in folder if each.name not in gone]
