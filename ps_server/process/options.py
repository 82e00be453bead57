"""The options of a ps process: from the command line, else SHARDSCOPE_* variables, else TF_CONFIG."""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ps_protocol.cluster_spec import BACKUP_JOB, PS_JOB, ClusterSpec, TaskId, TfConfig
from ps_protocol.codec.header_bounds import HeaderBounds
from ps_protocol.codec.limits import (
    MAX_MESSAGE_BYTES,
    MAX_OPERATIONS,
    MAX_TAKEN_BYTES,
)
from ps_protocol.errors import SettingError
from ps_protocol.grpc_edge.channel_options import ServerLimits
from ps_protocol.service_types import DURABILITY_MODES, DurabilityMode
from ps_protocol.settings import (
    DIRECTORY,
    LEASE,
    MODULE,
    PORT,
    POSITIVE_SECONDS,
    SECONDS,
    SIZE,
    TEXT,
    Kind,
    one_of,
    read,
    setting,
    settings_of,
    switch,
    whole_number,
)
from ps_protocol.task_id import check_address
from ps_server.batches.update_ledger import LedgerLimits
from ps_server.cluster.leases import DEFAULT_LEASE_S
from ps_server.coordination.addresses import check_coordinator, check_namespace
from ps_server.process.logs import LogFormat
from ps_server.transport.descriptors import DEFAULT_RESERVE
from ps_server.transport.sockets.listener import MAX_CONNECTIONS, SocketSettings
from ps_server.transport.sockets.newcomers import HANDSHAKE_TIMEOUT_S, MAX_NEWCOMERS
from ps_server.transport.sockets.slow_peers import MAX_SLOW, SLOWEST_BYTES_PER_S, STALL_TIMEOUT_S

DEFAULT_STAGING_LIMIT_BYTES: Final = 4 * 1024**3
DEFAULT_SHARED_MEMORY_LIMIT_BYTES: Final = 4 * 1024**3
DEFAULT_MAX_CONCURRENT: Final = 64
DEFAULT_CONTROL_THREADS: Final = 16
DEFAULT_MESSAGE_TIMEOUT_S: Final = 10.0

LEAST_PAIR_LEASE_S: Final = 1.0
"""Shortest lease of a task with a backup."""

_LEAST_MESSAGE_BYTES: Final = MAX_TAKEN_BYTES
_MOST_MESSAGE_BYTES: Final = 2 * MAX_MESSAGE_BYTES
_LEAST_HEADER_BYTES: Final = 64 * 1024
_LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_SEED: Final = whole_number(-(2**63), 2**63 - 1, expected="a whole number of 64 bits")
_HOW_TO_SAY: Final = "--cluster 'ps=host:2222,host:2223;worker=host:2224' --task-index 0"
_SOCKET_CHECKSUMS: Final = {"headers": False, "all": True}


class OfferedTransport(enum.StrEnum):
    """Ways for batches that a ps offers."""

    GRPC = "grpc"
    SOCKET = "socket"
    SHM = "shm"


DEFAULT_TRANSPORTS: Final = frozenset(OfferedTransport)


def _transports(text: str) -> frozenset[OfferedTransport]:
    names = [name.strip().lower() for name in text.split(",")]
    unknown = [name for name in names if name not in set(OfferedTransport)]
    if unknown:
        raise ValueError(f"a list of {', '.join(OfferedTransport)}; {unknown[0]!r} is none of them")
    chosen = {OfferedTransport(name) for name in names} | {OfferedTransport.GRPC}
    if OfferedTransport.SHM in chosen and OfferedTransport.SOCKET not in chosen:
        raise ValueError("a list with socket as well: shm needs socket, over which the memory is shared")
    return frozenset(chosen)


def _advertised(text: str) -> str:
    host, port = _host_and_port(text.strip())
    if host:
        try:
            check_address(f"{host}:{port or 1}", "this task")
        except ValueError as error:
            raise ValueError(f"a host, or host:port ({error})") from error
    return text.strip()


