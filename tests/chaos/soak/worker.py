"""A worker of the soak: sends numbered updates until it has sent enough, and writes down which were acknowledged."""

from __future__ import annotations

import argparse
import random
import sys
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import worker_client as ss
from tests.chaos.patience import connect_impatiently
from tests.chaos.soak.pauses import pause_if_asked
from tests.chaos.soak.variables import (
    MAX_FACTOR,
    NumberedUpdate,
    SoakVariable,
    UpdateLog,
    acknowledged_path,
    sent_path,
    soak_variables,
)

ENOUGH_FILE: Final = "enough"
"""Name of the file whose presence says that all faults have happened, so that a worker may end."""

OPERATION_TIMEOUT_S: Final = 120.0
_MAX_ON_THE_WAY: Final = 64


class SoakWorker:
    """Sends updates one after the other, of which some are waited for. Its connection stays the caller's."""

    def __init__(self, variables: Sequence[SoakVariable], *, sent: UpdateLog, acknowledged: UpdateLog, seed: str):
        self._known = variables
        self._variables = [variable.declare() for variable in variables]
        self._weights = [variable.weight for variable in variables]
        self._sent = sent
        self._acknowledged = acknowledged
        self._random = random.Random(seed)
        self._on_the_way: deque[Future[Any]] = deque()
        self.number = 0

    def send_next(self, client: ss.Client) -> None:
        """Sends an update, or one batch over all ps tasks; raises what a ps refuses one with."""
        kind = self._random.random()
        if kind < 0.1:
            self._send_batch(client)
            return
        (index,) = self._random.choices(range(len(self._known)), self._weights)
        update = self._numbered(index, group=1)
        delta = self._known[index].multiple(update.factor)
        self._sent.append(update)
        if kind < 0.5:
            self._variables[index].assign_add(delta)
            self._acknowledged.append(update)
            return
        future = self._variables[index].assign_add(delta, wait=False)
        future.add_done_callback(lambda done: self._note(done, update))
        self._on_the_way.append(future)
        while len(self._on_the_way) > _MAX_ON_THE_WAY:
            self._on_the_way.popleft().result(OPERATION_TIMEOUT_S)

    def finish(self) -> None:
        """Waits for what is on its way; raises what a ps refused one with."""
        for future in self._on_the_way:
            future.result(OPERATION_TIMEOUT_S)
        self._on_the_way.clear()

    def _send_batch(self, client: ss.Client) -> None:
        tasks = sorted({variable.ps_index for variable in self._known})
        chosen = [self._random.choice(self._small_on(task)) for task in tasks]
        updates = [self._numbered(index, group=len(chosen)) for index in chosen]
        pairs = [(self._variables[each.variable], self._known[each.variable].multiple(each.factor)) for each in updates]
        self._sent.append(*updates)
        client.assign_add_all(pairs)
        self._acknowledged.append(*updates)

    def _small_on(self, task: int) -> list[int]:
        return [
            index for index, variable in enumerate(self._known) if variable.ps_index == task and len(variable.shape) < 2
        ]

    def _numbered(self, index: int, *, group: int) -> NumberedUpdate:
        self.number += 1
        return NumberedUpdate(self.number, index, self._random.randint(1, MAX_FACTOR), group)

    def _note(self, done: Future[Any], update: NumberedUpdate) -> None:
        if done.exception() is None:
            self._acknowledged.append(update)


def main() -> None:
    """Runs as the task that TF_CONFIG names; ends with an error if any update was refused."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--updates", type=int, required=True)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--life", type=int, required=True)
    parser.add_argument("--transport", required=True)
    options = parser.parse_args()
    with connect_impatiently(transport=options.transport, operation_timeout_s=OPERATION_TIMEOUT_S) as client:
        worker, life = client.task.index, options.life
        soaking = SoakWorker(
            soak_variables(client.cluster_spec.num_tasks("ps")),
            sent=UpdateLog(sent_path(options.directory, worker, life)),
            acknowledged=UpdateLog(acknowledged_path(options.directory, worker, life)),
            seed=f"{options.seed}-{worker}-{life}",
        )
        enough = options.directory / ENOUGH_FILE
        while soaking.number < options.updates or not enough.exists():
            pause_if_asked(options.directory, worker, soaking.finish)
            soaking.send_next(client)
        soaking.finish()
    sys.stdout.write(f"{soaking.number} updates, all acknowledged\n")


if __name__ == "__main__":
    main()
