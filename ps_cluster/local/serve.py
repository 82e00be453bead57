"""Runs the ps of this process's own task, so that one script works for all tasks of a cluster."""

from __future__ import annotations

import threading
from typing import Any

from ps_protocol.cluster_spec import ClusterSpecLike, as_cluster_spec
from ps_server.process.options import parse_options
from ps_server.process.server import run


def serve(cluster_spec: ClusterSpecLike | str | None = None, task_index: int | None = None, **options: Any) -> None:
    """Runs the ps of this process's task until it is told to end: by SIGTERM, Ctrl-C or ``shardscope shutdown``.

    It is what ``shardscope ps`` does, in this very process, whose main thread must call it.

    Args:
        cluster_spec: The cluster, as ``connect`` takes it; without it, the environment's ``TF_CONFIG`` says.
        task_index: Which ps task this is; without it, what ``TF_CONFIG`` says, which must be a ps or a backup.
        **options: Those of ``shardscope ps``, as Python names them: ``port=0, durability="journal", data_dir="/data"``.

    Raises:
        ValueError: The cluster, the task or an option makes no sense, or TF_CONFIG says that this process is no ps.
        TypeError: There is no such option.
        RuntimeError: This is not the main thread, which alone is told of signals.
        SystemExit: The ps could not start, or did not end in good order; the log says why.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("serve() runs in the main thread of a process, since only that is told of signals")
    flag = None if cluster_spec is None else as_cluster_spec(cluster_spec).to_flag()
    exit_code = run(parse_options({"cluster_spec": flag, "task_index": task_index, **options}))
    if exit_code:
        raise SystemExit(exit_code)
