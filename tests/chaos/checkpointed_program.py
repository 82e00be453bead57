"""A program that trains, saves a checkpoint of its cluster after every step, and resumes from the newest one.

``python -m tests.chaos.checkpointed_program FOLDER`` prints where it has resumed, and writes what it has trained to
``FOLDER/result``. Its ps tasks are in this process, so that whoever ends it at a file event ends them too.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import worker_client as ss
from tests.unit.worker_client.checkpoints.small_clusters import Model, SmallCluster

STEPS: Final = 3


def main(folder: Path) -> None:
    with SmallCluster(2) as cluster:
        client = cluster.client()
        checkpoints = folder / "run"
        done = -1
        if ss.checkpoint.list(checkpoints):
            done = client.restore(checkpoints).step or 0
            sys.stdout.write(f"resumed from step {done}\n")
        model = Model(client)
        for step in range(done + 1, STEPS):
            model.train(step, 1)
            client.save(checkpoints, step=step)
        (folder / "result").write_bytes(b"".join([each.tobytes() for each in model.values()]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