def _host_and_port(address: str) -> tuple[str, str]:
    """Divides "host", "host:port" or "[::1]:port"; what is missing is empty."""
    if address.endswith("]"):
        return address, ""
    host, colon, port = address.rpartition(":")
    return (host, port) if colon else (port, "")


def _header_size(text: str) -> int:
    size_bytes = int(str(SIZE.parse(text)))
    if not _LEAST_HEADER_BYTES <= size_bytes <= MAX_MESSAGE_BYTES:
        raise ValueError(f"a size from 64K to 64M, not {size_bytes} bytes")
    return size_bytes


def _message_size(text: str) -> int:
    size_bytes = int(str(SIZE.parse(text)))
    if not _LEAST_MESSAGE_BYTES <= size_bytes <= _MOST_MESSAGE_BYTES:
        raise ValueError(f"a size from 4M to 128M, not {size_bytes} bytes")
    return size_bytes


def _host(text: str) -> str:
    host = text.strip()
    if not host or re.search(r"[\s/]", host):
        raise ValueError("an address to listen on, as in 0.0.0.0 or ::")
    if ":" in host and not host.startswith("["):
        if host.count(":") == 1:
            raise ValueError("an address without its port, which --port is for")
        return f"[{host}]"
    return host


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """All options of a ps process.

    Attributes:
        cluster_spec: The cluster; has ps tasks.
        task_index: Which ps task this is.
        host: Where to listen; IPv6 addresses in brackets.
        port: Where to listen; 0 for any free port.
        memory_limit_bytes: 0 for no limit, as for the staging limit.
        second_limit_bytes: None for a part of the values.
        advertise: Empty for the cluster's host and the port that is listened on.
        functions: Name of the module with the functions that a team has written; empty for none.
        is_backup: Whether this is the second process of a replicated ps task, at the address of the job "backup".
    """

    cluster_spec: ClusterSpec = setting("--cluster", TEXT, None, f"the cluster, as in {_HOW_TO_SAY}", metavar="SPEC")
    task_index: int = setting("--task-index", whole_number(), None, "which ps task this is")
    is_backup: bool = switch(
        "--backup", "this is the second process of that ps task, at the address that the cluster has under backup="
    )
    port: int = setting("--port", PORT, None, "port to listen on instead of the cluster's; 0 for any free one")
    host: str = setting("--bind", Kind("HOST", _host), None, "address to listen on (default: the cluster's host)")
    memory_limit_bytes: int = setting("--memory-limit", SIZE, "0", "most bytes of values, as in 4G; 0 for no limit")
    second_limit_bytes: int | None = setting(
        "--copy-limit",
        SIZE,
        None,
        "most bytes of second values, of variables that are updated while a checkpoint that has to have their first is "
        "being written; beyond it updates wait (default: a sixteenth of the values)",
    )
    staging_limit_bytes: int = setting("--staging-limit", SIZE, "4G", "most bytes of tensors on their way in or out")
    job_seed: int = setting("--job-seed", _SEED, "0", "seed of all initial values")
    advertise: str = setting(
        "--advertise",
        Kind("HOST[:PORT]", _advertised),
        "",
        "where the other tasks are to find this one (default: the cluster's host, and the port listened on)",
    )
    coordinator: str | None = setting(
        "--coordinator",
        Kind("URL", check_coordinator),
        None,
        "where it is decided which process of a replicated ps task is the primary: file:///DIRECTORY on one machine, "
        "else etcd://HOST:PORT,...",
    )
    cluster_name: str = setting(
        "--cluster-name",
        Kind("NAME", check_namespace),
        "default",
        "name of this cluster among those that share a coordinator",
    )
    lease_s: float = setting(
        "--lease",
        LEASE,
        f"{DEFAULT_LEASE_S:g}",
        "silence after which the others take this task for dead; 0 for never",
    )
    drain_timeout_s: float = setting(
        "--drain-timeout", SECONDS, "10", "time that accepted batches are given on SIGTERM"
    )
    max_concurrent: int = setting(
        "--max-concurrent", whole_number(1), str(DEFAULT_MAX_CONCURRENT), "batches carried out at the same time"
    )
    control_threads: int = setting(
        "--control-threads",
        whole_number(1),
        str(DEFAULT_CONTROL_THREADS),
        "calls other than batches (hello, health, heartbeats) carried out at the same time",
    )
    max_clients: int = setting(
        "--max-clients",
        whole_number(1),
        str(LedgerLimits().clients),
        "clients that are known at a time; beyond it those that have sent no batch are forgotten first",
    )
    max_operations: int = setting(
        "--max-operations", whole_number(1), str(MAX_OPERATIONS), "most operations of one batch"
    )
    max_header_bytes: int = setting(
        "--max-header", Kind("SIZE", _header_size), "64M", "most bytes of the header of a batch, at most 64M"
    )
    max_message_bytes: int = setting(
        "--max-message",
        Kind("SIZE", _message_size),
        "4M",
        "most bytes of one message that is taken over gRPC, from 4M to 128M; clients send larger headers in parts",
    )
    message_timeout_s: float = setting(
        "--message-timeout",
        SECONDS,
        f"{DEFAULT_MESSAGE_TIMEOUT_S:g}",
        "time that a client may take over gRPC to send or to read a message; 0 for ever",
    )
    transports: frozenset[OfferedTransport] = setting(
        "--transports",
        Kind("LIST", _transports),
        ",".join(OfferedTransport),
        "ways for batches to offer, of grpc, socket and shm; grpc always is",
    )
    socket_port: int = setting("--socket-port", PORT, "0", "TCP port of the socket transport; 0 for any free one")
    checks_tensors: bool = setting(
        "--socket-checksums",
        one_of(_SOCKET_CHECKSUMS, "WHAT"),
        "headers",
        "what has a checksum on sockets: headers of frames, or all, tensors too",
    )
    max_connections: int = setting(
        "--max-connections",
        whole_number(1),
        str(MAX_CONNECTIONS),
        "connections of the socket transport that may be open; one more ends one that was never used, or is refused",
    )
    max_grpc_connections: int = setting(
        "--max-grpc-connections",
        whole_number(1),
        str(ServerLimits().connections),
        "connections over gRPC that may be open, at most half of the descriptors; further ones are ended at once",
    )
    idle_timeout_s: float = setting(
        "--idle-timeout",
        SECONDS,
        f"{ServerLimits().idle_timeout_s:g}",
        "time that a connection over gRPC stays open without a call; 0 for ever",
    )
    max_handshakes: int = setting(
        "--max-handshakes",
        whole_number(1),
        str(MAX_NEWCOMERS),
        "connections that may be open without having shown a ticket; one more ends the oldest",
    )
    handshake_timeout_s: float = setting(
        "--handshake-timeout",
        POSITIVE_SECONDS,
        f"{HANDSHAKE_TIMEOUT_S:g}",
        "longest that a new connection may take to show its ticket",
    )
    max_slow: int = setting(
        "--max-slow",
        whole_number(1),
        str(MAX_SLOW),
        "connections that may be slow in the middle of a message; one more ends the slowest",
    )
    stall_timeout_s: float = setting(
        "--stall-timeout",
        POSITIVE_SECONDS,
        f"{STALL_TIMEOUT_S:g}",
        "longest that a connection may pause in the middle of a message, or leave a reply unread",
    )
    slowest_rate: int = setting(
        "--slowest-rate", SIZE, str(SLOWEST_BYTES_PER_S), "bytes a second that a slow connection has to move, as in 1M"
    )
    descriptor_reserve: int = setting(
        "--descriptor-reserve",
        whole_number(),
        str(DEFAULT_RESERVE),
        "descriptors of the process that connections leave to the journal and the snapshots",
    )
    shared_memory_limit_bytes: int = setting(
        "--shared-memory-limit",
        SIZE,
        "4G",
        "most memory to share with clients on this host, half of it with one; 0 for none",
    )
    durability: DurabilityMode = setting(
        "--durability",
        one_of(DURABILITY_MODES, "MODE", ignore_case=True),
        "none",
        "what survives the process: none for nothing, snapshot for the last snapshot, journal for every update that "
        "was acknowledged",
    )
    data_dir: Path | None = setting(
        "--data-dir", DIRECTORY, None, "where the state is kept; each ps task has a part of it"
    )
    snapshot_interval_s: float = setting(
        "--snapshot-interval", POSITIVE_SECONDS, "60", "time between snapshots with --durability snapshot"
    )
    functions: str = setting(
        "--functions",
        MODULE,
        "",
        "a Python module whose FUNCTIONS and REDUCTIONS clients may call by name, from here or installed; the same one "
        "for every ps",
    )
    log_level: str = setting(
        "--log-level",
        one_of(_LOG_LEVELS, "LEVEL", ignore_case=True),
        "info",
        "lowest level that is logged: debug, info, warning or error",
    )
    log_format: LogFormat = setting(
        "--log-format",
        one_of(LogFormat, "FORMAT"),
        "auto",
        "console, json, or auto: console on a terminal, else json",
    )
    allow_faults: bool = switch("--allow-faults", "for tests: SHARDSCOPE_FAULTS may make this process fail")

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

    @property
    def socket_settings(self) -> SocketSettings:
        """How the socket transport is offered."""
        return SocketSettings(
            host=self.host,
            port=self.socket_port,
            max_threads=self.max_concurrent,
            max_connections=self.max_connections,
            max_newcomers=self.max_handshakes,
            max_slow=self.max_slow,
            stall_timeout_s=self.stall_timeout_s,
            slowest_bytes_per_s=max(1, self.slowest_rate),
            handshake_timeout_s=self.handshake_timeout_s,
            checks_tensors=self.checks_tensors,
            header_bounds=self.header_bounds,
        )

    @property
    def header_bounds(self) -> HeaderBounds:
        """What the header of a batch may be."""
        return HeaderBounds(self.max_operations, self.max_header_bytes)

    @property
    def server_limits(self) -> ServerLimits:
        """What the gRPC server takes."""
        return ServerLimits(
            self.max_message_bytes, self.max_grpc_connections, self.handshake_timeout_s, self.idle_timeout_s
        )

    def advertised_address(self, port: int) -> str:
        """Where the other tasks are to reach this one, as "host:port", given the port that it listens on."""
        return f"{self.advertised_host}:{_host_and_port(self.advertise)[1] or port}"


