"""``python -m ps_server``: runs one ps task."""

from __future__ import annotations

import sys

from ps_protocol.errors import SettingError
from ps_server.process.options import parse_options
from ps_server.process.server import run


def main() -> int:
    """Runs a ps task as the command line and the environment say; returns the exit code."""
    try:
        options = parse_options(sys.argv[1:])
    except SettingError as error:
        sys.stderr.write(f"ps_server: {error} (--help shows the options)\n")
        return 2
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
