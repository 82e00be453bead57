"""What a ps process is told: command line first, then SHARDSCOPE_* variables, then TF_CONFIG."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NoReturn

from ps_protocol.cluster_spec import PS_JOB, ClusterSpec, TaskId, TfConfig
from ps_server.logs import LogFormat

_LEVELS: Final = ("debug", "info", "warning", "error")
_UNITS: Final = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.ASCII | re.IGNORECASE)
DEFAULT_STAGING_LIMIT_BYTES: Final = 4 * 1024**3
DEFAULT_MAX_CONCURRENT: Final = 64

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
        drain_timeout_s: Seconds that accepted batches are given when the process is told to end.
        max_concurrent: Calls that are carried out at the same time.
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
    drain_timeout_s: float = 10.0
    max_concurrent: int = DEFAULT_MAX_CONCURRENT
    log_level: str = "info"
    log_format: LogFormat = LogFormat.AUTO

    @property
    def task(self) -> str:
        return str(TaskId(PS_JOB, self.task_index))

    @property
    def advertised_host(self) -> str:
        """Host under which the other tasks know this one."""
        return self.cluster_spec.task_address(PS_JOB, self.task_index).rpartition(":")[0]


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
        task_index = _task_index(given.task_index, config.task)
        host, _, port = cluster_spec.task_address(PS_JOB, task_index).rpartition(":")
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
        drain_timeout_s=given.drain_timeout,
        max_concurrent=given.max_concurrent,
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
    if configured.job != PS_JOB:
        raise UsageError(
            f"TF_CONFIG says that this process is {configured}, but only a ps can run here. Set its task to "
            f'{{"type": "ps", "index": 0}}, or give --task-index.'
        )
    return configured.index


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


def _seed(text: str) -> int:
    if not re.fullmatch(r"-?\d{1,19}", text, re.ASCII) or not -(2**63) <= int(text) < 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 64 bits")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d{1,6}(\.\d+)?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, such as 10 or 0.5")
    return float(text)


def _size_bytes(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write bytes, or as in 512M or 4G")
    return int(Decimal(match[1]) * _UNITS[match[2].upper()])


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
