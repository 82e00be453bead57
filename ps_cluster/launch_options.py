"""What ``shardscope up`` is told to launch."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from ps_cluster.task_environment import task_environment
from ps_protocol.cluster_spec import BACKUP_JOB, PS_JOB, WORKER_JOB, TfConfig
from ps_protocol.task_id import TaskId
from worker_client.client import PS_GRACE_VARIABLE
from worker_client.transport.selection import ENVIRONMENT_VARIABLE, transport_choice


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """What to launch.

    Attributes:
        num_ps: Number of ps tasks.
        num_workers: Number of workers.
        command: Program and arguments of every worker.
        replicas: Further processes of each ps task, 0 or 1. With 1, a process that dies is started again, and becomes
            the backup of the other one.
        ps_arguments: More arguments for every ps.
        log_dir: Where each task's output is kept in a file of its own, if anywhere.
        show_table: Whether to show the table of tasks, or a summary at intervals if there is no terminal.
        fail_fast: Whether the first worker that fails ends the others.
        transport: How the workers' batches reach the ps tasks, as in ``worker_client.connect``; None leaves it to the
            environment.
        durability: What the ps tasks keep beyond their processes: "none", "snapshot" or "journal". With the last one, a
            ps that dies is started again.
        data_dir: Where they keep it; without, in a directory that is removed at the end.
        ps_grace_s: How long the workers wait for a ps that has died; None leaves it to the environment.
    """

    num_ps: int
    num_workers: int
    command: tuple[str, ...]
    replicas: int = 0
    ps_arguments: tuple[str, ...] = ()
    log_dir: Path | None = None
    show_table: bool = True
    fail_fast: bool = False
    transport: str | None = None
    durability: str = "none"
    data_dir: Path | None = None
    ps_grace_s: float | None = None

    @property
    def tasks(self) -> list[TaskId]:
        """All tasks: ps, backups, workers."""
        return [
            *(TaskId(PS_JOB, index) for index in range(self.num_ps)),
            *(TaskId(BACKUP_JOB, index) for index in range(self.num_ps * self.replicas)),
            *(TaskId(WORKER_JOB, index) for index in range(self.num_workers)),
        ]

    @property
    def environment(self) -> dict[str, str]:
        """What the processes are told by it, on top of this one's own."""
        said = {
            ENVIRONMENT_VARIABLE: self.transport,
            PS_GRACE_VARIABLE: None if self.ps_grace_s is None else f"{self.ps_grace_s:g}",
        }
        return {name: value for name, value in said.items() if value is not None}

    def check(self) -> None:
        """Finds out what can be found out before anything is started.

        Raises:
            ValueError: There is nothing to launch, the command is no program that can be run, there is no such
                transport, or ps tasks of this kind can have no backups.
        """
        transport_choice(self.transport)
        if self.num_ps < 1 or self.num_workers < 1:
            raise ValueError("a launch needs at least one ps and one worker")
        if self.replicas and self.num_ps < 2:
            raise ValueError(
                "--replicas 1 needs --ps 2 or more: which process of a ps task is the primary is decided by another "
                "ps task's process"
            )
        if self.replicas and self.durability != "none":
            raise ValueError(
                f"--replicas 1 and --durability {self.durability} cannot be had together: the state is kept either in "
                f"two processes or on disk; leave one of both away"
            )
        if not self.command:
            raise ValueError("no command for the workers; give it after --, as in: -- python train.py")
        path = task_environment(TfConfig(), os.environ)["PATH"]
        if shutil.which(self.command[0], path=path) is None:
            raise ValueError(f"{self.command[0]!r}, the workers' command, is not a program that can be run")
