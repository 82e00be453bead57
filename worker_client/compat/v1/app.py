"""``tf.app``: runs a program with its options read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from worker_client.compat.v1 import flags
from worker_client.values.left_out import getattr_of

__all__ = ["flags", "run"]


def run(main: Callable[[list[str]], Any] | None = None, argv: Sequence[str] | None = None) -> NoReturn:
    """Reads the options, calls ``main`` with the arguments that are none, and ends the program with what it returns.

    Args:
        main: That of the program's main module if not given.
        argv: The program's name and its arguments; ``sys.argv`` if not given.

    Raises:
        SystemExit: Always.
    """
    try:
        arguments = flags.FLAGS(list(sys.argv if argv is None else argv), known_only=True)
    except flags.Error as error:
        sys.exit(f"{error}")
    sys.exit((main or sys.modules["__main__"].main)(arguments))


__getattr__ = getattr_of("app")
