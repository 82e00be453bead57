from __future__ import annotations

from ps_server.snapshot_policies import AtIntervals, SinceLast, WhenJournalIsLong


class FakeJournal:
    size_bytes = 0


def test_at_intervals() -> None:
    assert [AtIntervals(60).is_due(SinceLast(s, 0, 1e9)) for s in (0, 59.9, 60, 100)] == [False, False, True, True]


def test_when_the_journal_takes_more_than_the_variables() -> None:
    journal, variable_bytes = FakeJournal(), 50
    policy = WhenJournalIsLong(journal, lambda: variable_bytes, least_bytes=100)
    for journal.size_bytes, is_due in ((0, False), (100, False), (101, True)):
        assert policy.is_due(SinceLast(1e9, 10, 1e9)) is is_due
    variable_bytes = 200
    assert not policy.is_due(SinceLast(1e9, 10, 0))
    journal.size_bytes = 201
    assert policy.is_due(SinceLast(0, 10, 1e9))


def test_when_there_are_many_records_but_not_all_the_time() -> None:
    policy = WhenJournalIsLong(FakeJournal(), lambda: 0, records=1000)
    assert not policy.is_due(SinceLast(1e9, 1000, 0))
    assert policy.is_due(SinceLast(0, 1001, 0))
    assert not policy.is_due(SinceLast(39, 1001, 2))
    assert policy.is_due(SinceLast(40, 1001, 2))
