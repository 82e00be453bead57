"""A process that counts in a coordination store: ``python -m tests.coordination_counter URL NAMESPACE TIMES``.

It prints a line for each increment that the store has acknowledged: the number that it wrote, and its revision.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Final

from ps_protocol.errors import UnavailableError
from ps_server.coordination.addresses import open_store
from ps_server.coordination.store import CoordinationStore, Entry

KEY: Final = "primary/ps:0"
TIMEOUT_S: Final = 30.0


def count(store: CoordinationStore, times: int) -> Iterator[Entry]:
    """Adds 1 so many times to the number that the key holds; gives what it wrote each time.

    A write of which the store does not say whether it was carried out is neither given nor counted.
    """
    done, known = 0, store.read(KEY, timeout_s=TIMEOUT_S)
    while done < times:
        number = int(known.value) if known else 0
        revision = known.revision if known else 0
        try:
            written, known = store.compare_and_set(KEY, b"%d" % (number + 1), revision=revision, timeout_s=TIMEOUT_S)
        except UnavailableError:
            known = store.read(KEY, timeout_s=TIMEOUT_S)
            continue
        if written:
            assert known is not None
            done += 1
            yield known


def start_counter(url: str, namespace: str, times: int) -> subprocess.Popen[str]:
    """Starts a process that counts; its standard output has what it wrote."""
    command = [sys.executable, "-m", "tests.coordination_counter", url, namespace, str(times)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def printed(output: str) -> dict[int, int]:
    """Returns the revision of each number that a process has printed; a line that was cut off does not count."""
    lines = [line.split() for line in output.splitlines(keepends=True) if line.endswith("\n")]
    return {int(number): int(revision) for number, revision in lines}


def main() -> None:
    url, namespace, times = sys.argv[1:]
    store = open_store(url, namespace=namespace)
    for entry in count(store, int(times)):
        sys.stdout.write(f"{entry.value.decode()} {entry.revision}\n")
        sys.stdout.flush()
    store.close()


if __name__ == "__main__":
    main()
