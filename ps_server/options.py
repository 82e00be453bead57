"""What a ps process is told: command line first, then SHARDSCOPE_* variables, then TF_CONFIG."""

from __future__ import annotations

import argparse
import enum
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final, NoReturn

from ps_protocol.cluster_spec import BACKUP_JOB, PS_JOB, ClusterSpec, TaskId, TfConfig
from ps_protocol.service_types import DurabilityMode
from ps_protocol.task_id import check_address
from ps_server.leases import DEFAULT_LEASE_S
from ps_server.logs import LogFormat

_LEVELS: Final = ("debug", "info", "warning", "error")
_UNITS: Final = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.ASCII | re.IGNORECASE)
DEFAULT_STAGING_LIMIT_BYTES: Final = 4 * 1024**3
DEFAULT_SHARED_MEMORY_LIMIT_BYTES: Final = 4 * 1024**3
DEFAULT_MAX_CONCURRENT: Final = 64
DEFAULT_SNAPSHOT_INTERVAL_S: Final = 60.0


class OfferedTransport(enum.StrEnum):
    """Ways for batches that a ps offers."""

    GRPC = "grpc"
    SOCKET = "socket"
    SHM = "shm"


DEFAULT_TRANSPORTS: Final = frozenset(OfferedTransport)
_DURABILITY_MODES: Final = {mode.name.lower(): mode for mode in DurabilityMode}

_HOW_TO_SAY: Final = "--cluster 'ps=host:2222,host:2223;worker=host:2224' --task-index 0"


