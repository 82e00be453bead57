"""The ``shardscope`` command; ``ps_cluster.cli.app`` is its command line."""

from ps_protocol.command_line.early_signals import end_at_once_on_signals


def main() -> None:
    """Runs the command; does not return."""
    end_at_once_on_signals()
    # Not above: it takes long to import, and whoever interrupts that needs no trace of it.
    from ps_cluster.cli.app import app  # noqa: PLC0415

    app()


if __name__ == "__main__":
    main()