def parse_options(
    arguments: Sequence[str] | Mapping[str, object], environ: Mapping[str, str] = os.environ
) -> ServerOptions:
    """Reads the command line, or options by the names of their fields, completed by the environment.

    Raises:
        TypeError: There is no option of a name.
        SettingError: Something is missing, malformed or contradictory; the message names it in one line.
        SystemExit: Help was asked for, and has been printed.
    """
    if isinstance(arguments, Mapping):
        known = {str(each.name) for each in settings_of(ServerOptions)}
        unknown = sorted(arguments.keys() - known)
        if unknown:
            raise TypeError(f"a ps has no option {unknown[0]!r}; there are {', '.join(sorted(known))}")
    given = read(
        ServerOptions,
        arguments,
        environ=environ,
        program="shardscope ps",
        help="Runs one ps task: a process that holds variables.",
        epilog="Each option but --backup and --allow-faults may be given as an environment variable instead: "
        "--memory-limit as SHARDSCOPE_MEMORY_LIMIT. The cluster and the task may also come from TF_CONFIG.",
    )
    try:
        return ServerOptions(**given | _place(given, TfConfig.from_env(environ)))
    except (TypeError, ValueError) as error:
        raise SettingError(" ".join(str(error).split())) from None


def _place(given: Mapping[str, Any], config: TfConfig) -> dict[str, Any]:
    """Which task this is, and where it listens, as ``ServerOptions`` has it; checks what depends on that."""
    said: str | None = given["cluster_spec"]
    cluster_spec = config.cluster if said is None else ClusterSpec.parse(said)
    cluster_spec.require_ps()
    configured_job = config.task.job if config.task is not None and given["task_index"] is None else PS_JOB
    is_backup = given["is_backup"] or configured_job == BACKUP_JOB
    task_index = _task_index(given["task_index"], config.task)
    _check_replication(cluster_spec, is_backup, given["durability"], given["lease_s"], given["coordinator"])
    _check_data_dir(given["data_dir"], given["durability"])
    host, _, port = cluster_spec.task_address(BACKUP_JOB if is_backup else PS_JOB, task_index).rpartition(":")
    return {
        "cluster_spec": cluster_spec,
        "task_index": task_index,
        "is_backup": is_backup,
        "host": given["host"] or host,
        "port": int(port) if given["port"] is None else given["port"],
    }


