"""Launches, watches and operates clusters: the command, and ``LocalCluster``. Does not import ``shardscope``."""

from ps_cluster.local.local_cluster import LocalCluster
from ps_protocol.errors import ClusterStartError

__all__ = ["ClusterStartError", "LocalCluster"]
