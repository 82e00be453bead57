"""How much of what a soak does, and how it is told."""

from __future__ import annotations

import argparse
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.etcd_process import NO_ETCD

ROOT: Final = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class SoakSettings:
    """How much of what.

    Attributes:
        seed: Decides everything but the timing.
        kills: How often a ps is killed.
        updates: How many updates the workers send at least, together.
        durability: Of the ps tasks.
        replicas: Backups of each, 0 or 1. With 1 the kills are of any process, and what is lost is made good by the
            other one of its task, or with a journal by its disk.
        restarts: How often a process of a pair is ended by SIGTERM and started again.
        stops: How often one is stopped for a while.
        rounds: How often several processes are killed, ended or stopped at once; after each the workers pause, and the
            sums are compared.
        coordinator: Where it is decided who is the primary: "files", or "etcd", which is troubled in rounds too.
        outages: How often all processes of all pairs are killed at once, and started in any order.
        num_ps: How many there are.
        num_workers: How many workers send.
        transport: How they send.
        worker_kills: How often a worker is killed; what it had sent is then in doubt.
        drop_every: A ps drops about one reply in so many; 0 for none.
        timeout_s: Bound on the whole run.
    """

    seed: int
    kills: int = 10
    updates: int = 20_000
    durability: str = "journal"
    replicas: int = 0
    restarts: int = 0
    stops: int = 0
    rounds: int = 0
    coordinator: str = "files"
    outages: int = 0
    num_ps: int = 3
    num_workers: int = 4
    transport: str = "auto"
    worker_kills: int = 0
    drop_every: int = 300
    timeout_s: float = 600.0


def parse_settings(arguments: list[str]) -> SoakSettings:
    """Reads the command line; without ``--seed`` draws one."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.soak", description="Kills ps tasks under load and compares the sums."
    )
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    parser.add_argument("--kills", type=int, help="10 if not given, without --rounds")
    parser.add_argument("--updates", type=int, default=20_000)
    parser.add_argument("--durability", choices=("none", "snapshot", "journal"))
    parser.add_argument("--replicas", type=int, choices=(0, 1), default=0, help="backups of each ps task")
    parser.add_argument("--restarts", type=int, default=0, help="how often a process of a pair is ended and started")
    parser.add_argument("--stops", type=int, default=0, help="how often a process of a pair is stopped for a while")
    parser.add_argument("--rounds", type=int, default=0, help="how often several processes are troubled at once")
    parser.add_argument("--coordinator", choices=("files", "etcd"), default="files", help="of ps tasks with backups")
    parser.add_argument("--outages", type=int, default=0, help="how often all processes of pairs are killed at once")
    parser.add_argument("--ps", dest="num_ps", type=int, default=3)
    parser.add_argument("--workers", dest="num_workers", type=int, default=4)
    parser.add_argument("--transport", default="auto")
    parser.add_argument("--kill-workers", dest="worker_kills", type=int, default=0, help="how often to kill one")
    parser.add_argument("--drop-every", type=int, default=300, help="replies, of which one is dropped; 0 for none")
    parser.add_argument("--timeout", dest="timeout_s", type=float, default=600.0, help="seconds for the whole run")
    given = parser.parse_args(arguments)
    given.durability = given.durability or ("none" if given.replicas else "journal")
    if given.kills is None:
        given.kills = 0 if given.rounds else 10
    settings = SoakSettings(**vars(given))
    if settings.kills and settings.durability != "journal" and not settings.replicas:
        parser.error(
            "acknowledged updates outlive SIGKILL with --durability journal or --replicas 1; or give --kills 0"
        )
    is_of_pairs = settings.restarts or settings.stops or settings.rounds or settings.coordinator != "files"
    if is_of_pairs and not settings.replicas:
        parser.error(
            "--restarts, --stops, --rounds and --coordinator are for ps tasks with backups; give --replicas 1 as well"
        )
    if settings.rounds and (settings.kills or settings.restarts or settings.stops or settings.worker_kills):
        parser.error("--rounds has kills, restarts and stops of its own; give no others")
    if settings.coordinator == "etcd" and shutil.which("etcd") is None:
        parser.error(NO_ETCD)
    if settings.outages and not (settings.replicas and settings.durability == "journal"):
        parser.error(
            "--outages are for ps tasks that keep their state on both disks; give --replicas 1 --durability journal"
        )
    return settings
