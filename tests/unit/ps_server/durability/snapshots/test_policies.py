from __future__ import annotations

import pytest

from ps_server.durability.snapshots.policies import AtIntervals, SinceLast, WhenJournalIsLong

MIB = 1024**2


class FakeJournal:
    size_bytes = 0


def test_at_intervals() -> None:
    assert [AtIntervals(60).is_due(SinceLast(s, 0, 1e9)) for s in (0, 59.9, 60, 100)] == [False, False, True, True]


def test_when_the_journal_takes_more_than_the_variables() -> None:
    journal, variable_bytes = FakeJournal(), 50
    policy = WhenJournalIsLong(journal, lambda: variable_bytes, least_bytes=1000)
    for journal.size_bytes, is_due in ((0, False), (1000, False), (1001, True)):
        assert policy.is_due(SinceLast(1e9, 10, 1e9)) is is_due
    variable_bytes = 200
    assert not policy.is_due(SinceLast(1e9, 10, 0))
    journal.size_bytes = 1601
    assert policy.is_due(SinceLast(0, 10, 1e9))


@pytest.mark.parametrize(
    ("variable_mib", "journal_mib"),
    [(0, 256), (32, 256), (33, 264), (100, 800), (128, 1024), (1024, 1024), (5000, 5000)],
)
def test_a_journal_may_take_many_times_what_few_variables_do_and_as_much_as_many_do(
    variable_mib: int, journal_mib: int
) -> None:
    journal = FakeJournal()
    policy = WhenJournalIsLong(journal, lambda: variable_mib * MIB)
    journal.size_bytes = journal_mib * MIB
    assert not policy.is_due(SinceLast(1e9, 10, 0))
    journal.size_bytes += 1
    assert policy.is_due(SinceLast(0, 10, 1e9))


def test_when_there_are_many_records_but_not_all_the_time() -> None:
    policy = WhenJournalIsLong(FakeJournal(), lambda: 0, records=1000)
    assert not policy.is_due(SinceLast(1e9, 1000, 0))
    assert policy.is_due(SinceLast(0, 1001, 0))
    assert not policy.is_due(SinceLast(39, 1001, 2))
    assert policy.is_due(SinceLast(40, 1001, 2))
