"""Replays programs and says how many do what is recorded.

    python -m tests.conformance TRACES.jsonl

Each line of the file is an object with "seed", "program", and "trace" or "result", as in
``reference/traces/scopes.jsonl`` and ``running.jsonl``. Prints what differs and then ``N of N programs``; the exit code
is 0 if all agree.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.conformance import replay


def main(arguments: list[str]) -> int:
    """Replays one file; returns the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m tests.conformance TRACES.jsonl\n")
        return 2
    records = replay.records(Path(arguments[0]))
    differences = [difference for record in records if (difference := replay.first_difference(record))]
    for difference in differences:
        sys.stdout.write(f"{difference}\n")
    sys.stdout.write(f"{len(records) - len(differences)} of {len(records)} programs\n")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
