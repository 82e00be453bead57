"""What ``shardscope up`` launches."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ps_cluster.local.own_options import OF_UP, refuse_own_options
from ps_cluster.local.task_environment import task_environment
from ps_protocol.checkpoints.urls import absolute
from ps_protocol.cluster_spec import BACKUP_JOB, PS_JOB, WORKER_JOB, TfConfig
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.service_types import DURABILITY_MODES
from ps_protocol.settings import (
    ARGUMENT,
    DIRECTORY,
    DURATION,
    MODULE,
    SECONDS,
    TEXT,
    one_of,
    option,
    setting,
    switch,
    whole_number,
)
from ps_protocol.task_id import TaskId
from worker_client.transport.selection import ReadFrom, TransportChoice

SAVE_EVERY_S: Final = 60.0
KEEP: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchOptions:
    """What to launch; None leaves a setting to the tasks' own environment.

    Attributes:
        command: Program and arguments of every worker.
        replicas: With 1, a process that dies is started again, and becomes the backup of the other one.
        no_table: Whether to leave out the table of tasks, and the summary at intervals where there is no terminal.
    """

    command: tuple[str, ...]
    num_ps: int = option("--ps", whole_number(1), "1", "Number of ps tasks.")
    replicas: int = option(
        "--replicas",
        whole_number(0, 1),
        "0",
        "1 gives each ps a backup, which has every update and takes over when it dies.",
    )
    num_workers: int = option("--workers", whole_number(1), "1", "Number of workers.")
    min_workers: int | None = option(
        "--min-workers",
        whole_number(1),
        None,
        "So many have to be done, or at work: others that fail are let go, and are no failure.",
    )
    worker_restarts: int = option(
        "--worker-restarts", whole_number(0), "0", "How often a worker that fails is started again."
    )
    ps_arguments: tuple[str, ...] = option(
        "--ps-arg", ARGUMENT, None, "An argument for every ps; repeatable.", multiple=True, metavar="ARG"
    )
    log_dir: Path | None = option("--log-dir", DIRECTORY, None, "Also keep each task's output in a file here.")
    no_table: bool = switch("--no-table", "Show the tasks' output only.")
    fail_fast: bool = switch("--fail-fast", "End everything when a worker fails; else the others go on.")
    transport: TransportChoice | None = setting(
        "--transport",
        one_of(TransportChoice, "NAME"),
        None,
        "How batches travel: auto, grpc, socket, tcp, unix or shm.",
    )
    durability: str = option(
        "--durability",
        one_of(tuple(DURABILITY_MODES), "MODE"),
        "none",
        "What ps tasks keep: none, snapshot or journal; with journal, one that dies is started again.",
    )
    data_dir: Path | None = option("--data-dir", DIRECTORY, None, "Where they keep it; else it is removed at the end.")
    checkpoint: str | None = option(
        "--checkpoint",
        TEXT,
        None,
        "Go on from the newest checkpoint here, a folder or a URL as s3://BUCKET/NAME, and save here; --ps may change.",
        metavar="DIR",
    )
    save_every_s: float | None = option(
        "--save-every", DURATION, None, f"How often a checkpoint is saved ({SAVE_EVERY_S:.0f}s); once more at the end."
    )
    keep: int | None = option(
        "--keep", whole_number(0), None, f"How many checkpoints stay, the newest ({KEEP}); 0: all."
    )
    functions: str | None = option(
        "--functions", MODULE, None, "A Python module whose FUNCTIONS and REDUCTIONS clients may call by name."
    )
    read_from: ReadFrom | None = setting(
        "--read-from",
        one_of(ReadFrom, "NAME"),
        None,
        "Which processes of a ps with a backup workers read: primary or any.",
    )
    ps_grace_s: float | None = setting("--ps-grace", SECONDS, None, "How long workers wait for a ps that is away (60).")

    @property
    def tasks(self) -> list[TaskId]:
        """All tasks: ps, backups, workers."""
        return [
            *(TaskId(PS_JOB, index) for index in range(self.num_ps)),
            *(TaskId(BACKUP_JOB, index) for index in range(self.num_ps * self.replicas)),
            *(TaskId(WORKER_JOB, index) for index in range(self.num_workers)),
        ]

    @property
    def note(self) -> str:
        """What the user should know of options that have no effect; empty if all have one."""
        if self.read_from is ReadFrom.ANY and not self.replicas:
            return "--read-from any: there are no backups to read from; --replicas 1 gives each ps one"
        return ""

    def check(self) -> None:
        """Checks what can be checked before anything is started.

        Raises:
            ValueError: The command is no program that can be run, or options contradict each other.
        """
        if self.replicas and self.durability == "snapshot":
            raise ValueError(
                "--replicas 1 and --durability snapshot exclude each other: after a crash of both processes of a ps "
                "task, updates would be lost; give --durability journal, or leave one of them out"
            )
        if self.data_dir is not None and self.durability == "none":
            raise ValueError(
                f"--data-dir is {str(self.data_dir)!r}, but --durability none keeps nothing there; give --durability "
                f"journal as well"
            )
        if self.min_workers is not None and self.min_workers > self.num_workers:
            raise ValueError(
                f"--min-workers is {self.min_workers}, but --workers {self.num_workers} starts fewer; change one"
            )
        if self.min_workers is not None and self.fail_fast:
            raise ValueError(
                "--fail-fast ends everything when a worker fails, and --min-workers lets it go; give one of them"
            )
        refuse_own_options(self.ps_arguments, OF_UP, "--ps-arg")
        if self.checkpoint is not None:
            _check_place(self.checkpoint)
        if self.checkpoint is None and (self.save_every_s is not None or self.keep is not None):
            given = "--keep" if self.save_every_s is None else "--save-every"
            raise ValueError(f"{given} says how checkpoints are saved, but not where; give --checkpoint DIR as well")
        path = task_environment(TfConfig(), os.environ)["PATH"]
        if shutil.which(self.command[0], path=path) is None:
            raise ValueError(f"{self.command[0]!r}, the workers' command, is not a program that can be run")


def _check_place(checkpoint: str) -> None:
    """Refuses what can be neither a folder of checkpoints nor their URL, with a ValueError."""
    if not checkpoint.strip():
        raise ValueError(f"--checkpoint is {checkpoint!r}; it should be the path of a folder, or a URL, and is empty")
    try:
        absolute(checkpoint)
    except InvalidArgumentError as error:
        raise ValueError(f"--checkpoint: {error}") from None
