"""What this process has stopped is not waited for, until something listens there again."""

from __future__ import annotations

import socket

import pytest

from ps_protocol.errors import FailedPreconditionError
from ps_protocol.stopped_clusters import check_not_stopped, note_started, note_stopped


def test_what_was_stopped_is_refused_until_it_is_started_again() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # and not listen: connections are refused
        here, other = f"127.0.0.1:{sock.getsockname()[1]}", "127.0.0.1:1"
        note_stopped([here])
        check_not_stopped(other, "ps:1")
        with pytest.raises(
            FailedPreconditionError, match=rf"LocalCluster at {here} was stopped; make a new one"
        ) as refused:
            check_not_stopped(here, "ps:1")
        assert (refused.value.task, refused.value.retryable) == ("ps:1", False)
        note_started([here, other])
        check_not_stopped(here, "ps:1")


def test_who_listens_there_by_now_is_another_one_and_may_go_away_and_come_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        here = f"127.0.0.1:{other.getsockname()[1]}"
        note_stopped([here])
        check_not_stopped(here, "ps:0")
    check_not_stopped(here, "ps:0")
