"""Launches, watches and operates clusters: the ``shardscope`` command, and ``LocalCluster``."""

from ps_cluster.local_cluster import LocalCluster
from ps_cluster.ps_process import ClusterStartError

__all__ = ["ClusterStartError", "LocalCluster"]
