"""``python -m ps_server``: runs one ps task."""

from __future__ import annotations

import sys

from ps_protocol.early_signals import end_at_once_on_signals


def main() -> int:
    """Runs a ps task as the command line and the environment say; returns the exit code."""
    end_at_once_on_signals()
    # Not above: these take long to import, and whoever interrupts that needs no trace of it.
    from ps_protocol.errors import SettingError  # noqa: PLC0415
    from ps_protocol.unread_output import quiet_if_unread  # noqa: PLC0415
    from ps_protocol.word_wrap import wrap_for  # noqa: PLC0415
    from ps_server.process.options import parse_options  # noqa: PLC0415
    from ps_server.process.server import run  # noqa: PLC0415

    try:
        with quiet_if_unread():  # help
            options = parse_options(sys.argv[1:])
    except SettingError as error:
        sys.stderr.write(wrap_for(sys.stderr, f"ps_server: {error} (`shardscope ps --help` shows the options)\n"))
        return 2
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
