"""Launches, watches and operates clusters: the command, and ``LocalCluster``. Does not import ``shardscope``."""

import importlib

TYPE_CHECKING = False  # without importing `typing`, during which the command shows where it was interrupted

if TYPE_CHECKING:  # imported when it is asked for, so that the command starts sooner
    from ps_cluster.local.local_cluster import LocalCluster
    from ps_protocol.errors import ClusterStartError
else:

    def __getattr__(name: str) -> object:
        if name == "ClusterStartError":
            return importlib.import_module("ps_protocol.errors").ClusterStartError
        if name == "LocalCluster":
            return importlib.import_module("ps_cluster.local.local_cluster").LocalCluster
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["ClusterStartError", "LocalCluster"]
