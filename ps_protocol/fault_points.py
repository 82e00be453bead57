"""Named places in the code where tests make things go wrong. Without a plan they do nothing.

A plan names places and what happens there: ``SHARDSCOPE_FAULTS="reply.send=drop@3; journal.commit=crash@5-5"``. Each
entry is ``place=action[:seconds][@first[-last]]``, counted in passes of this process through the place, from 1; without
a count every pass counts. What has fired is written to ``SHARDSCOPE_FAULT_LOG``, one JSON line each, so that a test can
check that its fault fired. The environment alone injects nothing: the process has to allow it, a ps by
``--allow-faults``, a program of a test by ``install_from_environment(is_allowed=True)``.

A delay and a crash may happen anywhere, a failure where the disk is written to. The places, and what else they can do:

    request.send            client   drop: a batch is not sent; cut: half of it is, and the connection ends. On sockets,
                                     where bytes follow each other: duplicate: its frame is sent twice; damage: with
                                     another header
    request.received        ps       drop: a batch is not looked at, and its connection ends; duplicate: it is carried
                                     out twice, and answered with what the second time gave
    batch.before_log        ps       a batch is applied in memory, but not in the log
    batch.after_log         ps       it is in the log, but the batch does not wait for that yet
    journal.before_commit   ps       its record is written, but not safe
    journal.after_commit    ps       its record is safe, but the batch does not know yet
    batch.before_reply      ps       it is safe, and is about to be answered
    reply.send              ps       drop: a reply is not sent, and the connection ends; cut: half of it is. On sockets
                                     duplicate and damage, as for a request
    journal.new_file, journal.file_made, journal.file_named, journal.set_aside, journal.drop,
    snapshot.before_rename, snapshot.after_rename, snapshot.before_drop
                            ps       a crash there leaves files that the next start has to make sense of
    replication.send        ps       drop: its stream to the backup ends before a record is sent
    replication.received    ps       a record has come to the backup. drop: it is not carried out, and the stream ends;
                                     duplicate: it is carried out twice
    replication.answered    ps       the backup has answered it, and carries it out next
    replication.applied     ps       it has carried it out. drop: the stream ends, so that it is not acknowledged unless
                                     it was answered before
    checkpoint.begun, checkpoint.held, checkpoint.imaged
                            ps       a save has left its mark; holds updates back, and has no image yet; and has one
    checkpoint.write        ps       some MiB of a part are about to be written
    checkpoint.part_written, checkpoint.before_publish, checkpoint.before_visible, checkpoint.visible,
    checkpoint.published    ps       a part of a checkpoint is written; all are; so is the manifest, in a folder that is
                                     not visible; the checkpoint is visible, but its name is not synced; it is
    checkpoint.removing     ps       an older checkpoint is not visible any more, but its files are there
    restore.read            ps       a restore is about to read a value
    restore.staged, restore.prepared, restore.before_switch, restore.staged_in_log, restore.switching, restore.switched,
    restore.before_finish   ps       a restore has read all; may switch; is about to; has what it will be in the log, if
                                     there is one; puts a value in its place, at a backup too; is what was saved; and is
                                     about to be known to be complete

``batch.*`` and ``journal.*`` are passed by tasks whose state survives their process; ``batch.*`` by the primary of a
replicated task too, where "in the log" means "on the way to the backup", and "safe" that the backup has it.
"""

from __future__ import annotations

import contextlib
import enum
import json
import logging
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ps_protocol.forks import new_lock

_LOG = logging.getLogger(__name__)
_ENTRY: Final = re.compile(r"([a-z_.]+)=([a-z]+)(?::(\d+(?:\.\d+)?))?(?:@(\d+)(?:-(\d+))?)?", re.ASCII)

PLAN_VARIABLE: Final = "SHARDSCOPE_FAULTS"
LOG_VARIABLE: Final = "SHARDSCOPE_FAULT_LOG"


class FaultAction(enum.StrEnum):
    """What happens. The place itself carries out the first four, since only it knows how."""

    DROP = "drop"
    DUPLICATE = "duplicate"
    CUT = "cut"
    DAMAGE = "damage"
    DELAY = "delay"
    CRASH = "crash"
    FAIL = "fail"


class InjectedFaultError(OSError):
    """What a place raises for ``FaultAction.FAIL``, and for what was lost or cut: an ``OSError``, like a real fault."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One entry of a plan.

    Attributes:
        place: Name of the fault point.
        action: What happens there.
        first: First pass that is hit, from 1.
        last: Last one.
        seconds: How long a delay is.
    """

    place: str
    action: FaultAction
    first: int = 1
    last: int = 2**63
    seconds: float = 0.0

    def is_due(self, place: str, number: int) -> bool:
        """Whether the fault hits this pass through this place."""
        return place == self.place and self.first <= number <= self.last


