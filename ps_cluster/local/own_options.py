"""The options of ps processes that whoever launches them sets for each: a user's own would contradict those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

_PLACES: Final = dict.fromkeys(
    ("--cluster", "--task-index", "--bind", "--port"), "leave it out: each ps gets its own address"
)

OF_UP: Final[Mapping[str, str]] = {
    **_PLACES,
    "--backup": "give --replicas 1, which starts a backup for each ps",
    "--coordinator": "leave it out: with --replicas 1 there is one, beside the state if --data-dir is given",
    **{flag: f"give {flag} to `shardscope up` itself" for flag in ("--durability", "--data-dir", "--functions")},
}
"""What to do instead of giving each of them to ``shardscope up`` by ``--ps-arg``."""

OF_LOCAL_CLUSTER: Final[Mapping[str, str]] = {
    **_PLACES,
    "--backup": "give replicas=1, which starts a backup for each ps",
    **{
        f"--{name.replace('_', '-')}": f"give {name}=... to LocalCluster itself"
        for name in ("coordinator", "durability", "data_dir", "functions")
    },
}
"""What to do instead of giving each of them to ``LocalCluster`` by ``ps_arguments``."""


def refuse_own_options(arguments: Sequence[str], instead: Mapping[str, str], source: str) -> None:
    """Makes sure that arguments for all ps processes contradict none that the launcher gives.

    Args:
        arguments: What the user has given.
        instead: What to do instead, by option.
        source: By what, for the error: "--ps-arg".

    Raises:
        ValueError: One is an option that the launcher sets.
    """
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag in instead:
            raise ValueError(f"{source} has {flag}, which is set for each ps anyway; {instead[flag]}")
