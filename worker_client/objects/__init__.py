"""Barriers, queues and rounds of all workers: what happens to them, and waits. Imports connection and placement."""