class FaultPlan:
    """Faults, and how often each place was passed. Thread-safe.

    Args:
        faults: What is to go wrong.
        log_path: Where to write what has fired; empty for nowhere.
    """

    def __init__(self, faults: tuple[Fault, ...], log_path: str = ""):
        self.faults = faults
        self._log_path = log_path
        self._lock = new_lock()  # guards: _passes, _fired
        self._passes: Counter[str] = Counter()
        self._fired: Counter[str] = Counter()

    def fired(self, place: str) -> int:
        """How often a fault was injected at a place."""
        with self._lock:
            return self._fired[place]

    def reached(self, place: str) -> FaultAction | None:
        """Counts a pass; carries out what is due, or returns it for the place to carry out."""
        with self._lock:
            self._passes[place] += 1
            number = self._passes[place]
            due = next((each for each in self.faults if each.is_due(place, number)), None)
            if due is None:
                return None
            self._fired[place] += 1
        self._write_down(due, number)
        match due.action:
            case FaultAction.DELAY:
                time.sleep(due.seconds)
            case FaultAction.CRASH:
                os.kill(os.getpid(), signal.SIGKILL)
            case FaultAction.FAIL:
                raise InjectedFaultError(f"a fault was injected at {place}")
            case _:
                return due.action
        return None

    def _write_down(self, fault: Fault, number: int) -> None:
        _LOG.warning("fault injected at %s: %s", fault.place, fault.action)
        if self._log_path:
            line = json.dumps({"pid": os.getpid(), "place": fault.place, "action": fault.action, "pass": number})
            with Path(self._log_path).open("a", encoding="utf-8") as log:
                log.write(line + "\n")


def parse_plan(text: str, log_path: str = "") -> FaultPlan:
    """Reads a plan as the environment gives it.

    Raises:
        ValueError: It is malformed.
    """
    faults = []
    for entry in filter(None, (each.strip() for each in text.split(";"))):
        match = _ENTRY.fullmatch(entry)
        if match is None or match[2] not in [str(action) for action in FaultAction]:
            actions = ", ".join(str(action) for action in FaultAction)
            raise ValueError(f"{entry!r} in {PLAN_VARIABLE} is not place=action[:seconds][@first[-last]] ({actions})")
        place, action, seconds, first, last = match.groups()
        passes = int(first or 1), int(last or first or 2**63)
        faults.append(Fault(place, FaultAction(action), *passes, float(seconds or 0)))
    return FaultPlan(tuple(faults), log_path)


_plan: FaultPlan | None = None


def fault_point(place: str) -> FaultAction | None:
    """Marks a place where a test may make something go wrong.

    Returns:
        What the place is to do wrong, or None: nearly always.

    Raises:
        InjectedFaultError: The plan says that the place fails.
    """
    return None if _plan is None else _plan.reached(place)


def times_received(place: str) -> int:
    """Marks a place where something has arrived. Returns how often to carry it out: 1, or 2 if the plan says so.

    Raises:
        InjectedFaultError: It was lost on its way.
    """
    match fault_point(place):
        case None:
            return 1
        case FaultAction.DUPLICATE:
            return 2
        case action:
            raise lost(place, action)


def lost(place: str, action: FaultAction) -> InjectedFaultError:
    """Returns (does not raise) the error for a caller that waits for what a test has lost or cut."""
    return InjectedFaultError(f"a fault was injected at {place}: {action}")


def install_from_environment(environ: Mapping[str, str] = os.environ, *, is_allowed: bool) -> None:
    """Takes the plan of this process from the environment, and logs a warning, since it is only for tests.

    A plan that is already in force stays, with its counts.

    Args:
        environ: The environment.
        is_allowed: Whether the process was started so that it may be made to fail; else the plan is ignored, which the
            log says.

    Raises:
        ValueError: The plan is malformed.
    """
    global _plan  # noqa: PLW0603 - one plan for the process, set once at its start
    text = environ.get(PLAN_VARIABLE, "")
    if not text or _plan is not None:
        return
    if not is_allowed:
        _LOG.warning("%s is ignored: this process was not started with leave to inject faults", PLAN_VARIABLE)
    else:
        _plan = parse_plan(text, environ.get(LOG_VARIABLE, ""))
        _LOG.warning("faults will be injected on purpose, as %s says: %s", PLAN_VARIABLE, text)


@contextlib.contextmanager
def installed(plan: FaultPlan) -> Iterator[FaultPlan]:
    """Keeps a plan in force inside the block, in all threads of this process; for tests."""
    global _plan  # noqa: PLW0603 - as above
    before, _plan = _plan, plan
    try:
        yield plan
    finally:
        _plan = before