def _task_index(given: int | None, configured: TaskId | None) -> int:
    if given is not None:
        return given
    if configured is None:
        raise SettingError(
            f"Which ps task this process is was not said. Give it as in {_HOW_TO_SAY}, or set TF_CONFIG."
        )
    if configured.job not in (PS_JOB, BACKUP_JOB):
        raise SettingError(
            f"TF_CONFIG says that this process is {configured}, but only a ps can run here. Set its task to "
            f'{{"type": "ps", "index": 0}}, or give --task-index.'
        )
    return configured.index


def _check_replication(
    cluster_spec: ClusterSpec, is_backup: bool, durability: DurabilityMode, lease_s: float, coordinator: str | None
) -> None:
    if BACKUP_JOB not in cluster_spec.jobs:
        if is_backup:
            raise SettingError(
                "--backup was given, but the cluster has no backups. Add them as in 'ps=...;backup=...'."
            )
        return
    num_ps = cluster_spec.num_tasks(PS_JOB)
    if cluster_spec.task_indices(BACKUP_JOB) != list(range(num_ps)):
        raise SettingError(f"The cluster has {num_ps} ps tasks, but not as many backups. Give each one, or none.")
    if not coordinator:
        raise SettingError(
            "The cluster has backups, and nothing decides which process of a ps task is the primary. Give "
            "--coordinator file:///DIRECTORY if all processes are on one machine, else etcd://HOST:PORT,... of an etcd "
            "cluster."
        )
    if durability is DurabilityMode.SNAPSHOT:
        raise SettingError(
            "Backups and --durability snapshot cannot be had together: after a crash of both processes, updates would "
            "be lost that were acknowledged. Give --durability journal, or leave one of both away."
        )
    if not lease_s:
        raise SettingError("With --lease 0 no backup could ever take over. Give a lease in seconds.")
    if lease_s < LEAST_PAIR_LEASE_S:
        raise SettingError(
            f"--lease is {lease_s:g}; with backups it should be at least {LEAST_PAIR_LEASE_S:g}: a process that is "
            f"busy for that long would lose its place to the other one."
        )


def _check_data_dir(given: Path | None, durability: DurabilityMode) -> None:
    if durability is DurabilityMode.NONE:
        if given is not None:
            raise SettingError(
                f"--data-dir {given} was given, but with --durability none nothing is kept there. Give --durability "
                f"journal or snapshot, or leave --data-dir away."
            )
    elif given is None:
        raise SettingError(
            f"--durability {durability.name.lower()} needs a place for the state. Give it as in --data-dir /var/lib/ps."
        )
