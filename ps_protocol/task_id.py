"""One task of a cluster: its name, and what an address of one must look like."""

from __future__ import annotations

import ipaddress
import operator
import re
from dataclasses import dataclass
from typing import SupportsIndex

from ps_protocol.interrupts import raise_interrupt

MAX_TASK_INDEX = 2**20 - 1
"""Highest index of a task; bounds the list that ``ClusterSpec.job_tasks`` makes of a job with gaps."""

_JOB = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*", re.ASCII)
_INDEX = re.compile(r"0|[1-9][0-9]{0,6}", re.ASCII)
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_HOST = re.compile(r"[^\s:/,;=@\[\]]+")
_ADDRESS_REMEDY = "Write it as 'host:2222', or '[::1]:2222' for an IPv6 address."


@dataclass(frozen=True, slots=True, order=True)
class TaskId:
    """One task of a cluster; ordered by job, then by index.

    Attributes:
        job: Name of the job, such as "ps" or "worker".
        index: Number of the task within the job, from 0.

    Raises:
        ValueError: The job is no name of a job, or the index is negative or above ``MAX_TASK_INDEX``.
        TypeError: The index is not an integer.
    """

    job: str
    index: int

    def __post_init__(self) -> None:
        check_job(self.job)
        object.__setattr__(self, "index", checked_index(self.index, self.job))

    def __str__(self) -> str:
        return f"{self.job}:{self.index}"

    @classmethod
    def parse(cls, text: str) -> TaskId:
        """Reads "ps:0".

        Raises:
            ValueError: It is not a job and an index with a colon between.
        """
        job, colon, index = text.rpartition(":")
        if not colon or not _JOB.fullmatch(job) or not _INDEX.fullmatch(index):
            raise ValueError(f"{text!r} is not a task; write the job and the index of the task, such as 'ps:0'.")
        return cls(job, int(index))


def check_job(job: object) -> str:
    """Returns ``job``; ValueError if it is not the name of a job."""
    if not isinstance(job, str) or not _JOB.fullmatch(job):
        raise ValueError(f"{job!r} is not the name of a job; use letters, digits, '_', '-' and '.', as in 'ps'.")
    return job


def checked_index(index: object, job: str) -> int:
    """Returns the index of a task of ``job`` as an int, also if given as a string of digits, as in JSON.

    Raises:
        TypeError: It is neither an integer nor a string.
        ValueError: It is negative, above ``MAX_TASK_INDEX``, or a string of something else than digits.
    """
    if isinstance(index, str):
        if not _INDEX.fullmatch(index):
            raise ValueError(f"The index of a task of {job!r} should be a whole number from 0, not {index!r}.")
        index = int(index)
    if isinstance(index, bool) or not isinstance(index, SupportsIndex):
        raise TypeError(f"The index of a task of {job!r} should be a whole number from 0, not {index!r}.")
    number = operator.index(index)
    if not 0 <= number <= MAX_TASK_INDEX:
        raise ValueError(f"The index {number} of a task of {job!r} is not in 0..{MAX_TASK_INDEX}.")
    return number


def check_address(address: object, task: str) -> str:
    """Returns the address of ``task``, "host:port", which is not looked up.

    Raises:
        TypeError: It is not a string.
        ValueError: It lacks host or port, the port is not in 1..65535, or an IPv6 host is not in brackets.
    """
    if not isinstance(address, str):
        raise TypeError(f"The address of {task} should be a string, not {address!r}. {_ADDRESS_REMEDY}")
    defect = _address_defect(*address.rpartition(":"))
    if defect:
        raise ValueError(f"The address {address!r} of {task} {defect}. {_ADDRESS_REMEDY}")
    return address


def _address_defect(host: str, colon: str, port: str) -> str:
    if not colon:
        return "has no port"
    if not host:
        return "has no host"
    if host.startswith("[") and host.endswith("]"):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError as error:
            raise_interrupt(error)
            return f"has brackets around what is no IPv6 address ({error})"
    elif ":" in host:
        return "has more than one colon; an IPv6 address needs brackets"
    elif not _HOST.fullmatch(host):
        return f"has the host {host!r}, which is no host name"
    if not _PORT.fullmatch(port) or int(port) > 65535:
        return f"has the port {port!r}, which is not in 1..65535"
    return ""
