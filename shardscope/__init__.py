"""Variables with TensorFlow 1's scopes on a cluster of ps tasks, with NumPy values; use it as ``ss``.

    import shardscope as ss

    with ss.connect() as client, ss.variable_scope("layer"):
        weights = ss.get_variable("weights", [784, 10])
        weights.assign_add(0.1 * gradient(weights.read_value()))

The names here are those of ``worker_client``, and ``LocalCluster``, ``serve`` and ``__version__``. They, and those of
``worker_client.compat.v1``, are the public API. Other modules have names without underscores, but are not part of it:
any release may change them.
"""

import importlib
import sys

from ps_protocol.command_line.early_signals import end_at_once_on_signals

if sys.argv[:1] == ["-m"] and sys.orig_argv[1:3] == ["-m", __name__]:  # `python -m shardscope` imports this first
    end_at_once_on_signals()

from typing import TYPE_CHECKING

import worker_client

if TYPE_CHECKING:  # optimizers, and what starts processes, are imported when they are asked for
    from ps_cluster import LocalCluster
    from ps_cluster.local.serve import serve
    from worker_client import *
    from worker_client import jax as jax  # which a star leaves out
    from worker_client import numpy as numpy
    from worker_client import sklearn as sklearn
    from worker_client import torch as torch

    __version__: str
else:
    globals().update({name: each for name, each in vars(worker_client).items() if name in worker_client.__all__})

    def __getattr__(name: str) -> object:
        if name in worker_client.__all__:
            return getattr(worker_client, name)
        if name in _LIBRARIES:
            return _adapter(name)
        if name == "LocalCluster":
            return importlib.import_module("ps_cluster").LocalCluster
        if name == "serve":  # which imports all of the ps
            return importlib.import_module("ps_cluster.local.serve").serve
        if name == "__version__":
            return importlib.import_module("importlib.metadata").version("shardscope")
        elsewhere = "" if name.startswith("_") else "; TensorFlow 1's other names are in worker_client.compat.v1"
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{elsewhere}")


# What is for models of other libraries: imported when it is asked for, and not by a star, since the library may be
# missing, and has a name of its own in a program.
_LIBRARIES = {"jax": "jax", "numpy": "numpy", "sklearn": "sklearn", "torch": "torch"}
"""The library that each needs, by our name."""


def _adapter(name: str) -> object:
    """Imports what is for models of another library; an ImportError says how to install that if it is missing."""
    library = _LIBRARIES[name]
    try:
        return importlib.import_module(f"worker_client.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != library:
            raise
        raise ImportError(
            f"ss.{name} needs {library}, which is not installed: pip install 'shardscope[{name}]'", name=library
        ) from error


__all__ = ["LocalCluster", "__version__", "serve"]
__all__ += worker_client.__all__


def __dir__() -> list[str]:
    return sorted([*__all__, *_LIBRARIES])
