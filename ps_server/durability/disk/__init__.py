"""Synced files, and the data directory with its lock. Must not import the journal or the snapshots."""
