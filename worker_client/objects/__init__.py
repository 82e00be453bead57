"""Barriers and queues that all workers share: what happens to them, and waits for their answers. Imports connection."""
