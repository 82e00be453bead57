"""The environment of a process that is a task of a cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ps_protocol.cluster_spec import TfConfig

# Each task is a process of its own, and they are the parallelism: with as many BLAS threads as there are cores in
# each of them, three workers on a small machine spend their time waiting for one another.
THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def task_environment(tf_config: TfConfig, base: Mapping[str, str]) -> dict[str, str]:
    """Makes the environment of one task.

    ``TF_CONFIG`` says which task it is. ``PATH`` starts with the directory of this interpreter, so that
    ``python`` is the one that has Shardscope, activated or not. Python's output is unbuffered, or it would come in
    bursts through a pipe. Numerical libraries use one thread each, unless ``base`` says otherwise.

    Args:
        tf_config: Cluster and task.
        base: What to start from, such as ``os.environ``.
    """
    interpreter_directory = str(Path(sys.executable).parent)
    path = base.get("PATH", os.defpath)
    return {
        **dict.fromkeys(THREAD_VARIABLES, "1"),
        "PYTHONUNBUFFERED": "1",
        **base,
        "PATH": f"{interpreter_directory}{os.pathsep}{path}" if path else interpreter_directory,
        "TF_CONFIG": tf_config.to_json(),
    }
