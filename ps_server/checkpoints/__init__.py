"""Writes a task's part of a checkpoint, and restores it. Must not import durability, replication or a transport."""
