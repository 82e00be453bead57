"""The data that workers train on, and how they share it; use it as ``ss.data``."""

from worker_client.objects.shard import Shard
from worker_client.objects.shards import HeldShard, Shards, ShardsProgress

__all__ = ["HeldShard", "Shard", "Shards", "ShardsProgress"]
