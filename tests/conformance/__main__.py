"""Replays what is recorded and says how much of it is done as recorded.

    python -m tests.conformance                # all that is in reference/traces, a line for each file
    python -m tests.conformance TRACES.jsonl   # one file, of yours or of reference/traces

A file has records of one kind: scope programs ("program" and "trace"), programs that run ("program" and "result"), or
optimizers ("optimizer" and "steps"). Other kinds are known by the names of their files in ``reference/traces``.
Prints what differs, and how many agree; the exit code is 0 if all do.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import worker_client.compat.v1 as tf
from tests.conformance import (
    replay,
    test_gradients,
    test_graphs,
    test_networks,
    test_operations,
    test_optimizer_rules,
    test_optimizers,
    test_tutorials,
)
from tests.conformance.reference import training_program

Record = dict[str, Any]


class Kind(NamedTuple):
    """Records that are compared in one way.

    Attributes:
        noun: What they are.
        check: Replays one; an AssertionError says what differs.
        id: What one is called.
    """

    noun: str
    check: Callable[[Record], object]
    id: Callable[[Record], str]


def _program_as_recorded(record: Record) -> None:
    difference = replay.first_difference(record)
    assert not difference, difference


def _optimizer_graph(record: Record) -> None:
    if "misuse" in record:
        test_optimizers.test_wrong_uses_are_refused_as_by_tensorflow(record)
    else:
        test_optimizers.test_graphs_are_those_of_tensorflow(record)


def _training_program(record: Record) -> None:
    test_networks.test_a_program_makes_what_tensorflows_makes(record)
    if record.get("gradients"):
        test_networks.test_gradients_are_tensorflows(record)


def _training_steps(record: Record) -> None:
    np.testing.assert_allclose(training_program.losses(tf), record["losses"], rtol=2e-5)


_SCOPES = Kind("programs", _program_as_recorded, lambda record: f"seed {record['seed']}")
_OPTIMIZERS = Kind("cases", test_optimizers.test_steps_are_those_of_tensorflow, test_optimizers.named)
_RULES = Kind("cases", test_optimizer_rules.test_rules_do_what_tensorflow_does, test_optimizer_rules.case_name)

FILES = {
    "scopes.jsonl": _SCOPES,
    "running.jsonl": _SCOPES,
    "graphs.jsonl": Kind("programs", test_graphs.test_a_program_makes_what_it_makes_in_tensorflow, test_graphs.program),
    "operations.json": Kind(
        "calls", test_operations.test_a_call_makes_what_tensorflows_makes, lambda record: str(record["call"])
    ),
    "gradients.json": Kind(
        "calls", test_gradients.test_gradients_are_those_of_tensorflow, lambda record: str(record["call"])
    ),
    "optimizers.json": _OPTIMIZERS,
    "odd_optimizers.json": _OPTIMIZERS,
    "more_optimizers.json": _RULES,
    "torch_optimizers.json": Kind(
        "cases", test_optimizer_rules.test_rules_do_what_torch_does, lambda record: str(record["rule"])
    ),
    "optimizer_graphs.json": Kind(
        "graphs", _optimizer_graph, lambda record: str(record.get("misuse") or (record["optimizer"], record["use"]))
    ),
    "networks.json": Kind("programs", _training_program, lambda record: str(record["program"])),
    "tutorials.json": Kind(
        "programs",
        test_tutorials.test_a_program_notes_what_it_notes_with_tensorflow,
        lambda record: str(record["program"]),
    ),
    "training_steps.json": Kind("program", _training_steps, lambda _: "training_program.py"),
}
"""What is recorded in reference/traces, in the order in which it is told."""


def kind_of(path: Path, records: list[Record]) -> Kind:
    """Returns how the records of a file are compared.

    Raises:
        ValueError: They are of no kind that can be told, and the file's name says nothing either.
    """
    if path.name in FILES:
        return FILES[path.name]
    first = records[0] if records else {}
    if "seed" in first:
        return _SCOPES
    if "optimizer" in first and "steps" in first:
        return _RULES if "dtype" in first else _OPTIMIZERS
    raise ValueError(f"{path} has records of no known kind; name it as the file of reference/traces that has such")


def differences(kind: Kind, records: list[Record]) -> list[str]:
    """Replays records; returns what differs, a line for each."""
    found = []
    for record in records:
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                kind.check(record)
        except Exception as error:  # noqa: BLE001 - a record that cannot be replayed is told, and the next one is
            what = " ".join(str(error).split()) or type(error).__name__
            found.append(f"{kind.id(record)}: {what}")
    return found


def _records(path: Path) -> list[Record]:
    if path.suffix == ".jsonl":
        return replay.records(path)
    records: list[Any] = json.loads(path.read_text(encoding="utf-8"))
    return [{"losses": records}] if isinstance(records[0], float) else records


def main(arguments: list[str]) -> int:
    """Replays one file, or all; returns the exit code."""
    if len(arguments) > 1 or any(each.startswith("-") for each in arguments):
        sys.stderr.write("usage: python -m tests.conformance [TRACES]\n")
        return 2
    exit_code = 0
    for path in map(Path, arguments) if arguments else map(replay.TRACES.joinpath, FILES):
        records = _records(path)
        try:
            kind = kind_of(path, records)
        except ValueError as error:
            sys.stderr.write(f"{error}\n")
            return 2
        different = differences(kind, records)
        for each in different:
            sys.stdout.write(f"{each}\n")
        name = "" if arguments else f"{path.stem.replace('_', ' '):20}"
        sys.stdout.write(f"{name}{len(records) - len(different)} of {len(records)} {kind.noun}\n")
        sys.stdout.flush()
        exit_code = exit_code or int(bool(different))
    return exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
