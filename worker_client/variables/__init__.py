"""Eager variables, whole and partitioned: reads, updates, rows. Imports no deferred variables."""
