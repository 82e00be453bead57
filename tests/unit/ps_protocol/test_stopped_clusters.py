"""What this process has stopped is not waited for, until something is started there again."""

from __future__ import annotations

import pytest

from ps_protocol.errors import FailedPreconditionError
from ps_protocol.stopped_clusters import check_not_stopped, note_started, note_stopped


def test_what_was_stopped_is_refused_until_it_is_started_again() -> None:
    here, other = "stopped.example:1", "stopped.example:2"
    note_stopped([here])
    check_not_stopped(other, "ps:1")
    with pytest.raises(
        FailedPreconditionError, match=rf"LocalCluster at {here} was stopped; make a new one"
    ) as refused:
        check_not_stopped(here, "ps:1")
    assert (refused.value.task, refused.value.retryable) == ("ps:1", False)
    note_started([here, other])
    check_not_stopped(here, "ps:1")
