"""What tests of logged tasks get."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from uuid import UUID

import pytest

from ps_server.log.commit_log import CommitLimits
from ps_server.log.state_image import StateImage
from tests.unit.ps_server.log.logged_tasks import TIMEOUT_S, Journal, MakeTask, Task


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def make_task(journal: Journal) -> Iterator[MakeTask]:
    with ExitStack() as tasks:

        def make(
            image: StateImage | None = None, client: UUID | None = None, limits: CommitLimits | None = None
        ) -> Task:
            task = Task(journal, image, client, limits)
            tasks.callback(task.log.close, TIMEOUT_S)
            tasks.callback(journal.open.set)
            task.hello()
            return task

        yield make