class UsageError(ValueError):
    """The options do not say what this process is to do; the message says what to change."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """All that a ps process is told.

    Attributes:
        cluster_spec: The cluster; has ps tasks.
        task_index: Which of them this is.
        host: Where to listen; IPv6 addresses in brackets.
        port: Where to listen; 0 for any free port.
        memory_limit_bytes: The most that values may take; 0 for no limit.
        staging_limit_bytes: The most that tensors on their way may take; 0 for no limit.
        job_seed: Seed from which initial values follow.
        advertise: "host" or "host:port" under which the other tasks are to reach this one; empty for the cluster's
            host and the port that is listened on.
        lease_s: Seconds for which it may be silent before the others take it for dead; 0 for ever.
        drain_timeout_s: Seconds that accepted batches are given when the process is told to end.
        max_concurrent: Calls that are carried out at the same time.
        transports: Ways for batches; gRPC always is one.
        socket_port: TCP port of the socket transport; 0 for any free one.
        shared_memory_limit_bytes: The most memory that is shared with clients on this host; 0 for none.
        is_backup: Whether this is the second process of a replicated ps task, at the address of the job "backup".
        durability: What of the state survives the process.
        data_dir: Where the state of this and other ps tasks is kept; None if it is not.
        snapshot_interval_s: Seconds between two snapshots, where they are taken at intervals.
        log_level: Lowest level that is logged.
        log_format: How log lines look.
    """

    cluster_spec: ClusterSpec
    task_index: int
    host: str
    port: int
    memory_limit_bytes: int = 0
    staging_limit_bytes: int = DEFAULT_STAGING_LIMIT_BYTES
    job_seed: int = 0
    advertise: str = ""
    lease_s: float = DEFAULT_LEASE_S
    drain_timeout_s: float = 10.0
    max_concurrent: int = DEFAULT_MAX_CONCURRENT
    transports: frozenset[OfferedTransport] = DEFAULT_TRANSPORTS
    socket_port: int = 0
    shared_memory_limit_bytes: int = DEFAULT_SHARED_MEMORY_LIMIT_BYTES
    is_backup: bool = False
    durability: DurabilityMode = DurabilityMode.NONE
    data_dir: Path | None = None
    snapshot_interval_s: float = DEFAULT_SNAPSHOT_INTERVAL_S
    log_level: str = "info"
    log_format: LogFormat = LogFormat.AUTO

    @property
    def task(self) -> str:
        return str(TaskId(PS_JOB, self.task_index))

    @property
    def place(self) -> str:
        """Name of the process: as ``task``, or "backup:0"."""
        return str(TaskId(BACKUP_JOB if self.is_backup else PS_JOB, self.task_index))

    @property
    def is_replicated(self) -> bool:
        """Whether the task has two processes."""
        return BACKUP_JOB in self.cluster_spec.jobs

    @property
    def advertised_host(self) -> str:
        """Host under which the other tasks know this one."""
        job = BACKUP_JOB if self.is_backup else PS_JOB
        spec_host = self.cluster_spec.task_address(job, self.task_index).rpartition(":")[0]
        return _host_and_port(self.advertise)[0] or spec_host

    def advertised_address(self, port: int) -> str:
        """Where the other tasks are to reach this one, as "host:port", given the port that it listens on."""
        return f"{self.advertised_host}:{_host_and_port(self.advertise)[1] or port}"


def parse_options(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> ServerOptions:
    """Reads the command line, completed by the environment.

    Raises:
        UsageError: Something is missing, malformed or contradictory; the message names it in one line.
        SystemExit: Help was asked for, and has been printed.
    """
    given = _parser(environ).parse_args(arguments)
    try:
        config = TfConfig.from_env(environ)
        cluster_spec = config.cluster if given.cluster is None else ClusterSpec.parse(given.cluster)
        cluster_spec.require_ps()
        is_backup = given.backup or (
            given.task_index is None and config.task is not None and config.task.job == BACKUP_JOB
        )
        task_index = _task_index(given.task_index, config.task)
        durability = _DURABILITY_MODES[given.durability]
        _check_replication(cluster_spec, is_backup, durability, given.lease)
        job = BACKUP_JOB if is_backup else PS_JOB
        host, _, port = cluster_spec.task_address(job, task_index).rpartition(":")
    except (TypeError, ValueError) as error:
        raise UsageError(_one_line(error)) from error
    return ServerOptions(
        cluster_spec=cluster_spec,
        task_index=task_index,
        host=host if given.bind is None else given.bind,
        port=int(port) if given.port is None else given.port,
        memory_limit_bytes=given.memory_limit,
        staging_limit_bytes=given.staging_limit,
        job_seed=given.job_seed,
        advertise=given.advertise,
        lease_s=given.lease,
        drain_timeout_s=given.drain_timeout,
        max_concurrent=given.max_concurrent,
        transports=given.transports,
        socket_port=given.socket_port,
        shared_memory_limit_bytes=given.shared_memory_limit,
        is_backup=is_backup,
        durability=durability,
        data_dir=_data_dir(given.data_dir, durability),
        snapshot_interval_s=given.snapshot_interval,
        log_level=given.log_level,
        log_format=LogFormat(given.log_format),
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(_one_line(message))


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m ps_server",
        description="Runs one ps task: a process that holds variables.",
        epilog="Each option may be given as an environment variable instead: --memory-limit as "
        "SHARDSCOPE_MEMORY_LIMIT. The cluster and the task may also come from TF_CONFIG.",
        allow_abbrev=False,
    )

    def add(flag: str, default: str | None, **settings: object) -> None:
        variable = "SHARDSCOPE_" + flag.removeprefix("--").replace("-", "_").upper()
        # argparse converts a default that is a string like an argument.
        parser.add_argument(flag, default=environ.get(variable) or default, **settings)  # type: ignore[arg-type]  # passed on as they are

    add("--cluster", None, metavar="SPEC", help=f"the cluster, as in {_HOW_TO_SAY}")
    add("--task-index", None, type=_whole_number, metavar="N", help="which ps task this is")
    parser.add_argument(
        "--backup",
        action="store_true",
        help="this is the second process of that ps task, at the address that the cluster has under backup=",
    )
    add("--port", None, type=_port, help="port to listen on instead of the cluster's; 0 for any free one")
    add("--bind", None, type=_bind_host, metavar="HOST", help="address to listen on (default: the cluster's host)")
    add("--memory-limit", "0", type=_size_bytes, metavar="SIZE", help="most bytes of values, as in 4G (default: none)")
    add(
        "--staging-limit",
        str(DEFAULT_STAGING_LIMIT_BYTES),
        type=_size_bytes,
        metavar="SIZE",
        help="most bytes of tensors on their way in or out (default: 4G)",
    )
    add("--job-seed", "0", type=_seed, metavar="N", help="seed of all initial values (default: %(default)s)")
    add(
        "--advertise",
        "",
        type=_advertised,
        metavar="HOST[:PORT]",
        help="where the other tasks are to find this one (default: the cluster's host, and the port listened on)",
    )
    add(
        "--lease",
        f"{DEFAULT_LEASE_S:g}",
        type=_seconds,
        metavar="SECONDS",
        help="silence after which the others take this task for dead; 0 for never (default: %(default)s)",
    )
    add(
        "--drain-timeout",
        "10",
        type=_seconds,
        metavar="SECONDS",
        help="time that accepted batches are given on SIGTERM (default: %(default)s)",
    )
    add(
        "--max-concurrent",
        str(DEFAULT_MAX_CONCURRENT),
        type=_positive_number,
        metavar="N",
        help="calls carried out at the same time (default: %(default)s)",
    )
    add(
        "--transports",
        ",".join(OfferedTransport),
        type=_transports,
        metavar="LIST",
        help="ways for batches to offer, of grpc, socket and shm; grpc always is (default: %(default)s)",
    )
    add(
        "--socket-port",
        "0",
        type=_port,
        metavar="PORT",
        help="TCP port of the socket transport; 0 for any free one (default: %(default)s)",
    )
    add(
        "--shared-memory-limit",
        str(DEFAULT_SHARED_MEMORY_LIMIT_BYTES),
        type=_size_bytes,
        metavar="SIZE",
        help="most memory to share with clients on this host, half of it with one; 0 for none (default: 4G)",
    )
    add(
        "--durability",
        "none",
        type=str.lower,
        choices=list(_DURABILITY_MODES),
        help="what survives the process: nothing, the last snapshot, or every update that was acknowledged "
        "(default: %(default)s)",
    )
    add(
        "--data-dir",
        None,
        type=_directory,
        metavar="DIR",
        help="where the state is kept; each ps task has a part of it",
    )
    add(
        "--snapshot-interval",
        f"{DEFAULT_SNAPSHOT_INTERVAL_S:g}",
        type=_interval,
        metavar="SECONDS",
        help="time between snapshots with --durability snapshot (default: %(default)s)",
    )
    add("--log-level", "info", type=str.lower, choices=_LEVELS, help="(default: %(default)s)")
    add(
        "--log-format",
        "auto",
        choices=[str(each) for each in LogFormat],
        help="auto is console on a terminal, else json (default: %(default)s)",
    )
    return parser


def _task_index(given: int | None, configured: TaskId | None) -> int:
    if given is not None:
        return given
    if configured is None:
        raise UsageError(f"Which ps task this process is was not said. Give it as in {_HOW_TO_SAY}, or set TF_CONFIG.")
    if configured.job not in (PS_JOB, BACKUP_JOB):
        raise UsageError(
            f"TF_CONFIG says that this process is {configured}, but only a ps can run here. Set its task to "
            f'{{"type": "ps", "index": 0}}, or give --task-index.'
        )
    return configured.index


def _check_replication(cluster_spec: ClusterSpec, is_backup: bool, durability: DurabilityMode, lease_s: float) -> None:
    if BACKUP_JOB not in cluster_spec.jobs:
        if is_backup:
            raise UsageError("--backup was given, but the cluster has no backups. Add them as in 'ps=...;backup=...'.")
        return
    num_ps = cluster_spec.num_tasks(PS_JOB)
    if cluster_spec.task_indices(BACKUP_JOB) != list(range(num_ps)):
        raise UsageError(f"The cluster has {num_ps} ps tasks, but not as many backups. Give each one, or none.")
    if num_ps < 2:
        raise UsageError(
            "A ps task with a backup needs a second ps task, whose process decides which of both is the primary. Give "
            "the cluster two ps tasks, or no backup."
        )
    if durability is not DurabilityMode.NONE:
        raise UsageError(
            "Backups and --durability cannot be had together: a replicated task keeps its state in two processes, and "
            "nothing on disk. Leave one of both away."
        )
    if not lease_s:
        raise UsageError("With --lease 0 no backup could ever take over. Give a lease in seconds.")


def _data_dir(given: Path | None, durability: DurabilityMode) -> Path | None:
    if durability is DurabilityMode.NONE:
        if given is not None:
            raise UsageError(
                f"--data-dir {given} was given, but with --durability none nothing is kept there. Give --durability "
                f"journal or snapshot, or leave --data-dir away."
            )
    elif given is None:
        raise UsageError(
            f"--durability {durability.name.lower()} needs a place for the state. Give it as in --data-dir /var/lib/ps."
        )
    return given


def _whole_number(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _positive_number(text: str) -> int:
    number = _whole_number(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return number


def _port(text: str) -> int:
    number = _whole_number(text)
    if number > 65535:
        raise argparse.ArgumentTypeError(f"{number} is not in 0..65535")
    return number


def _transports(text: str) -> frozenset[OfferedTransport]:
    names = [name.strip().lower() for name in text.split(",")]
    unknown = [name for name in names if name not in set(OfferedTransport)]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(OfferedTransport)}")
    chosen = {OfferedTransport(name) for name in names} | {OfferedTransport.GRPC}
    if OfferedTransport.SHM in chosen and OfferedTransport.SOCKET not in chosen:
        raise argparse.ArgumentTypeError("shm needs socket, over which the memory is shared")
    return frozenset(chosen)


def _seed(text: str) -> int:
    if not re.fullmatch(r"-?\d{1,19}", text, re.ASCII) or not -(2**63) <= int(text) < 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 64 bits")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d{1,6}(\.\d+)?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, such as 10 or 0.5")
    return float(text)


def _interval(text: str) -> float:
    seconds = _seconds(text)
    if not seconds:
        raise argparse.ArgumentTypeError("it must be longer than 0 seconds")
    return seconds


def _directory(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; give the path of a directory")
    return Path(text)


def _size_bytes(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write bytes, or as in 512M or 4G")
    return int(Decimal(match[1]) * _UNITS[match[2].upper()])


def _advertised(text: str) -> str:
    host, port = _host_and_port(text.strip())
    if host:
        try:
            check_address(f"{host}:{port or 1}", "this task")
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is no host, or host:port ({error})") from error
    return text.strip()


def _host_and_port(address: str) -> tuple[str, str]:
    """Divides "host", "host:port" or "[::1]:port"; what is missing is empty."""
    if address.endswith("]"):
        return address, ""
    host, colon, port = address.rpartition(":")
    return (host, port) if colon else (port, "")


def _bind_host(text: str) -> str:
    host = text.strip()
    if not host or re.search(r"[\s/]", host):
        raise argparse.ArgumentTypeError(f"{text!r} is not an address to listen on; write it as in 0.0.0.0 or ::")
    if ":" in host and not host.startswith("["):
        if host.count(":") == 1:
            raise argparse.ArgumentTypeError(f"{text!r} has a port; give that as --port")
        return f"[{host}]"
    return host


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
