"""Launches, watches and operates clusters: the command, and ``LocalCluster``. Does not import ``shardscope``."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported when it is asked for, so that the command starts sooner
    from ps_cluster.local.local_cluster import LocalCluster
    from ps_cluster.local.ps_process import ClusterStartError
else:
    _HOMES = {"LocalCluster": "local_cluster", "ClusterStartError": "ps_process"}

    def __getattr__(name: str) -> object:
        if name in _HOMES:
            return getattr(importlib.import_module(f"ps_cluster.local.{_HOMES[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["ClusterStartError", "LocalCluster"]
