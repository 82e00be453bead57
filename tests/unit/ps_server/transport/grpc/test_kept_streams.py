"""How many streams stay open between two batches."""

from __future__ import annotations

from contextlib import ExitStack, suppress

from ps_server.transport.grpc.kept_streams import KeptStreams


def test_streams_stay_open_unless_there_are_too_many() -> None:
    streams = KeptStreams(2)
    with ExitStack() as opened:
        kept = [opened.enter_context(streams.open()) for _ in range(2)]
        assert [each() for each in kept] == [True, True]
        with streams.open() as third:
            assert [each() for each in [*kept, third]] == [False, False, False]
        assert [each() for each in kept] == [True, True]


def test_one_that_fails_is_not_counted_any_more() -> None:
    streams = KeptStreams(0)
    with suppress(ConnectionError), streams.open() as failed:
        fail_if(not failed())
    assert failed()


def fail_if(condition: bool) -> None:
    assert condition
    raise ConnectionError
