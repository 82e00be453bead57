"""Eager training loops of many workers: a start and an end together, hooks, progress. Imports no graphs' sessions."""
