"""Receives batches and hands them to the core. Must not import durability, replication or process."""
