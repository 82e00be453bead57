"""Contestants of this repository: Shardscope by each of its transports, and what the machine itself can do."""
