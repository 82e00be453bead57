"""``tf.app``: runs a program with its options read, by Abseil."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from worker_client.compat.v1 import flags
from worker_client.values.left_out import getattr_of

__all__ = ["flags", "run"]


def run(main: Callable[[list[str]], Any] | None = None, argv: Sequence[str] | None = None) -> None:
    """Reads the options, calls ``main`` with what is none, and ends the program with what it returns.

    Options that nobody has defined are left to ``main``. ``--help`` shows those that there are.

    Args:
        main: That of the program's main module if not given.
        argv: The program's name and its arguments; ``sys.argv`` if not given.

    Raises:
        SystemExit: Always.
    """

    def parsed(arguments: Sequence[str]) -> list[str]:
        rest: list[str] = flags.FLAGS(list(arguments), known_only=True)
        return rest

    library = importlib.import_module("absl.app")
    library.run(main or sys.modules["__main__"].main, argv=argv, flags_parser=parsed)


__getattr__ = getattr_of("app")
